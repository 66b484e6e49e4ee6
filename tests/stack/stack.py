"""The whole of Sealgate as processes: key service, gateway, and real servers behind them.

A `Stack` is what an operator would run, from configuration files, and can be killed and started
again piece by piece. Calls block: use `asyncio.to_thread` inside a coroutine.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from gateway.attachments.tokens import Tokens
from gateway.catalog import migrate, open_catalog
from gateway.model import Right
from keyservice.certs import GATEWAY_NAME, issue
from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.prepared import PreparedVault
from tests.servers.versitygw import Versitygw

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
POLICY = f"""
[[rule]]
name = "gateway"
effect = "allow"
callers = ["dns:{GATEWAY_NAME}"]
tenants = ["*"]
operations = ["*"]
"""


# On a busy machine a target, or Vault, may rest for seconds: without a fault none is given up.
PATIENT = {"backup_patience": 20.0, "first_byte": 30.0, "silence": 60.0}
PATIENT_WITH_CATALOG = 20.0
PATIENT_WITH_VAULT = {"timeout": 15.0, "deadline": 25.0}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket on an S3 server, as a target."""

    server: Versitygw
    name: str

    @property
    def folder(self) -> Path:
        """Where the server keeps the bucket's objects as files."""
        return self.server.bucket_folder(self.name)


@dataclass(slots=True)
class Stack:
    """One stack below `home`. `extra` adds gateway settings by section, `top` those above them.

    It is more patient with what it depends on than as shipped; a test of that sets its own in `extra`.

    `forget` is after how many seconds the key service forgets what it has of a tenant, where that is not as
    configured. Where the class is `watched`, as in tests, calls that would block an event loop are refused.
    """

    watched: ClassVar[bool] = False

    home: Path
    targets: Mapping[str, Bucket | Path]
    catalog: str
    vault: PreparedVault | None = None
    forget: float | None = None
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    keys: Daemon = field(init=False)
    gateway: Daemon = field(init=False)
    url: str = field(init=False)
    keys_url: str = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        certs = self.home / "certs"
        issue(certs, server_names=["localhost", LOOPBACK], gateway_name=GATEWAY_NAME, days=1)
        (self.home / "policy.toml").write_text(POLICY)
        ports = [free_port() for _ in range(3)]
        self.url = f"http://{LOOPBACK}:{ports[0]}"
        self.keys_url = f"https://{LOOPBACK}:{ports[1]}"
        self._write("keyservice.toml", self._keyservice(certs, ports[1], ports[2]))
        self._write("gateway.toml", self._gateway(certs, ports[0]))
        self.keys = self._daemon("keyservice", f"http://{LOOPBACK}:{ports[2]}/livez")
        self.gateway = self._daemon("gateway", f"{self.url}/livez")

    def start(self) -> None:
        """Migrate, then start both processes, which wait for each other."""
        apart(lambda: migrate(self.catalog))
        self.keys.launch()
        self.gateway.launch()
        self.keys.settle()
        self.gateway.settle()

    def stop(self) -> None:
        """Stop both, the gateway first. Neither may have tried to block its event loop."""
        self.gateway.stop()
        self.keys.stop()
        for daemon in (self.gateway, self.keys):
            with daemon.log.open(errors="replace") as lines:
                blocked = [line for line in lines if "BlockingError" in line]
            assert not blocked, blocked[0][:1000]

    def hold(self, section: Mapping[str, Any]) -> None:
        """Let a customer hold root keys from now on: add a section, and start the key service again."""
        lines = [f"{key} = {_inline(value)}" for key, value in section.items()]
        with (self.home / "keyservice.toml").open("a") as settings:
            settings.write("\n".join(["[[held]]", *lines, ""]))
        self.keys.restart()

    def sealgate(self, *arguments: str) -> str:
        """Run a `sealgate` command with this stack's settings and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env=self.environment | {"SEALGATE_CONFIG": str(self.home / "gateway.toml")},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"sealgate {arguments[0]}: {done.stderr[-2000:]}")
        return done.stdout

    def admin_token(self) -> str:
        """Return a fresh token that may do everything for every tenant."""

        async def create() -> str:
            catalog = await open_catalog(self.catalog, connections=1, patience=PATIENT_WITH_CATALOG)
            try:
                return (await Tokens(catalog).create(None, Right, lifetime=timedelta(days=1))).text
            finally:
                await catalog.close()

        return apart(create)

    @property
    def environment(self) -> dict[str, str]:
        """What our processes see: the tree to import from, and a temporary folder of their own."""
        temporary = self.home / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(temporary),
        }

    def _daemon(self, package: str, live: str) -> Daemon:
        config = self.home / f"{package}.toml"
        module = ["tests.stack.unblocked", package] if self.watched else [package]
        return Daemon(
            [sys.executable, "-m", *module, "serve", "--config", str(config)],
            log=self.home / f"{package}.log",
            ready=lambda: answers(live),
            env=self.environment,
        )

    def _keyservice(self, certs: Path, port: int, probes: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "policy_file": str(self.home / "policy.toml"),
            "listen": {"host": LOOPBACK, "port": port},
            "tls": {
                "certificate": str(certs / "keyservice.crt"),
                "private_key": str(certs / "keyservice.key"),
                "client_ca": str(certs / "ca.crt"),
            },
            "probes": {"host": LOOPBACK, "port": probes},
            "audit": {"file": str(self.home / "audit.jsonl"), "fsync": False},
            "shred": {"least_days": 0},  # a KEK may be retired as soon as nothing refers to it
        }
        if self.forget is not None:
            settings["cache"] = {"standard_ttl": self.forget, "business_ttl": self.forget}
        if self.vault is None:
            settings["root.local"] = {
                "key_file": str(self.home / "root.key"),
                "records": str(self.home / "records"),
            }
            return settings
        names, login = self.vault.setup, self.vault.login
        settings["root.vault"] = {
            "url": self.vault.server.address,
            "transit_mount": names.transit_mount,
            "kv_mount": names.kv_mount,
            "standard_key": names.standard_key,
            **PATIENT_WITH_VAULT,
        }
        settings["root.vault.approle"] = {
            "role_id_file": str(login.role_id_file),
            "secret_id_file": str(login.secret_id_file),
            "mount": names.approle_mount,
        }
        return settings

    def _gateway(self, certs: Path, port: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **self.top,
            "listen": {"host": LOOPBACK, "port": port},
            "keyservice": {
                "url": self.keys_url,
                "ca_file": str(certs / "ca.crt"),
                "certificate": str(certs / "gateway.crt"),
                "private_key": str(certs / "gateway.key"),
            },
            "limits": PATIENT,
            "catalog": {"url": self.catalog, "patience": PATIENT_WITH_CATALOG},
            "targets": [self._target(name, place) for name, place in self.targets.items()],
        }
        for section, values in self.extra.items():
            settings[section] = {**settings.get(section, {}), **values}
        return settings

    def _target(self, name: str, place: "Bucket | Path") -> dict[str, Any]:
        role = "primary" if name == "primary" else "backup"
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
            return {"name": name, "role": role, "kind": "folder", "path": str(place)}
        secrets = {"access": place.server.access_key, "secret": place.server.secret_key}
        for kind, text in secrets.items():
            (self.home / f"{name}-{kind}").write_text(text)
        return {
            "name": name,
            "role": role,
            "kind": "s3",
            "bucket": place.name,
            "endpoint": place.server.endpoint,
            "signing_region": place.server.region,
            "access_key_file": str(self.home / f"{name}-access"),
            "secret_key_file": str(self.home / f"{name}-secret"),
        }

    def _write(self, name: str, settings: Mapping[str, Any]) -> None:
        top = {k: v for k, v in settings.items() if not isinstance(v, dict | list)}
        lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
        for section, values in settings.items():
            tables = values if isinstance(values, list) else [values]
            for table in tables:
                if isinstance(table, dict):
                    lines.append(f"[[{section}]]" if isinstance(values, list) else f"[{section}]")
                    lines += [f"{key} = {_inline(value)}" for key, value in table.items()]
        (self.home / name).write_text("\n".join(lines) + "\n")


def _inline(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a loop of its own: much cheaper than a process of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(make())).result()


def answers(url: str) -> bool:
    """Tell whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except OSError:
        return False
