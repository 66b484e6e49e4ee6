"""A tenant is shredded, and Vault, catalog and buckets come back from before: it stays dead.

Also where the ledger's file is lost, and where the key service is killed while it destroys. One stack on a
Vault of its own, whose storage is copied as a backup would be.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from envelope.signature import SignatureRefused, new_signer, verify
from keyservice.certs import issue
from keyservice.client import KeyServiceClient
from keyservice.errors import Denied, KeyServiceError, WrongState
from keyservice.shred_control import ShredControl
from tests.conftest import _program
from tests.servers import binary
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import SealableVault
from tests.stack.client import Client
from tests.stack.stack import Stack, apart

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
    """A stack, its Vault, two administrators, and a backup of everything."""

    home: Path
    vault: SealableVault
    prepared: PreparedVault
    stack: Stack
    token: str = ""
    tenants: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        return self.stack.home / "audit.ledger"

    def places(self) -> dict[str, Path]:
        """Return what is backed up: Vault's storage, the catalog, and the folders of both targets."""
        stack = self.stack.home
        return {
            "vault": self.vault_data,
            "catalog": stack / "catalog.db",
            "primary": stack / "primary",
            "east": stack / "east",
        }

    @property
    def vault_data(self) -> Path:
        return self.vault.log.parent / "data"

    def backup(self, name: str) -> None:
        """Copy everything, at rest."""
        with self.at_rest():
            for place, path in self.places().items():
                copy = self.home / name / place
                copy.parent.mkdir(exist_ok=True)
                _copy(path, copy)

    def restore(self, name: str, places: Sequence[str]) -> None:
        """Put copies in place of what is there."""
        for place in places:
            path = self.places()[place]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            for beside in path.parent.glob(f"{path.name}-*"):
                beside.unlink()
            _copy(self.home / name / place, path)

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

    def asked(self, what: Callable[[ShredControl], Coroutine[Any, Any, T]], who: str = "") -> T:
        """Ask the key service itself, as an administrator where one is named; quicker than a command."""

        async def ask() -> T:
            certs = self.stack.home / ("admins" if who else "certs")
            client = KeyServiceClient(
                self.stack.keys_url,
                ca_file=self.stack.home / "certs" / "ca.crt",
                certificate=certs / f"{who or 'gateway'}.crt",
                private_key=certs / f"{who or 'gateway'}.key",
                attempts=1,
            )
            async with client:
                return await what(client.shreds)

        return apart(ask)

    def worker(self, kind: str) -> Any:
        """Do one duty now."""
        return self.sealgate("worker", "--once", "--kind", kind)

    def files(self, tenant: str) -> list[Path]:
        """Return every object of a tenant, in both targets."""
        folders = [self.stack.home / name / "t" / tenant for name in ("primary", "east")]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def wrapped(self, tenant: str) -> list[str]:
        """Return every wrapped KEK that Vault still holds of a tenant, in any version."""
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
                read = kv.read_secret_version(
                    path, version=int(version), mount_point=mount, raise_on_deleted_version=True
                )
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
        self.site.vault.stop()

    def __exit__(self, *_: object) -> None:
        self.site.vault.start()
        self.site.vault.open()
        self.site.stack.keys.start()
        self.site.stack.gateway.start()


def _copy(source: Path, copy: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)


@pytest.fixture(scope="module")
def site(one_vault: SealableVault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run it; a module shares it, and its tests go on from one another."""
    vault = one_vault
    home = tmp_path_factory.mktemp("shredded")
    prepared = prepare(vault, home)
    stack = Stack(
        home / "stack",
        targets={name: home / "stack" / name for name in ("primary", "east")},
        catalog=f"sqlite:///{home}/stack/catalog.db",
        vault=prepared,
        extra={"shred": {"every": 3600.0, "ledger_every": 3600.0}, "worker": {"lease": 5.0}},
    )
    _admit_admins(stack.home)
    stack.start()
    site = Site(home, vault, prepared, stack, stack.admin_token())
    yield site
    stack.stop()


@pytest.fixture(scope="module")
def one_vault(server_home: Callable[[str], Path]) -> Iterator[SealableVault]:
    """Run a Vault on disk, to be restored from copies of it."""
    server = SealableVault(_program(binary.VAULT), server_home("shredding"))
    server.start()
    server.open()
    yield server
    server.stop()


def _admit_admins(home: Path) -> None:
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


def test_from_an_order_to_a_receipt(site: Site, tmp_path: Path) -> None:
    for name, tier in (("acme", "business"), ("plain", "standard"), ("other", "business")):
        site.tenants[name] = store(site, tier)
    site.backup("before")
    acme = site.tenants["acme"]
    ordered = site.keys("order", tenant=acme, who="ada")
    assert (ordered["state"], ordered["ordered_by"]) == ("shredding", f"dns:ada.{DOMAIN}")
    assert answers(site, acme) == {403}
    undone = site.asked(lambda keys: keys.undo_shred(acme, reason="test"), "bob")
    assert (undone.state, undone.order) == ("active", None)
    site.asked(lambda keys: keys.order_shred(acme, reason="test"), "ada")
    with pytest.raises(WrongState, match="second administrator's approval"):
        site.asked(lambda keys: keys.execute_shred(acme, reason="test"), "ada")
    with pytest.raises(Denied, match="for a second administrator"):
        site.asked(lambda keys: keys.approve_shred(acme, reason="test"), "ada")
    with pytest.raises(Denied, match="policy"):  # to a gateway, which carries out what is due
        site.asked(lambda keys: keys.approve_shred(acme, reason="test"))
    with pytest.raises(Denied, match="policy"):
        site.asked(lambda keys: keys.undo_shred(acme, reason="test"))
    approved = site.keys("approve", tenant=acme, who="bob")
    assert approved["approved_by"] == f"dns:bob.{DOMAIN}"
    (turn,) = site.worker("shred")["runs"]
    assert turn["outcome"] == {"due": 1, "done": 1, "waiting": 0}
    assert answers(site, acme) == {410}
    assert (site.wrapped(acme), site.roots(acme)) == ([], [])
    file = tmp_path / "acme.receipt.json"
    signed = site.sealgate("keys", "shred", "receipt", acme, "--receipt", str(file))
    public = site.asked(lambda keys: keys.ledger()).public
    assert verify(file.read_bytes(), public) == signed["report"]
    assert signed["report"]["tenant"] == acme
    with pytest.raises(SignatureRefused):
        verify(file.read_bytes(), new_signer().public)
    site.worker("purge")
    assert site.files(acme) == []
    assert len(site.files(site.tenants["other"])) == 8


def test_killed_in_its_middle_it_is_finished_by_a_repetition(site: Site) -> None:
    """Killed at another moment of each destruction, the key service finishes all of them."""
    tenants = [site.tenants["plain"], *(store(site, "business") for _ in range(2))]
    for number, tenant in enumerate(tenants):
        site.asked(lambda keys, t=tenant: keys.order_shred(t, reason="closed"), "ada")  # type: ignore[misc]
        site.asked(lambda keys, t=tenant: keys.approve_shred(t, reason="seen"), "bob")  # type: ignore[misc]
        kill(site, tenant, number * 0.015)
        signed = site.asked(lambda keys, t=tenant: keys.execute_shred(t, reason="again"), "bob")  # type: ignore[misc]
        assert (site.wrapped(tenant), site.roots(tenant)) == ([], [])
        assert signed == site.asked(lambda keys, t=tenant: keys.shred_receipt(t))  # type: ignore[misc]
        assert signed.receipt["approved_by"] == f"dns:bob.{DOMAIN}"
    assert answers(site, tenants[-1]) == {410}
    whole = site.sealgate("keys", "ledger", "verify")
    assert (whole["faults"], whole["refused"], whole["failed"]) == ([], 0, {})
    assert whole["entries"] == 1 + len(tenants)


def kill(site: Site, tenant: str, delay: float) -> None:
    """Kill the key service some time after it began to destroy a tenant's keys, and start it again."""
    before = site.ledger.stat().st_size

    def execute() -> None:
        with contextlib.suppress(KeyServiceError):
            site.asked(lambda keys: keys.execute_shred(tenant, reason="to be killed"), "bob")

    under_way = threading.Thread(target=execute)
    under_way.start()
    until = time.monotonic() + 30
    while site.ledger.stat().st_size == before and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(delay)
    site.stack.keys.kill()
    under_way.join()
    site.stack.keys.start()


def test_restored_from_before_it_stays_dead(site: Site) -> None:
    acme, other = site.tenants["acme"], site.tenants["other"]
    with site.at_rest():
        site.restore("before", ["vault", "catalog", "primary", "east"])
    assert len(site.files(acme)) == 8, "its objects are back"
    assert answers(site, acme) == {410}
    assert answers(site, other) >= {200, 201}
    assert gone(site, acme), "what came back in Vault is destroyed again"
    assert "shredded" in restored(site, acme)
    merged = site.sealgate("keys", "ledger", "verify")
    assert merged["buried"] == 2, "the catalog from before learns who is dead"
    assert merged["stored"] == 2 * merged["entries"], "and so do the buckets"
    site.worker("purge")
    assert site.files(acme) == []
    assert site.files(other) != []


def test_a_lost_ledger_comes_back_from_a_bucket_and_with_it_the_dead_die(site: Site) -> None:
    acme = site.tenants["acme"]
    with site.at_rest():
        site.restore("before", ["vault", "catalog"])
        site.ledger.unlink()
        shutil.rmtree(site.stack.home / "primary" / "ledger")
    assert site.wrapped(acme) != [], "without a ledger it lives again"
    merged = site.sealgate("keys", "ledger", "verify")
    assert (merged["taken"], merged["faults"], merged["buried"]) == (4, [], 2)
    assert merged["stored"] == 4, "the bucket that lost its copies has them again"
    assert answers(site, acme) == {410}
    assert gone(site, acme)


def gone(site: Site, tenant: str) -> bool:
    """Wait until Vault holds nothing that opens of a tenant."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not site.wrapped(tenant) and not site.roots(tenant):
            return True
        time.sleep(0.1)
    return False


def restored(site: Site, tenant: str) -> str:
    """Try to restore a tenant from its backup; return all that is said."""
    words = ["restore", "--tenant", tenant, "--from", "east", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env=site.stack.environment | {"SEALGATE_CONFIG": str(site.stack.home / "gateway.toml")},
        cwd=site.stack.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stdout + done.stderr
