"""What the report of a restore says: whole numbers and ids, and no name that a user chose.

Up to `LISTED` versions are named one by one; beyond that the items file, whose digest is in the report,
has them all. `docs/operations.md` describes the fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.recovery.journal import Journal
from gateway.recovery.restore import Outcome, Troubles

KIND: Final = "sealgate restore 1"
LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a run was about, as it was begun: what a journal's header says, and who ran."""

    about: Mapping[str, Any]
    gateway: str  # the version
    key_service: bool  # whether it was asked how tenants stand


def account(
    circumstances: Circumstances, journal: Journal, troubles: Troubles, ended: datetime
) -> dict[str, Any]:
    """Return the report of a run that came to its end. Reads the journal, which may block."""
    tally = journal.tally
    return {
        "kind": KIND,
        "run": journal.run,
        "gateway": circumstances.gateway,
        **circumstances.about,
        "key_service": "asked" if circumstances.key_service else "not asked",
        "started": journal.started.isoformat(),
        "ended": ended.isoformat(),
        "milliseconds": round((ended - journal.started).total_seconds() * 1000),
        "resumed": journal.resumed,
        "counts": {
            outcome.value: {"versions": tally.counts[outcome], "bytes": tally.sizes[outcome]}
            for outcome in Outcome
        },
        "failed": dict(troubles.failed),
        "refused": dict(troubles.refused),
        "versions": _listed(journal),
        "items": {"file": journal.kept.name, **journal.digest()},
    }


def _listed(journal: Journal) -> dict[str, list[str]] | None:
    """Return the ids by outcome, None where there are too many."""
    last: dict[str, str] = {}
    for entry in journal.entries():
        last[entry.version] = entry.outcome
        if len(last) > LISTED:
            return None
    listed: dict[str, list[str]] = {outcome.value: [] for outcome in Outcome}
    for version, outcome in sorted(last.items()):
        listed.setdefault(outcome, []).append(version)
    return listed
