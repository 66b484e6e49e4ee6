"""What a drill did and found, and how far it got: kept with its run, so that whoever comes next goes on.

Guarantees that nothing is counted twice: what is kept says behind which version it was all counted. What
stood still for longer than a day is begun anew, since it would prove something about another day. Keeps no
content, no name and no key.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from gateway.model import Version, now
from gateway.ports import Run
from gateway.recovery.trial import LOCKED

LISTED: Final = 100
BREAK: Final = timedelta(days=1)
_TIMES: Final = ("started", "copy", "newest")


@dataclass(slots=True)
class Drilled:
    """What a drill did and found."""

    source: str
    everything: bool
    started: datetime
    checked: int = 0
    bytes: int = 0  # of plaintext that was opened and compared
    missing: int = 0  # versions that the catalog in use says this backup lacks
    locked: int = 0  # versions of tenants whose keys may not be used: no fault of the backup's
    failures: list[tuple[str, str]] = field(default_factory=list)  # version, why; the first of them
    failed: int = 0
    copy: datetime | None = None  # when the copy of the catalog that was loaded was taken
    copy_rows: int = 0
    copy_failed: str = ""
    newest: datetime | None = None  # creation of the newest version that was opened
    catalog_seconds: float = 0.0  # until the empty catalog was filled
    rpo: float = 0.0  # seconds: since when the longest waiting version is missing on the backup
    rto: float = 0.0  # seconds until everything that was asked for had been restored and opened

    @property
    def good(self) -> bool:
        """Whether nothing failed, and there was something, if there should have been."""
        return not self.failed and not self.copy_failed and bool(self.checked or not self.missing)

    def took(self, version: Version, size: int) -> None:
        """Count a version that came back as it was."""
        self.checked += 1
        self.bytes += size
        self.newest = max(version.created, self.newest or version.created)

    def fail(self, version: str, why: str) -> None:
        """Count a version that could not be restored as it was."""
        if why in LOCKED:
            self.locked += 1
            return
        self.failed += 1
        if len(self.failures) < LISTED:
            self.failures.append((version, why))

    def as_json(self) -> dict[str, Any]:
        """Return it for programs, and for the record."""
        return {
            "source": self.source,
            "everything": self.everything,
            "started": self.started.isoformat(),
            "good": self.good,
            "checked": self.checked,
            "bytes": self.bytes,
            "failed": self.failed,
            "failures": [list(each) for each in self.failures],
            "missing": self.missing,
            "locked": self.locked,
            "catalog_copy": self.copy.isoformat() if self.copy else None,
            "catalog_copy_rows": self.copy_rows,
            "catalog_copy_failed": self.copy_failed,
            "newest": self.newest.isoformat() if self.newest else None,
            "catalog_seconds": round(self.catalog_seconds, 3),
            "rpo_seconds": round(self.rpo, 3),
            "rto_seconds": round(self.rto, 3),
        }

    def counts(self) -> dict[str, int]:
        """Return what there is to be seen of a drill under way."""
        return {
            "checked": self.checked,
            "bytes": self.bytes,
            "failed": self.failed,
            "missing": self.missing,
            "locked": self.locked,
        }


class Ledger(Protocol):
    """What a drill has of the row of its run."""

    run: Run

    async def save(self, cursor: str, progress: Mapping[str, int]) -> None:
        """Remember how far it got."""


class Course:
    """How far one drill got. `after` is the last version that was tried; `resumed`: by another process.

    `seed` is the same for whoever goes on with it, and for nobody else. Versions are tried in order of id.
    """

    def __init__(
        self,
        drilled: Drilled,
        sample: int,
        ledger: Ledger | None,
        *,
        seed: str,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.drilled = drilled
        self.after: str | None = None
        self.resumed = False
        self.seed = seed
        self._sample = sample
        self._ledger = ledger
        self._clock = clock
        self._began = time.monotonic()
        self._before = 0.0  # seconds that others worked on it
        if ledger is not None:
            self.seed = ledger.run.id
            self._go_on(ledger.run.cursor)

    async def keep(self, after: str | None) -> None:
        """Remember that everything up to a version was tried. Raises RunLost."""
        self.after = after
        self.drilled.rto = self._before + time.monotonic() - self._began
        if self._ledger is not None:
            kept = {
                "after": after,
                "sample": self._sample,
                "saved": self._clock().isoformat(),
                "drilled": asdict(self.drilled),
            }
            cursor = json.dumps(kept, default=datetime.isoformat)
            await self._ledger.save(cursor, self.drilled.counts())

    def _go_on(self, cursor: str) -> None:
        """Take up what somebody left, if it is the same drill, and of today."""
        kept = json.loads(cursor) if cursor else {}
        drilled = kept.get("drilled", {})
        of = (drilled.get("source"), drilled.get("everything"), kept.get("sample"))
        if of != (self.drilled.source, self.drilled.everything, self._sample):
            return
        if self._clock() - datetime.fromisoformat(kept["saved"]) > BREAK:
            return
        self.drilled = _drilled(drilled)
        self.after, self.resumed = kept["after"], True
        self._before = self.drilled.rto


def _drilled(kept: Mapping[str, Any]) -> Drilled:
    values = {each.name: kept[each.name] for each in fields(Drilled)}
    times = {name: kept[name] and datetime.fromisoformat(kept[name]) for name in _TIMES}
    failures = [(version, why) for version, why in kept["failures"]]
    return Drilled(**{**values, **times, "failures": failures})
