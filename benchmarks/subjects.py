"""What is measured: ways to a bucket, each as processes of its own, started and stopped here.

A subject says how a request to it looks and which processes answer it, and nothing more. All listen on
loopback without TLS, so that no subject pays for what another leaves out; behind Sealgate the key
service is reached by mutual TLS, as it always is.
"""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from gateway.settings.config import Settings
from gateway.stores.s3_sign import EMPTY, UNSIGNED, Credentials, Signer
from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.versitygw import REGION, Versitygw
from tests.stack.stack import ROOT, Bucket, Stack

PREFIX = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject listens, its processes and its key service's, and what that one records in."""

    port: int
    pids: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    audit: Path | None = None


class Subject(Protocol):
    """One way to a bucket. `reads` tells whether what was put can be had back."""

    name: str
    buckets: Sequence[Bucket]
    reads: bool

    def start(self) -> Place:
        """Start it."""
        ...

    def stop(self) -> None:
        """Stop it."""
        ...

    def head(self, method: str, name: str, fields: Mapping[str, str]) -> str:
        """Return the head of a request for the object `name`, with these fields among others."""
        ...


class Sink(Daemon):
    """The S3 server that throws everything away, with what a `Bucket` asks of its server."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True)
        port = free_port()
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.region, self.access_key, self.secret_key = REGION, "sink", "sink-secret"
        self._folder = home
        super().__init__(
            [sys.executable, "-m", "benchmarks.sink", str(port)],
            log=home / "sink.log",
            ready=lambda: listening(port),
            env=environment(),
        )

    def bucket(self, name: str) -> Bucket:
        """Return a bucket of this server. Any name will do."""
        return Bucket(cast("Versitygw", self), name)

    def bucket_folder(self, name: str) -> Path:
        """Return a folder that stays empty."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return folder


class Direct:
    """The S3 server itself, asked by signed requests with unsigned bodies."""

    def __init__(self, name: str, bucket: Bucket, *, reads: bool) -> None:
        self.name, self.reads = name, reads
        self.buckets: Sequence[Bucket] = [bucket]
        self._signer = Signer(bucket.server.region)

    def start(self) -> Place:
        """See `Subject`."""
        return Place(urlsplit(self.buckets[0].server.endpoint).port or 0)

    def stop(self) -> None:
        """See `Subject`."""

    def head(self, method: str, name: str, fields: Mapping[str, str]) -> str:
        """See `Subject`."""
        (bucket,) = self.buckets
        path = f"/{bucket.name}/{name}"
        server = bucket.server
        signed = self._signer.sign(
            Credentials(server.access_key, server.secret_key),
            method=method,
            host=urlsplit(server.endpoint).netloc,
            path=path,
            query="",
            headers={key.lower(): value for key, value in fields.items()},
            payload=UNSIGNED if method == "PUT" else EMPTY,
            at=datetime.now(UTC),
        )
        return text(method, path, signed)


class Plain:
    """A proxy without encryption: `benchmarks.plain`, or another `module` with its command line."""

    def __init__(
        self,
        name: str,
        home: Path,
        buckets: Sequence[Bucket],
        *,
        reads: bool,
        module: str = "benchmarks.plain",
    ) -> None:
        self.name, self.buckets, self.reads = name, buckets, reads
        home.mkdir(parents=True)
        settings = home / "stores.json"
        settings.write_text(json.dumps([_settings(bucket) for bucket in buckets]))
        self._port = port = free_port()
        self._daemon = Daemon(
            [sys.executable, "-m", module, str(port), str(settings)],
            log=home / "plain.log",
            ready=lambda: listening(port),
            env=environment(),
        )

    def start(self) -> Place:
        """See `Subject`."""
        self._daemon.start()
        return Place(self._port, (self._daemon.pid,))

    def stop(self) -> None:
        """See `Subject`."""
        self._daemon.stop()

    def head(self, method: str, name: str, fields: Mapping[str, str]) -> str:
        """See `Subject`."""
        return text(method, f"/{name}", {"Host": LOOPBACK, **fields})


class _Stack(Stack):
    """A stack whose processes see more of an environment."""

    more: Mapping[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        """See `Stack`."""
        return {**super().environment, **self.more}


class Sealgate:
    """The gateway and its key service, with a local root key and SQLite."""

    def __init__(
        self, name: str, home: Path, buckets: Sequence[Bucket], *, reads: bool, workers: int = 1
    ) -> None:
        self.name, self.buckets, self.reads = name, buckets, reads
        names = ["primary", *(f"backup-{number}" for number in range(1, len(buckets)))]
        kind = _Stack if workers == 1 else type("_Workers", (_Stack,), {"more": _workers(workers)})
        self._stack = kind(
            home,
            targets=dict(zip(names, buckets, strict=True)),
            catalog=f"sqlite+aiosqlite:///{home / 'catalog.db'}",
        )
        self._token = self._tenant = ""

    def start(self) -> Place:
        """See `Subject`."""
        self._stack.start()
        self._token = self._stack.admin_token()
        asked = urllib.request.Request(
            f"{self._stack.url}/v1/tenants",
            data=b'{"tier": "standard"}',
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as answer:
            self._tenant = json.load(answer)["tenant"]
        port = urlsplit(self._stack.url).port or 0
        gateway, keys = (self._stack.gateway.pid,), (self._stack.keys.pid,)
        return Place(port, gateway, keys, self._stack.home / "audit.jsonl")

    def stop(self) -> None:
        """See `Subject`."""
        self._stack.stop()

    def head(self, method: str, name: str, fields: Mapping[str, str]) -> str:
        """See `Subject`."""
        path = f"/v1/tenants/{self._tenant}/attachments/{name}"
        own = {"Host": LOOPBACK, "Authorization": f"Bearer {self._token}"}
        return text(method, path, {**own, **fields})


def workers_known() -> bool:
    """Tell whether this gateway can run as several processes."""
    return "workers" in Settings.model_fields


def _workers(count: int) -> dict[str, str]:
    return {"SEALGATE_WORKERS": str(count)}


class Rclone:
    """`rclone serve s3` over `crypt` over the bucket: what a user could run today."""

    def __init__(self, name: str, home: Path, bucket: Bucket) -> None:
        self.name, self.reads = name, True
        self.buckets: Sequence[Bucket] = [bucket]
        home.mkdir(parents=True)
        self._program = Path(sys.executable).with_name("rclone")
        server = bucket.server
        (home / "rclone.conf").write_text(
            f"[store]\ntype = s3\nprovider = Other\nendpoint = {server.endpoint}\n"
            f"access_key_id = {server.access_key}\nsecret_access_key = {server.secret_key}\n"
            f"region = {server.region}\nno_check_bucket = true\n"
            f"[sealed]\ntype = crypt\nremote = store:{bucket.name}\n"
            f"password = {self._obscured('password')}\npassword2 = {self._obscured('salt')}\n"
        )
        self._port = port = free_port()
        argv = [str(self._program), "serve", "s3", "sealed:", "--addr", f"{LOOPBACK}:{port}"]
        argv += ["--config", str(home / "rclone.conf"), "--cache-dir", str(home / "cache")]
        # The bucket's folder is emptied behind its back between rounds.
        argv += ["--dir-cache-time", "24h", "--poll-interval", "0"]
        self._daemon = Daemon(
            argv, log=home / "rclone.log", ready=lambda: listening(port), env=environment()
        )

    def start(self) -> Place:
        """See `Subject`."""
        self._daemon.start()
        asked = urllib.request.Request(f"http://{LOOPBACK}:{self._port}/{PREFIX}", method="PUT")
        with urllib.request.urlopen(asked):
            return Place(self._port, (self._daemon.pid,))

    def stop(self) -> None:
        """See `Subject`."""
        self._daemon.stop()

    def head(self, method: str, name: str, fields: Mapping[str, str]) -> str:
        """See `Subject`."""
        return text(method, f"/{PREFIX}/{name}", {"Host": LOOPBACK, **fields})

    def _obscured(self, word: str) -> str:
        argv = [str(self._program), "obscure", word]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def text(method: str, path: str, fields: Mapping[str, str]) -> str:
    """Return a request's head as it goes over the wire."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n"


def environment() -> dict[str, str]:
    """Return what a program of ours needs to find itself."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}


def listening(port: int) -> bool:
    """Tell whether somebody accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _settings(bucket: Bucket) -> dict[str, str]:
    server = bucket.server
    return {
        "name": bucket.name,
        "bucket": bucket.name,
        "endpoint": server.endpoint,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
