"""Which KEK every envelope is under, for those who rotate keys: in the catalog, and on every target.

The catalog's envelope counts; what a target holds is a copy of it. A rewrap changes the catalog first, and
leaves for every target a row that its copy is stale, until somebody has written the new one there. So
whoever is killed in between leaves nothing unreadable, and a KEK is no longer in use once `uses` does
not name it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from gateway.model import ReplicaState, Version


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A version (without inline body), and the targets that have or should have a copy of its envelope."""

    version: Version = field(repr=False)
    targets: frozenset[str]

    @property
    def kek(self) -> str:
        """The KEK that the envelope is under."""
        return self.version.kek


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """The envelope of one blob under another KEK: as the catalog has it, without inline body."""

    version: str
    blob: str
    old: str
    new: str
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stale:
    """An envelope to write to a target, leased to whoever claimed it until `until`.

    `version` is as it is now, with its inline body. `keks` are those that the copy may be under instead.
    Where `unsure`, the catalog was loaded from a dump since: the copy may be newer than the catalog's, so it
    is looked at before anything is written over it.
    """

    version: Version = field(repr=False)
    target: str
    keks: frozenset[str]
    since: datetime
    tries: int
    until: datetime
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """Stale copies on one target, and since when the one is that waits the longest."""

    target: str
    copies: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class KekUse:
    """What refers to one KEK, and so keeps it from being retired."""

    kek: str
    versions: int = 0  # in the catalog: all that are there, those being purged too
    trashed: int = 0  # of them: those of attachments in the trash, and those being purged
    stale: Mapping[str, int] = field(default_factory=dict)  # by target: copies that may be under it
    leftovers: int = 0  # blobs that a reseal replaced, and that are not removed yet


@dataclass(frozen=True, slots=True)
class Rotation:
    """How often a tenant's keys are rotated; None: as configured, zero: never."""

    kek: timedelta | None = None
    root: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Leftover:
    """A blob that belongs to no version any more (or, of a reseal that ended early, never did).

    `serving` is what its version has instead, with a body of `size` bytes; nothing where that is being
    purged too.
    """

    blob: str
    tenant: str
    version: str
    keks: frozenset[str]
    since: datetime
    targets: frozenset[str]  # that may still hold some of it
    serving: str = ""
    size: int = 0


class Wraps(Protocol):
    """Every method is one transaction, by the catalog's clock. Raises CatalogErrors and what it names."""

    async def on_kek(
        self,
        kek: str,
        *,
        after: str | None = None,
        limit: int = 500,
        created_before: datetime | None = None,
        attachment: str | None = None,
    ) -> Sequence[Wrapped]:
        """Page through the versions whose newest wrap is under `kek`, in order of id, behind `after`.

        Those in the trash too. Without those that are being purged, which `uses` counts all the same.
        """

    async def rewrap(self, changes: Sequence[Rewrapped]) -> frozenset[str]:
        """Put new envelopes in place of old ones; return the ids of the versions that changed.

        A version changes only while its envelope is still under `old`, so two that rewrap at once never
        both change one; only while it has that blob, since no envelope opens another one; and not once it
        is being purged. What else is wrapped in the new envelope is the caller's to get right. With each
        goes a stale row for every target that has a replica row. Safe to repeat after a lost answer: what
        had changed is not named again.
        """

    async def claim_stale(
        self, *, tenant: str | None, targets: Sequence[str], lease: timedelta, limit: int
    ) -> Sequence[Stale]:
        """Lease stale copies on these targets, of one tenant or of all, that nobody else has leased.

        Only where the replica is stored: the others wait until repair brought them back. Two that claim
        at once never get the same. Whoever claims may write while the lease lasts and not after it.
        """

    async def pushed(self, stale: Stale, kek: str) -> bool:
        """Record that the envelope under `kek` was written there.

        True if the copy is right now: the version is still under `kek`, and the lease was the caller's.
        Else false, and what was written is stale itself unless it is what the version is under.
        """

    async def failed_push(self, stale: Stale, retry: timedelta) -> None:
        """Give it back, one more time tried in vain, due again after `retry`.

        It may have been written all the same: where the version was rewrapped meanwhile, and even if the
        lease is over, the copy is known from here on to be perhaps under what it was to be.
        """

    async def release_stale(self, stale: Sequence[Stale]) -> None:
        """Give them back untried, due at once."""

    async def backlog(self, target: str) -> Backlog:
        """Count the stale copies on a target. Reads a row for each."""

    async def mark_stale(self, version: str, target: str, kek: str) -> bool:
        """Record that a copy is under an older KEK; false if the version is under it, or is not there.

        Whoever is writing that copy now no longer holds it: what was found may have come last.
        """

    async def uses(self, tenant: str) -> Sequence[KekUse]:
        """Tell everything that refers to each of a tenant's KEKs, in order of their ids.

        Reads an index entry for each version of the tenant. Uploads under way are not known here: one
        that took its key before a rotation commits under the old KEK after it.
        """

    async def retiring(self, tenant: str, kek: str) -> None:
        """See to it that nothing comes under `kek` from here on; idempotent. Raises NotFound.

        An upload that would commit under it is lost, and whoever rewraps or reseals to it changes nothing.
        So what `uses` says of it afterwards can only become less. For good: a KEK that was replaced is
        never current again.
        """

    async def begun(self, tenant: str, before: datetime) -> int:
        """Count the uploads under way of a tenant that began before a moment."""

    async def schedule(self, tenant: str) -> Rotation:
        """Return how often a tenant's keys are rotated. Raises NotFound."""

    async def set_schedule(self, tenant: str, rotation: Rotation) -> None:
        """Set it. Raises NotFound."""

    async def intend(self, version: Version, blob: str, kek: str) -> bool:
        """Record that a reseal of `version` is about to write `blob`, under `kek`.

        From here on the blob is owned: it is a leftover unless `switch` makes it the version's, and taken
        for abandoned a day after this was called last. False if that is so already, or if the version is
        gone, being purged, or has another blob than `version.blob` by now.
        """

    async def switch(
        self, version: Version, old: str, replicas: Mapping[str, ReplicaState]
    ) -> bool:
        """Make `version.blob` (with its envelope and inline body) the blob of a version instead of `old`.

        `replicas` say where it is stored; any other target with a row of the version misses it from now
        on, and repair brings it there. The blob `old` becomes a leftover, to be removed after the tenant's
        trash time by both of the catalog's clocks. Safe to repeat. False, and nothing changed, if the
        version is gone, being purged, or has another blob than `old` by now; or if the new one was not
        intended, or was taken for abandoned since.
        """

    async def abandon(self, blob: str) -> bool:
        """Make sure that a blob can never be switched to; False when it already was.

        True as well for one that was abandoned before, or that nobody knows. Whoever removes what a reseal
        wrote asks here first: a switch whose answer was lost counts.
        """

    async def doom_leftovers(self, limit: int) -> int:
        """Begin the removal of leftovers whose time has come, as `Bin.doom` does; return how many."""

    async def leftovers(self, limit: int, after: str | None = None) -> Sequence[Leftover]:
        """Page through leftovers that are being removed, in order of blob; none of them under a hold."""

    async def leftover_gone(self, blob: str) -> None:
        """Forget a leftover of which no target holds anything. Idempotent."""
