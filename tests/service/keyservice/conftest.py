"""Key services on real sockets: one over a token, one over mutual TLS."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from keyservice.access.audit import Auditor
from keyservice.certs import GATEWAY_NAME, issue
from keyservice.client.client import KeyServiceClient
from keyservice.config import Settings, load
from keyservice.files import write_durably

# Both ends run in one process here: where that waits for the machine, nobody has failed.
PATIENT: Final = {"timeout": 60.0, "attempt_timeout": 30.0}
POLICY = f"""
[[rule]]
name = "gateways"
effect = "allow"
callers = ["dns:{GATEWAY_NAME}"]
tenants = ["*"]
operations = ["*"]
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder with all that a key service and its callers need."""

    folder: Path
    token: str

    def settings(self, **flags: Any) -> Settings:
        """Return development settings, on any free port."""
        development = {"token_file": self.folder / "token"}
        return self._load({"development": development} | flags)

    def tls_settings(self, **flags: Any) -> Settings:
        """Return settings of mutual TLS, on any free port."""
        certs = self.folder / "certs"
        tls = {
            "certificate": certs / "keyservice.crt",
            "private_key": certs / "keyservice.key",
            "client_ca": certs / "ca.crt",
        }
        return self._load({"tls": tls, "policy_file": self.folder / "policy.toml"} | flags)

    def _load(self, flags: dict[str, Any]) -> Settings:
        local = {"key_file": self.folder / "root.key", "records": self.folder / "records"}
        common = {
            "listen": {"port": 0},
            "root": {"local": local},
            "audit": {"file": self.folder / "audit.jsonl"},
            "shred": {"least_days": 0},
        }
        return load(None, common | flags)

    def client(self, url: str, **options: Any) -> KeyServiceClient:
        """Return a client with the token."""
        return KeyServiceClient(url, **{**PATIENT, "token": self.token, **options})

    def tls_client(self, url: str, name: str = "gateway", **options: Any) -> KeyServiceClient:
        """Return a client with that certificate of the site."""
        certs = self.folder / "certs"
        files = {
            "ca_file": certs / "ca.crt",
            "certificate": certs / f"{name}.crt",
            "private_key": certs / f"{name}.key",
        }
        return KeyServiceClient(url, **{**PATIENT, **files, **options})


def by_default(patch: pytest.MonkeyPatch, kind: Any, **given: object) -> None:
    """Let what is made of that kind without an argument have this one."""
    for name, value in given.items():
        patch.setitem(kind.__init__.__kwdefaults__, name, value)


@pytest.fixture(autouse=True)
def _patient_service(monkeypatch: pytest.MonkeyPatch) -> None:
    by_default(monkeypatch, Auditor, timeout=30.0)
    monkeypatch.setattr("keyservice.desk.change.SEAL_TIMEOUT", 60.0)


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[[str], Site]:
    """Give a function that makes a site of that name."""

    def make(name: str) -> Site:
        folder = tmp_path / name
        issue(folder / "certs", server_names=["127.0.0.1"], gateway_name=GATEWAY_NAME, days=1)
        token = secrets.token_urlsafe(32)
        write_durably(folder / "token", token.encode(), replace=False)
        (folder / "policy.toml").write_text(POLICY)
        return Site(folder, token)

    return make


@pytest.fixture
def site(make_site: Callable[[str], Site]) -> Site:
    """Give the one site that most tests need."""
    return make_site("site")


@pytest.fixture
def tenant() -> str:
    """Give a tenant id."""
    return secrets.token_hex(16)
