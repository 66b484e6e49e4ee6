"""What verifying replicas came to: told to the catalog, logged, and counted.

Guarantees that everything found of a replica reaches the catalog, where repair finds it, before a run
says how far it got; and that a log line names nothing but random ids. It changes nothing in a store.
"""

import enum
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from gateway.errors import DutyFailed
from gateway.model import ReplicaState, Version
from gateway.ports import Finding, Replicas, Run
from gateway.repair.verify import Under

STALE: Final = 5.0  # seconds after which what was seen may not hold any more
BATCH: Final = 100  # replicas that the catalog is told of at once
LISTED: Final = 200  # findings that a report names one by one

log = structlog.get_logger()


class Kind(enum.StrEnum):
    """What can be wrong with what a target holds."""

    MISSING = "missing"  # the body or the envelope is not there
    DAMAGED = "damaged"  # altered, cut, or longer than it was
    REPLAYED = "replayed"  # another version of the same attachment
    SWAPPED = "swapped"  # somebody else's
    UNOPENED = "unopened"  # whole, as far as can be told without keys, but does not open
    ORPHANED = "orphaned"  # nobody's
    UNMEASURED = "unmeasured"  # the catalog's own record is damaged, so that nothing can be told


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that was found, by random ids. `version` is empty for what is nobody's."""

    target: str
    kind: Kind
    reason: str
    blob: str
    version: str = ""


@dataclass(slots=True)
class Tally:
    """What was done on one target.

    `again` of the verified were verified before. `stale` have an envelope under an older KEK than the
    catalog's, which is written again, and `ahead` one that is newer than the catalog's. `unreachable` could
    not be looked at, `locked` could not be opened because the key service had no key for them now. None of
    these are findings.
    """

    verified: int = 0
    again: int = 0
    bytes: int = 0
    stale: int = 0
    ahead: int = 0
    opened: int = 0
    locked: int = 0
    unreachable: int = 0
    listed: int = 0  # objects
    strange: int = 0  # of them, those under no key of ours
    found: Counter[str] = field(default_factory=Counter)  # by kind
    troubles: list[Trouble] = field(default_factory=list)  # the first `LISTED`

    def counts(self) -> dict[str, int]:
        """Return what goes on record while a run goes on."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return numbers | {f"{_FOUND}{kind}": self.found[kind] for kind in self.found}

    def resume(self, counts: Mapping[str, int]) -> "Tally":
        """Go on from what is on record."""
        for name in _NUMBERS:
            setattr(self, name, counts.get(name, 0))
        for name, count in counts.items():
            if name.startswith(_FOUND):
                self.found[name.removeprefix(_FOUND)] = count
        return self

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "findings": {kind.value: self.found[kind] for kind in Kind},
            "troubles": [
                {"kind": each.kind.value, "reason": each.reason, "blob": each.blob}
                | ({"version": each.version} if each.version else {})
                for each in self.troubles
            ],
        }


_FOUND: Final = "found "
_NUMBERS: Final = (
    "verified",
    "again",
    "bytes",
    "stale",
    "ahead",
    "opened",
    "locked",
    "unreachable",
    "listed",
    "strange",
)


class TargetAway(DutyFailed):
    """A target did not answer for so long that its scrub was given up; the next one goes on."""


class Ledger(Protocol):
    """What a run has of its row."""

    @property
    def run(self) -> Run:
        """Where to go on from."""

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Keep how far it got."""


class Watch(Protocol):
    """Who is told, for figures."""

    def verified(self, target: str, size: int) -> None:
        """Tell of a replica that is whole; `size` is of its body."""

    def found(self, target: str, kind: str) -> None:
        """Tell of a finding: a `Kind`."""


class Unwatched:
    """Nobody is told."""

    def verified(self, target: str, size: int) -> None:
        """See `Watch`."""

    def found(self, target: str, kind: str) -> None:
        """See `Watch`."""


class Findings:
    """What is found on one target, on its way to the catalog, the log and a tally."""

    def __init__(self, replicas: Replicas, target: str, tally: Tally, watch: Watch) -> None:
        self.target = target
        self.tally = tally
        self._replicas = replicas
        self._watch = watch
        self._waiting: list[Finding] = []
        self._since = 0.0

    async def good(self, version: Version, under: Under, *, again: bool = False) -> None:
        """Note a replica that is whole, and what its envelope is under. Raises CatalogErrors."""
        self.tally.verified += 1
        self.tally.again += again
        self.tally.bytes += version.body_size
        self.tally.stale += bool(under.known) and under.kek != version.kek
        self.tally.ahead += under.ahead
        self._watch.verified(self.target, version.body_size)
        whole = Finding(version.id, self.target, ReplicaState.STORED, "", version.blob, under.known)
        await self._tell(whole)

    async def bad(self, version: str, blob: str, kind: Kind, reason: str) -> None:
        """Note a stored replica that is not. Raises CatalogErrors.

        One that is no longer stored, as far as the catalog knows, is being purged or found already: that
        is no finding.
        """
        state = ReplicaState.MISSING if kind is Kind.MISSING else ReplicaState.DAMAGED
        finding = Finding(version, self.target, state, reason, blob)
        if kind is Kind.UNMEASURED or await self._replicas.report([finding]):
            self._note(Trouble(self.target, kind, reason, blob, version))

    def orphan(self, blob: str, reason: str) -> None:
        """Note objects that are nobody's."""
        self._note(Trouble(self.target, Kind.ORPHANED, reason, blob))

    async def flush(self) -> None:
        """Tell the catalog what it was not told yet. Raises CatalogErrors."""
        if self._waiting:
            batch, self._waiting = self._waiting, []
            await self._replicas.report(batch)

    async def _tell(self, finding: Finding) -> None:
        now = time.monotonic()
        self._since = self._since if self._waiting else now
        self._waiting.append(finding)
        # Soon: damage that a read reports meanwhile must not be taken back by what was seen before it.
        if len(self._waiting) >= BATCH or now - self._since >= STALE:
            await self.flush()

    def _note(self, trouble: Trouble) -> None:
        self.tally.found[trouble.kind] += 1
        if len(self.tally.troubles) < LISTED:
            self.tally.troubles.append(trouble)
        self._watch.found(trouble.target, trouble.kind)
        log.error(
            "scrub finding",
            target=trouble.target,
            kind=trouble.kind.value,
            reason=trouble.reason,
            blob=trouble.blob,
            version=trouble.version or None,
        )
