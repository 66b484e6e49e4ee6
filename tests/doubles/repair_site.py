"""Targets that fail on command, a catalog in memory, and repairers over them."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from gateway.model import ReplicaState, now
from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.repairer import Repairer, RepairSettings
from gateway.targets.quorum import Role, Target
from tests.doubles.blobs import Blob, place, seal
from tests.doubles.replicas import MemoryReplicas
from tests.doubles.stores import FaultyStore

PART = 64 * 1024
STORED, MISSING, DAMAGED = ReplicaState.STORED, ReplicaState.MISSING, ReplicaState.DAMAGED


@dataclass
class Figures:
    """What the repairer tells."""

    done: list[tuple[str, int]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def copied(self, target: str, size: int) -> None:
        self.done.append((target, size))

    def repair_failed(self, target: str, reason: str) -> None:
        self.failures.append((target, reason))


class Site:
    """Three targets, a catalog in memory, and one repairer."""

    def __init__(self) -> None:
        self.stores = {name: FaultyStore() for name in ("primary", "east", "west")}
        self.primary, self.east, self.west = self.stores.values()
        self.replicas = MemoryReplicas()
        self.figures = Figures()
        self.time = 100.0
        self.age = 0
        self.repairer = self.make()

    def make(self, *, parallel: int = 2, lease: float = 60.0) -> Repairer:
        """Another worker of the same site."""
        targets = [
            Target(name, Role.PRIMARY if name == "primary" else Role.BACKUP, store)
            for name, store in self.stores.items()
        ]
        return Repairer(
            self.replicas,
            Copier(self.stores, part_size=PART, parallel=2, rate=Rate()),
            targets,
            watch=self.figures,
            settings=RepairSettings(parallel=parallel, lease=lease, pause=0.01, shift=0.05),
            clock=lambda: self.time,
        )

    async def store(
        self,
        content: bytes = b"x" * 3000,
        *,
        on: tuple[str, ...] = ("primary",),
        inline: bool = False,
    ) -> Blob:
        """Commit a version that some targets hold."""
        self.age += 1
        blob = seal(content, inline=inline)
        blob = replace(
            blob, version=replace(blob.version, created=now() + timedelta(seconds=self.age))
        )
        for name in on:
            await place(self.stores[name], blob)
        states = {name: STORED if name in on else MISSING for name in self.stores}
        self.replicas.add(blob.version, states)
        return blob
