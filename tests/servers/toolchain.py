"""A Go toolchain that is new enough for the servers, whatever Go is installed.

From 1.21 on Go fetches the newer one that a module asks for by itself. An older one, as stable
distributions have it, can still fetch the same toolchain as a module: its hash is checked against
the public checksum database, and it lands in the module cache.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

WANTED = "go1.25.1"
_MODULE = "golang.org/toolchain"
_SELF_UPDATING = (1, 21)


class NoToolchain(Exception):
    """There is no Go, or it could not fetch a newer one."""


def find_go() -> Path:
    """Return a `go` that builds the servers with `environment`; raise NoToolchain."""
    installed = shutil.which("go")
    if installed is None:
        raise NoToolchain("no Go toolchain: install Go 1.25 or newer")
    go = Path(installed)
    version = _ask(go, "env", "GOVERSION").removeprefix("go").split(".")
    if (int(version[0]), int(version[1])) >= _SELF_UPDATING:
        return go
    return _fetch(go)


def environment() -> dict[str, str]:
    """Return the environment of a build: newer Go allowed, no C compiler needed."""
    return os.environ | {"GOTOOLCHAIN": "auto", "CGO_ENABLED": "0", "GOFLAGS": ""}


def _fetch(go: Path) -> Path:
    system, machine = _ask(go, "env", "GOOS", "GOARCH").split()
    version = f"{_MODULE}@v0.0.1-{WANTED}.{system}-{machine}"
    folder = Path(json.loads(_ask(go, "mod", "download", "-json", version))["Dir"])
    # Modules are unpacked without execute bits, which Go itself would set here.
    for place in (folder / "bin", folder / "pkg" / "tool"):
        for program in place.rglob("*"):
            if program.is_file():
                program.chmod(0o755)
    return folder / "bin" / "go"


def _ask(go: Path, *words: str) -> str:
    answer = subprocess.run(
        [str(go), *words],
        cwd="/",  # in no module
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise NoToolchain(f"{go} {words[0]} failed\n{answer.stdout}{answer.stderr}")
    return answer.stdout.strip()
