"""Vault or OpenBao: in memory and open at once, or on disk (raft), to be sealed and restarted.

Only what both programs understand is used. Calls block.
"""

import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import hvac

from tests.servers.certificates import Certificates
from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port


class Vault(Daemon):
    """A server in development mode: unsealed, in memory, its root token known ahead.

    It forgets everything when it is restarted.
    """

    def __init__(self, program: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.address = f"http://{LOOPBACK}:{port}"
        self.root_token = "root-" + secrets.token_hex(12)
        self.ca: Path | None = None
        argv = [str(program), "server", "-dev", "-dev-no-store-token"]
        argv += [f"-dev-root-token-id={self.root_token}"]
        argv += [f"-dev-listen-address={LOOPBACK}:{port}"]
        super().__init__(
            argv,
            log=home / "vault.log",
            ready=lambda: _health(self.address) == _ACTIVE,
            env={"HOME": str(home)},
        )

    @contextmanager
    def client(self, token: str | None = None) -> Iterator[Any]:
        """Give an `hvac` client with the root token or the one given."""
        client = hvac.Client(
            url=self.address,
            token=token or self.root_token,
            verify=str(self.ca) if self.ca else True,
            timeout=60,
        )
        try:
            yield client
        finally:
            client.adapter.close()


class SealableVault(Vault):
    """A server on disk, with or without TLS: initialised, sealed, unsealed, restarted.

    It comes up sealed and not initialised; `open` does both and sets `root_token`.
    """

    def __init__(self, program: Path, home: Path, certificates: Certificates | None = None) -> None:
        super().__init__(program, home)
        self.root_token = ""
        self._unseal_key = ""
        listener: dict[str, Any] = {"address": self.address.removeprefix("http://")}
        if certificates is None:
            listener["tls_disable"] = True
        else:
            self.address = self.address.replace("http:", "https:")
            self.ca = certificates.ca
            listener["tls_cert_file"] = str(certificates.certificate)
            listener["tls_key_file"] = str(certificates.key)
        data = home / "data"
        data.mkdir()
        listener["cluster_address"] = f"{LOOPBACK}:{(cluster := free_port())}"
        settings = {
            "storage": {
                "raft": {"path": str(data), "node_id": "only", "performance_multiplier": 1}
            },
            "listener": {"tcp": listener},
            "api_addr": self.address,
            "cluster_addr": f"http://{LOOPBACK}:{cluster}",
            "disable_mlock": True,
        }
        config = home / "vault.json"
        config.write_text(json.dumps(settings))
        self._argv = [str(program), "server", f"-config={config}"]
        self._ready = lambda: _health(self.address, self.ca) is not None

    def open(self) -> None:
        """Initialise the server once, and unseal it."""
        with self.client("none") as client:
            if not client.sys.is_initialized():
                made = client.sys.initialize(secret_shares=1, secret_threshold=1)
                self.root_token = made["root_token"]
                self._unseal_key = made["keys_base64"][0]
            client.sys.submit_unseal_key(self._unseal_key)
        self._await(lambda: _health(self.address, self.ca) == _ACTIVE, "unseal")

    def seal(self) -> None:
        """Seal the server: it goes on listening and answers nothing but its state."""
        with self.client() as client:
            client.sys.seal()
        self._await(lambda: _health(self.address, self.ca) == _SEALED, "seal")


class NewVault(Protocol):
    """Starts one more Vault; it is running, sealed and not initialised: `open` it."""

    def __call__(self, certificates: Certificates | None = None) -> SealableVault:
        """Start it, with TLS where certificates are given."""
        ...


_ACTIVE = 200
_SEALED = 503


def _health(address: str, ca: Path | None = None) -> int | None:
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        url = address + "/v1/sys/health"
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    except OSError:
        return None
