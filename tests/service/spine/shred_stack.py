"""A stack on a Vault and an S3 server of its own, with two administrators.

All of it is backed up and restored, piece by piece. The primary is a folder, the backup a bucket.
"""

import json
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hvac.exceptions import InvalidPath

from gateway.settings.config import load
from gateway.wiring.core import Core, open_core
from keyservice.certs import issue
from keyservice.client.client import KeyServiceClient
from keyservice.client.shreds import ShredControl
from tests.servers.prepared import PreparedVault
from tests.servers.vault import SealableVault
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack, apart

T = TypeVar("T")
ADMINS = ("ada", "bob")
DOMAIN = "admins.sealgate.internal"
POLICY = """
[[rule]]
name = "gateway"
effect = "allow"
callers = ["dns:gateway.sealgate.internal"]
tenants = ["*"]
operations = [
  "create-tenant", "data-keys", "unwrap", "rewrap", "tenant-status", "execute-shred", "ledger", "rotate-kek"
]

[[rule]]
name = "administrators"
effect = "allow"
callers = ["dns:*.admins.sealgate.internal"]
tenants = ["*"]
operations = ["*"]
"""
BODY = b"what nobody reads again " * 4000


@dataclass
class Site:
    """A stack, its Vault, its bucket, two administrators, and a backup of everything."""

    home: Path
    vault: SealableVault
    prepared: PreparedVault
    bucket: Bucket
    stack: Stack
    token: str = ""
    tenants: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        return self.stack.home / "audit.ledger"

    @property
    def primary(self) -> Path:
        return self.stack.home / "primary"

    def places(self) -> dict[str, Sequence[Path]]:
        """Return what is backed up: Vault's storage, the catalog, the primary, and the S3 server."""
        server = self.bucket.server
        return {
            "vault": [self.vault_data],
            "catalog": [self.stack.home / "catalog.db"],
            "primary": [self.primary],
            "east": [path for path in (server.folder, server.attributes) if path.exists()],
        }

    @property
    def vault_data(self) -> Path:
        return self.vault.log.parent / "data"

    def backup(self, name: str) -> None:
        """Copy everything, at rest."""
        with self.at_rest():
            for place, paths in self.places().items():
                (self.home / name / place).mkdir(parents=True)
                for path in paths:
                    _copy(path, self.home / name / place / path.name)

    def restore(self, name: str, places: Sequence[str]) -> None:
        """Put copies in place of what is there."""
        for place in places:
            for path in self.places()[place]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                for beside in path.parent.glob(f"{path.name}-*"):
                    beside.unlink()
                _copy(self.home / name / place / path.name, path)

    def at_rest(self) -> "AtRest":
        return AtRest(self)

    def sealgate(self, *words: str, who: str = "") -> Any:
        """Run a command, as an administrator where one is named; return its JSON."""
        certs = self.stack.home / "admins"
        acting = (
            ["--certificate", str(certs / f"{who}.crt"), "--private-key", str(certs / f"{who}.key")]
            if who
            else []
        )
        return json.loads(self.stack.sealgate(*words, *acting, "--json"))

    def keys(self, *words: str, tenant: str, who: str = "") -> Any:
        """Run `sealgate keys shred` on a tenant, typing its id."""
        typed = ["--reason", "account closed", "--confirm", tenant]
        return self.sealgate("keys", "shred", *words, tenant, *typed, who=who)

    def asked(
        self,
        what: Callable[[ShredControl], Coroutine[Any, Any, T]],
        who: str = "",
        attempts: int = 4,
    ) -> T:
        """Ask the key service itself, as an administrator where one is named; quicker than a command."""

        async def ask() -> T:
            certs = self.stack.home / ("admins" if who else "certs")
            client = KeyServiceClient(
                self.stack.keys_url,
                ca_file=self.stack.home / "certs" / "ca.crt",
                certificate=certs / f"{who or 'gateway'}.crt",
                private_key=certs / f"{who or 'gateway'}.key",
                attempts=attempts,
                timeout=100,
                attempt_timeout=60,
            )
            async with client:
                return await what(client.shreds)

        return apart(ask)

    def in_ledger(self) -> set[str]:
        """Return the tenants whose end is in the shred ledger."""
        page = self.asked(
            lambda keys: keys.ledger()
        )  # there are not so many that it is the first only
        return {entry.tenant for entry in page.entries}

    def shred(self, tenant: str) -> None:
        """See to it that a tenant is dead."""
        if tenant not in self.in_ledger():
            self.asked(lambda keys: keys.order_shred(tenant, reason="closed"), "ada")
            self.asked(lambda keys: keys.approve_shred(tenant, reason="seen"), "bob")
        self.asked(lambda keys: keys.execute_shred(tenant, reason="now"), "bob")

    def worker(self, what: Callable[[Core], Awaitable[T]]) -> T:
        """Do one duty now, as a worker would; quicker than a process."""
        settings = load(self.stack.home / "gateway.toml", environment=False)

        async def work() -> T:
            async with open_core(settings) as wired:
                return await what(wired)

        return apart(work)

    def files(self, tenant: str) -> list[Path]:
        """Return every object of a tenant, in both targets."""
        folders = [place / "t" / tenant for place in (self.primary, self.bucket.folder)]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def wrapped(self, tenant: str) -> list[str]:
        """Return every wrapped KEK that Vault still holds of a tenant, in any version.

        A key service that replays its ledger may destroy a version between the list and the read.
        """
        found: list[str] = []
        with self.vault.client() as client:
            kv, mount, path = (
                client.secrets.kv.v2,
                self.prepared.setup.kv_mount,
                f"tenants/{tenant}",
            )
            about = kv.read_secret_metadata(path, mount_point=mount)["data"]["versions"]
            for version, state in about.items():
                if state["destroyed"]:
                    continue
                try:
                    read = kv.read_secret_version(
                        path, version=int(version), mount_point=mount, raise_on_deleted_version=True
                    )
                except InvalidPath as error:
                    if error.json["data"]["metadata"]["destroyed"]:
                        continue
                    raise
                found += [kek["wrapped"] for kek in read["data"]["data"]["keks"] if kek["wrapped"]]
        return found

    def roots(self, tenant: str) -> list[str]:
        """Return the transit keys of a tenant's own."""
        with self.vault.client() as client:
            mount = self.prepared.setup.transit_mount
            names: list[str] = client.secrets.transit.list_keys(mount_point=mount)["data"]["keys"]
        return [name for name in names if tenant in name]


@dataclass
class AtRest:
    """Stops everything for the length of a block, and starts it again."""

    site: Site

    def __enter__(self) -> None:
        self.site.stack.stop()
        self.site.bucket.server.stop()
        self.site.vault.stop()

    def __exit__(self, *_: object) -> None:
        self.site.bucket.server.start()
        self.site.vault.start()
        self.site.vault.open()
        self.site.stack.keys.start()
        self.site.stack.gateway.start()


def _copy(source: Path, copy: Path) -> None:
    """Copy a file, or a folder with the extended attributes of all that is in it."""
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)


def admit_admins(home: Path) -> None:
    """Give each administrator a certificate, and let the key service know who may do what."""
    (home / "policy.toml").write_text(POLICY)
    admins = home / "admins"
    admins.mkdir()
    authority = home / "certs" / "ca.crt"
    for name in ADMINS:
        folder = home / f"ca-{name}"
        issue(
            folder,
            server_names=["localhost"],
            gateway_name=f"{name}.{DOMAIN}",
            days=1,
        )
        for end in ("crt", "key"):
            shutil.copy(folder / f"gateway.{end}", admins / f"{name}.{end}")
        authority.write_text(authority.read_text() + (folder / "ca.crt").read_text())


def answers(site: Site, tenant: str) -> set[int]:
    """Return every status that the routes of a tenant's attachments answer."""
    one = f"/v1/tenants/{tenant}/attachments/a"
    asked = [
        ("GET", one),
        ("HEAD", one),
        ("PUT", one),
        ("DELETE", one),
        ("GET", f"{one}/versions"),
        ("GET", f"/v1/tenants/{tenant}/attachments"),
        ("GET", f"/v1/tenants/{tenant}/attachments?names=false"),
        ("POST", f"/v1/tenants/{tenant}/attachments"),
        ("GET", f"/v1/tenants/{tenant}/trash"),
    ]

    async def ask() -> set[int]:
        found = set()
        async with Client(site.stack.url, site.token) as client:
            for method, path in asked:
                data = BODY if method in {"PUT", "POST"} else None
                async with client.request(method, path, data=data) as answer:
                    found.add(answer.status)
        return found

    return apart(ask)


def store(site: Site, tier: str) -> str:
    """Make a tenant with two attachments."""

    async def make() -> str:
        async with Client(site.stack.url, site.token) as client:
            tenant = await client.create_tenant(tier)
            for name in ("a", "b"):
                await client.json("PUT", f"/v1/tenants/{tenant}/attachments/{name}", data=BODY)
        return tenant

    return apart(make)
