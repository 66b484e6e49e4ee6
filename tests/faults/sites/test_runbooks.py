"""The commands of the runbooks in docs/operations.md, as written, each after the fault that it is for."""

import asyncio
import re
import shlex
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from gateway.model import ReplicaState
from gateway.ports import Finding
from tests.faults.sites.site import Site, contents
from tests.stack.forks import told
from tests.stack.stack import Stack

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()
RUNBOOKS = TEXT[TEXT.index("\n## Runbooks") :]
REFERENCE = "book-0"
FINDINGS = 3
GONE = "oslo"


@dataclass(frozen=True)
class Line:
    """One command of a runbook: under which heading, and which one there, from 0."""

    heading: str
    number: int
    text: str


def lines() -> list[Line]:
    """Return the commands of all runbooks in their order."""
    found = []
    for section in RUNBOOKS.split("\n### ")[1:]:
        heading = section.partition("\n")[0]
        blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        commands = [line for block in blocks for line in block.splitlines() if line]
        found += [Line(heading, number, text) for number, text in enumerate(commands)]
    return found


@dataclass
class Ground:
    """A site on folders, and the faults that the runbooks are for."""

    site: Site
    home: Path
    used: set[tuple[str, int]] = field(default_factory=set)

    def folder(self, target: str) -> Path:
        """Return where a target keeps its objects."""
        place = self.site.stack.targets[target]
        assert isinstance(place, Path)
        return place

    async def primary_away(self) -> None:
        """Take the primary's folder away."""
        self.folder("primary").rename(self.home / "away")

    async def primary_back(self) -> None:
        """Give it back."""
        (self.home / "away").rename(self.folder("primary"))

    async def primary_emptied(self) -> None:
        """Delete all that the primary holds."""
        shutil.rmtree(self.folder("primary") / "t")

    async def backup_behind(self) -> None:
        """Let a backup miss everything, as the catalog knows."""
        shutil.rmtree(self.folder("singapore") / "t")
        async with self.site.core() as core:
            held = await core.replicas.held("singapore")
            await core.replicas.report(
                [Finding(each.version.id, "singapore", ReplicaState.MISSING) for each in held]
            )

    async def departed(self) -> None:
        """Let the catalog know copies on a target that is not configured any more."""
        async with self.site.core() as core:
            while await core.replicas.adopt(GONE, 100):
                pass
            held = await core.replicas.held(GONE)
            await core.replicas.report(
                [Finding(each.version.id, GONE, ReplicaState.STORED) for each in held]
            )

    async def flipped(self) -> None:
        """Flip a bit of everything on a backup."""
        for path in self.folder("singapore").rglob("body"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

    async def catalog_lost(self) -> None:
        """Copy the catalog, then lose it; the gateway is stopped."""
        await self.site.command("backup", "catalog", "--json")
        await asyncio.to_thread(self.site.stack.gateway.stop)
        for file in self.home.glob("catalog.db*"):
            file.unlink()

    async def all_lost(self) -> None:
        """Lose the catalog and the primary."""
        await self.catalog_lost()
        await self.primary_emptied()

    async def served(self) -> None:
        """Start the gateway again."""
        await asyncio.to_thread(self.site.stack.gateway.start)

    def before(self) -> dict[tuple[str, int], list[Callable[[], Awaitable[None]]]]:
        """Tell what happens before which command."""
        return {
            ("The primary is down", 0): [self.primary_away],
            ("The primary is down", 2): [self.primary_back],
            ("A backup is down or behind", 0): [self.backup_behind],
            ("A target is gone for good", 0): [self.departed],
            ("Something was lost", 0): [self.primary_emptied],
            ("Something was lost", 4): [self.all_lost],
            ("A store gives wrong bytes, or none", 0): [self.served, self.flipped],
            ("The catalog is lost", 0): [self.catalog_lost],
            ("A drill failed, or is overdue", 0): [self.served],
        }


def words(line: Line, site: Site) -> list[str]:
    """Return a command's words, with the names of this site, without where its output goes."""
    text = line.text.partition(" > ")[0]
    for name, value in {
        "TENANT/REFERENCE": f"{site.tenant}/{REFERENCE}",
        "TENANT": site.tenant,
        "--tenant ID": f"--tenant {site.tenant}",
        "TARGET": "singapore",
        "NAME": "singapore",
        "GONE": GONE,
    }.items():
        text = text.replace(name, value)
    command, *rest = shlex.split(text)
    assert command == "sealgate", line
    return rest


def expected(line: Line) -> int:
    """Return how a command ends."""
    found = line.heading == "A store gives wrong bytes, or none" and line.number == 0
    return FINDINGS if found else 0


@pytest.mark.timeout(600)
async def test_every_command_of_the_runbooks_does_what_they_say(tmp_path: Path) -> None:
    stack = await asyncio.to_thread(
        Stack,
        tmp_path / "stack",
        targets={name: tmp_path / name for name in ("primary", "singapore", "tokyo")},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        forget=0.5,  # a rotation waits for every cache
        extra={
            "quorum": {"policy": "all"},
            "limits": {"inline": 1024},
            "keyservice": {"cache_ttl": 0.5},
        },
    )
    await asyncio.to_thread(stack.start)
    try:
        site = Site(stack)
        await site.open()
        async with site.client() as client:
            await site.put_all(client, contents(6, (5_000, 300, 70_000), "book"))
        ground = Ground(site, tmp_path)
        faults = ground.before()
        for line in lines():
            for fault in faults.pop((line.heading, line.number), []):
                await fault()
            typed = "primary" if "demote" in line.text else "singapore"
            typed = GONE if "forget" in line.text else typed
            await asyncio.to_thread(
                partial(
                    told,
                    stack.home / "gateway.toml",
                    *words(line, site),
                    code=expected(line),
                    typed=typed + "\n",
                )
            )
        assert not faults, "a runbook has lost its commands, or changed its name"
        async with site.client() as client:
            assert await site.differing(client) == []
        assert await site.whole()
    finally:
        await asyncio.to_thread(stack.stop)
