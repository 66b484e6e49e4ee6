"""How often a tenant's keys were used, summed up until it is written to the key journal.

By operation, KEK and outcome, with the time of the last; and the calls of the root and the key store for
it, by call and outcome. Knows nothing of how it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LINES: Final = 200  # of uses in one entry


@dataclass(slots=True)
class Use:
    """How often, and when last."""

    count: int
    last: str


@dataclass(slots=True)
class Summary:
    """What was used of one tenant's keys since some time."""

    since: str
    uses: dict[tuple[str, str, str], Use] = field(default_factory=dict)
    """By operation, KEK and outcome."""

    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Of a root, by its name, or of the key store: by call and outcome."""

    def __len__(self) -> int:
        return len(self.uses) + len(self.calls)

    def used(self, key: tuple[str, str, str], count: int, at: str) -> None:
        """Add uses."""
        before = self.uses.get(key)
        self.uses[key] = Use(count + (before.count if before else 0), at)

    @property
    def last(self) -> dict[str, str]:
        """When each KEK was last used with success."""
        found: dict[str, str] = {}
        for (_, kek, outcome), use in self.uses.items():
            if kek and outcome == "ok":
                merge(found, {kek: use.last})
        return found

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Return what the entries of it say, no more than so many uses in each."""
        uses = [
            {"operation": operation, "kek": kek, "outcome": outcome, **_counted(use)}
            for (operation, kek, outcome), use in sorted(self.uses.items())
        ]
        calls = [
            {"of": of, "call": call, "outcome": outcome, "count": count}
            for (of, call, outcome), count in sorted(self.calls.items())
        ]
        for start in range(0, max(len(uses), 1), LINES):
            part = uses[start : start + LINES]
            yield {"since": self.since, "uses": part, "calls": [] if start else calls}


def merge(found: dict[str, str], other: Mapping[str, str]) -> None:
    """Keep the later time of each KEK."""
    for kek, time in other.items():
        found[kek] = max(time, found.get(kek, ""))


def _counted(use: Use) -> dict[str, Any]:
    return {"count": use.count, "last": use.last}
