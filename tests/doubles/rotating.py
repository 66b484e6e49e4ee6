"""A rotation over the parts of a gateway without HTTP, and what shows that nothing was left behind."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

from envelope.envelope import decode
from gateway.catalog import SqlCatalog
from gateway.pacing.patience import Patience
from gateway.pacing.rate import Rate
from gateway.ports import Backlog, Runs, Store
from gateway.rotation.keks import Rotated, Rotation, Wish
from gateway.rotation.pushing import Pushing
from gateway.rotation.renewal import Renewal
from gateway.rotation.rewrapping import EVERYTHING, Choice, Moved, Rewrapping
from gateway.targets.quorum import Target
from tests.doubles.keys import MemoryKeys


@dataclass
class Told:
    """What the pusher tells."""

    done: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def pushed(self, target: str) -> None:
        self.done.append(target)

    def backlog(self, backlog: Backlog) -> None:
        self.left[backlog.target] = backlog.copies

    def push_failed(self, target: str, reason: str) -> None:
        self.failures.append((target, reason))


@dataclass
class Tool:
    """One process that rotates, with everything that it is made of in reach."""

    catalog: SqlCatalog
    keys: MemoryKeys
    targets: Sequence[Target]
    ahead: float = -1.0  # less the margin: nobody waits
    patience: float = 0.0
    lease: float = 60.0
    told: Told = field(default_factory=Told)
    runs: Runs | None = None  # of its own

    @property
    def rewrapping(self) -> Rewrapping:
        """What changes the catalog."""
        patience = Patience(self.patience, tries=1000)
        return Rewrapping(self.catalog.wraps, self.keys, rate=Rate(), patience=patience)

    @property
    def pushing(self) -> Pushing:
        """What changes the targets."""
        return Pushing(
            self.catalog,
            self.catalog.wraps,
            self.catalog.replicas,
            self.targets,
            rate=Rate(),
            lease=self.lease,
            watch=self.told,
        )

    @property
    def rotation(self) -> Rotation:
        """The use case."""
        wraps = self.catalog.wraps
        renewal = Renewal(wraps, self.keys, self.rewrapping, self.pushing, ahead=self.ahead)
        return Rotation(
            self.runs or self.catalog.runs,
            wraps,
            self.keys,
            renewal,
            lease=timedelta(seconds=60),
            at_once=2,
        )

    async def move(self, tenant: str, kek: str) -> Moved:
        """Rewrap all that is under a KEK, in the catalog alone."""
        moved = Moved()
        await self.rewrapping.move(tenant, kek, EVERYTHING, moved)
        return moved

    async def rotate(
        self, *tenants: str, choice: Choice = EVERYTHING, fresh: bool = True
    ) -> list[Rotated]:
        """Rotate these tenants' KEKs; return what became of each."""
        ended: list[Rotated] = []
        await self.rotation.keks(each(tenants), Wish(choice, fresh), ended.append)
        return ended


async def each(tenants: Sequence[str]) -> AsyncIterator[str]:
    """Go through tenants."""
    for tenant in tenants:
        yield tenant


async def keks_on(store: Store) -> Mapping[str, frozenset[str]]:
    """Read every envelope that a store holds itself: the KEKs of its wraps, by its key."""
    found = {}
    async for stat in store.list("t/"):
        if stat.key.endswith("/envelope"):
            async with aclosing(store.read(stat.key)) as pieces:
                data = b"".join([bytes(piece) async for piece in pieces])
            found[stat.key] = frozenset(wrap.kek for wrap in decode(data).wraps)
    return found
