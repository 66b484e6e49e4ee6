"""Where the real servers' programs come from.

`find` looks on PATH and in the user's cache and never builds; `obtain` builds what is
missing with the Go toolchain, from the pinned modules under `deploy/servers/`, whose
go.sum fixes every source by its hash. A build lands in the cache by one rename, and a
lock keeps two builders from doing the same work. The cache is outside the clone, so that
a fresh clone is warm.
"""

import collections
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import toolchain

_MODULES = Path(__file__).resolve().parents[2] / "deploy" / "servers"


Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one server is found and built: its names on PATH, and its pinned Go package."""

    name: str
    version: str
    commands: tuple[str, ...]
    package: str
    tags: str
    minutes: int  # of a cold build on two cores, for the reader of the progress


VAULT = Recipe(
    name="vault",
    version="1.21.0",
    commands=("bao", "vault"),
    package="github.com/hashicorp/vault",
    tags="minimal",  # without it every cloud's SDK comes along, and it does not compile
    minutes=5,
)
VERSITYGW = Recipe(
    name="versitygw",
    version="1.7.0",
    commands=("versitygw",),
    package="github.com/versity/versitygw/cmd/versitygw",
    tags="",
    minutes=1,
)
RECIPES = (VERSITYGW, VAULT)


class CannotBuild(Exception):
    """A server's program is missing and could not be built; the text says what to do."""


def cache() -> Path:
    """Return the folder that keeps built servers for every clone of this user."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sealgate" / "servers"


def find(recipe: Recipe) -> Path | None:
    """Return the program from PATH or the cache, or None."""
    for command in recipe.commands:
        if found := shutil.which(command):
            return Path(found)
    built = _place(recipe)
    return built if os.access(built, os.X_OK) else None


def obtain(recipe: Recipe, progress: Progress) -> Path:
    """Return the program, built first when it is nowhere; `progress` hears how far it is."""
    if found := find(recipe):
        return found
    with _lock(recipe):
        return find(recipe) or _build(recipe, progress)  # the other builder may have made it


def _place(recipe: Recipe) -> Path:
    return cache() / f"{recipe.name}-{recipe.version}"


def _build(recipe: Recipe, progress: Progress) -> Path:
    try:
        go = toolchain.find_go()
    except toolchain.NoToolchain as missing:
        commands = " or ".join(recipe.commands)
        raise CannotBuild(
            f"{recipe.name} is not on PATH and cannot be built: put {commands} there, or: {missing}"
        ) from missing
    place = _place(recipe)
    with tempfile.TemporaryDirectory(prefix=f".{recipe.name}-", dir=place.parent) as folder:
        made = Path(folder) / recipe.name
        argv = [str(go), "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        argv += ["-ldflags", "-s -w", "-tags", recipe.tags, "-o", str(made), recipe.package]
        with subprocess.Popen(
            argv,
            cwd=_MODULES / recipe.name,
            env=toolchain.environment(),
            stderr=subprocess.PIPE,
            text=True,
        ) as building:
            said = _Said(building.stderr or ())
            while building.poll() is None:
                progress(str(said))
                time.sleep(0.1)
            said.join()
            progress(str(said))
        if building.returncode:
            raise CannotBuild(f"{recipe.name} {recipe.version} could not be built\n{said.end}")
        made.replace(place)
    return place


class _Said(threading.Thread):
    """Counts what the toolchain says that it did, and keeps the end of it for a failure."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self._lines = lines
        self._modules = self._packages = 0
        self._last: collections.deque[str] = collections.deque(maxlen=20)
        self.start()

    def run(self) -> None:
        for line in self._lines:
            self._last.append(line)
            if line.startswith("go: downloading"):
                self._modules += 1
            else:
                self._packages += 1

    @property
    def end(self) -> str:
        return "".join(self._last)

    def __str__(self) -> str:
        return f"{self._modules} modules downloaded, {self._packages} packages compiled"


@contextmanager
def _lock(recipe: Recipe) -> Iterator[None]:
    place = _place(recipe)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
