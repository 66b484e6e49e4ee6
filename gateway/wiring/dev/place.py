"""The folder of an embedded stack: where everything lies, and the configuration of both services.

Guarantees that nobody but its owner can look inside, that a folder which we did not make is neither
used nor emptied, and that one stack at a time uses it. Its configuration is written at every start.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.wiring.dev.errors import PlaceRefused

MARK = ".sealgate-dev"
TARGETS = (("primary", "primary"), ("backup-1", "backup"), ("backup-2", "backup"))
_LONGEST_SOCKET = 100  # the kernel's limit is 104 bytes on macOS and 108 on Linux


@dataclass(frozen=True, slots=True)
class Place:
    """All paths of one stack. `root` is absolute."""

    root: Path

    @property
    def gateway_config(self) -> Path:
        """The gateway's settings, good for every `sealgate` command."""
        return self.root / "gateway.toml"

    @property
    def keyservice_config(self) -> Path:
        """The key service's settings."""
        return self.root / "keyservice.toml"

    @property
    def environment(self) -> Path:
        """What a shell reads to talk to the stack."""
        return self.root / "env"

    @property
    def socket(self) -> Path | None:
        """The key service's Unix socket, or None where the path is too long for one."""
        path = self.root / "keyservice.sock"
        return path if len(os.fsencode(path)) <= _LONGEST_SOCKET else None

    @property
    def token_file(self) -> Path:
        """What the gateway shows to the key service."""
        return self.root / "keyservice.token"

    def log(self, name: str) -> Path:
        """Return where a service's log goes."""
        return self.root / "logs" / f"{name}.jsonl"

    def store(self, name: str) -> Path:
        """Return the folder of a target."""
        return self.root / "stores" / name

    def shown(self, path: Path | None = None) -> str:
        """Return the folder, or a file in it, as a person would write it."""
        path = path or self.root
        try:
            return f"./{path.relative_to(Path.cwd())}"
        except ValueError:
            return str(path)

    def make(self) -> bool:
        """Create the folder or take it up again; True when it is new. Raises PlaceRefused."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = not (self.root / MARK).exists()
        if new and any(self.root.iterdir()):
            raise PlaceRefused(
                f"{self.shown()} is not empty and was not made by `sealgate dev`: "
                "name another folder with --data"
            )
        self.root.chmod(0o700)
        (self.root / MARK).touch(mode=0o600)
        for folder in (self.root / "logs", *(self.store(name) for name, _ in TARGETS)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return new

    def size(self) -> int:
        """Return how many bytes the folder holds."""
        return sum(path.lstat().st_size for path in self.root.rglob("*"))

    def empty(self) -> None:
        """Remove everything in the folder. Raises PlaceRefused for one that we did not make."""
        if not self.root.exists():
            return
        if not (self.root / MARK).exists() and any(self.root.iterdir()):
            raise PlaceRefused(f"{self.shown()} was not made by `sealgate dev`: it stays as it is")
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep the folder for this process while the block runs. Raises PlaceRefused."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PlaceRefused(
                    f"another `sealgate dev` runs in {self.shown()}: stop it, or name another "
                    "folder with --data"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def configure(self, *, port: int, keyservice_port: int | None) -> None:
        """Write the settings of both services and the secret that they share."""
        if not self.token_file.exists():
            write(self.token_file, secrets.token_urlsafe(32) + "\n")
        write(self.keyservice_config, self._keyservice(keyservice_port))
        write(self.gateway_config, self._gateway(port, keyservice_port))

    def _keyservice(self, port: int | None) -> str:
        listen = (
            f"unix_socket = {_text(self.socket)}"
            if port is None
            else f'host = "127.0.0.1"\nport = {port}'
        )
        return f"""{_HEAD}
drain_timeout = 5.0

[listen]
{listen}

[development]
token_file = {_text(self.token_file)}

[root.local]
key_file = {_text(self.root / "keys" / "root.key")}
records = {_text(self.root / "keys" / "tenants")}

[audit]
file = {_text(self.root / "audit" / "keyservice.jsonl")}
"""

    def _gateway(self, port: int, keyservice_port: int | None) -> str:
        url = (
            f"unix://{self.socket}"
            if keyservice_port is None
            else f"http://127.0.0.1:{keyservice_port}"
        )
        targets = "".join(
            f"""
[[targets]]
name = "{name}"
role = "{role}"
kind = "folder"
path = {_text(self.store(name))}
"""
            for name, role in TARGETS
        )
        return f"""{_HEAD}
drain_timeout = 5.0

[listen]
host = "127.0.0.1"
port = {port}

[keyservice]
url = {_text(url)}
token_file = {_text(self.token_file)}

# Three folders of one disk: none is left behind because that is busy.
[limits]
backup_patience = 30.0

[worker]
embedded = true

[catalog]
url = {_text(f"sqlite:///{self.root / 'catalog.sqlite'}")}
{targets}"""


_HEAD = "# Written by `sealgate dev` at every start: what is changed here is lost.\n"


def write(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def _text(value: object) -> str:
    """Return a TOML string; JSON's is one."""
    return json.dumps(str(value))
