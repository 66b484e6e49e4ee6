"""What the catalog knows of every copy: for those who repair, scrub, restore and report.

A replica is one version on one target: its body, if it has one, and its envelope.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from gateway.model import ReplicaState, Version


@dataclass(frozen=True, slots=True)
class Finding:
    """What somebody saw of one replica. `reason` is one word, such as `flipped` or `absent`.

    `blob` is the one that was looked at, and `kek` what its envelope is under; empty where that is not
    known. A copy that is ahead of the catalog has no KEK to tell.
    """

    version: str
    target: str
    state: ReplicaState
    reason: str = ""
    blob: str = ""
    kek: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A replica to bring back, leased to whoever claimed it until `until`.

    `good` are the targets that hold the version, as far as is known. `version` comes with its inline
    body, so that what belongs into a store can be made from it.
    """

    version: Version = field(repr=False)
    target: str
    state: ReplicaState  # MISSING or DAMAGED
    since: datetime
    tries: int
    good: frozenset[str]
    until: datetime
    reason: str = ""  # what was found, as in `Finding`


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one target is behind: versions that it should hold and does not."""

    target: str
    objects: int
    bytes: int
    oldest: datetime | None  # since when the longest waiting one is missing
    failing: int  # of them, those that were tried in vain


@dataclass(frozen=True, slots=True)
class Held:
    """One version and what is known of it on one target (None: there is no row)."""

    version: Version = field(repr=False)
    state: ReplicaState | None
    checked: datetime | None  # when its bytes were last verified there


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored replica by name and size, without what takes room."""

    version: str
    tenant: str
    blob: str
    body_size: int  # 0: the body travels in the envelope


@dataclass(frozen=True, slots=True)
class Holding:
    """What a target holds: stored replicas, the bytes of their bodies, those that nobody verified yet.

    `oldest` is when the one was verified that waits the longest since; None where none ever was.
    """

    objects: int
    bytes: int
    unchecked: int
    oldest: datetime | None


class Replicas(Protocol):
    """The states of replicas. Every method is one transaction, by the catalog's clock.

    But `adopt` and `lag` take one for each page and target.

    Raises only CatalogErrors.
    """

    async def report(self, findings: Sequence[Finding]) -> int:
        """Record what was seen; return how many states changed.

        Only states that are known change, and never those of a replica being deleted, or of another blob
        than the version has now. A replica that is newly missing or damaged is due for repair at once.
        STORED also marks it as verified now; under another KEK than the version it is stale as well.
        """

    async def adopt(self, target: str, limit: int) -> int:
        """Record as missing on `target` up to `limit` versions that have no row there, in any order.

        Returns how many: a target that was added to the configuration is back-filled by calling this
        until it returns 0. No call takes long. Versions that are being purged are left out.
        """

    async def claim(
        self,
        targets: Collection[str],
        *,
        lease: timedelta,
        limit: int,
        newest: bool,
        tenant: str | None = None,
    ) -> Sequence[Gap]:
        """Lease gaps on these targets that are due and that nobody else has leased.

        Newest versions first, or oldest. Two that claim at once never get the same gap. Gaps that no
        target is known to fill are claimed too: their `good` is empty.
        """

    async def extend(self, gaps: Sequence[Gap], lease: timedelta) -> Sequence[Gap]:
        """Go on holding these gaps; return those that are still the caller's, with the new `until`."""

    async def filled(self, gap: Gap, kek: str) -> bool:
        """Record that the replica is whole, verified now, with an envelope under `kek`.

        Under another one than the version it is stale from now on; nothing is known of it where `kek` is
        empty, as in a `Finding`.

        False if the gap was no longer the caller's or the version is being purged: what was written is
        then somebody else's to judge. They are told of it, by a stale copy, where it is under another KEK
        than the version.
        """

    async def failed(self, gap: Gap, retry: timedelta) -> bool:
        """Give a gap back, one more time tried in vain, due again after `retry`.

        What was tried may have been written all the same: that is told as by `filled`. False if the gap was
        no longer the caller's: whoever took the replica for whole does not know what was done to it since.
        """

    async def release(self, gaps: Sequence[Gap]) -> None:
        """Give gaps back untried, due at once."""

    async def lag(self, targets: Collection[str], *, tenant: str | None = None) -> Sequence[Lag]:
        """Tell how far each of these targets is behind, one entry each, in the order given.

        A target counts as behind also by versions that have no row there, which takes long where there
        are many: adopt them first. Of one tenant, only what has a row counts.
        """

    async def held(
        self,
        target: str,
        *,
        after: str | None = None,
        limit: int = 500,
        tenant: str | None = None,
        attachment: str | None = None,
    ) -> Sequence[Held]:
        """Page through all versions (those in the trash too) in order of id, with inline bodies.

        Without those that are being purged.
        """

    async def stranded(
        self, targets: Collection[str], *, after: str | None = None, limit: int = 500
    ) -> Sequence[Version]:
        """Page, in order of id, through versions whose body is stored on none of these targets.

        With empty envelopes, and without those that are being purged or travel in the catalog whole.
        """

    async def unchecked(self, target: str, limit: int, *, again: bool = False) -> Sequence[Held]:
        """Return stored replicas on `target`: those never verified first, then the longest ago.

        With `again` without those that never were.
        """

    async def kept(
        self, target: str, *, after: str | None = None, limit: int = 1000
    ) -> Sequence[Kept]:
        """Page through the stored replicas on `target` in order of their versions' ids."""

    async def holding(self, target: str, *, tenant: str | None = None) -> Holding:
        """Sum up the stored replicas on `target`, of one tenant or of all. Reads a row for each."""

    async def version(self, version: str) -> Version | None:
        """Return one version by id, whichever tenant's, with its inline body; None if there is none."""

    async def owners(self, blobs: Sequence[str]) -> dict[str, str]:
        """Map each of these blobs that a version owns to that version's id."""
