"""When keys are due to be rotated, and when that was missed: by the key service's record of their age.

Guarantees that a tenant's own schedule goes before the configured one of its tier, that what is due is told
by when the current key was made and by nothing that a worker remembers, and that what nobody rotated for
`grace` after it was due is overdue. Decides; rotates nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.model import now
from gateway.ports import Rotation, Wraps

NEVER: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a tenant's keys are rotated; zero: never. `own`: which of the two the tenant's own is."""

    kek: timedelta
    root: timedelta
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Turn:
    """When one key is to be rotated: `every` so long after it was made `since`; zero: never."""

    every: timedelta
    since: datetime | None
    due: datetime | None
    is_due: bool
    overdue: bool


class Schedules:
    """What is asked for, of all tenants. `defaults` are by tier; what they leave open is never."""

    def __init__(
        self,
        wraps: Wraps,
        defaults: Mapping[str, Rotation],
        *,
        grace: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._wraps = wraps
        self._defaults = defaults
        self._grace = grace
        self._clock = clock

    async def of(self, tenant: str | None, tier: str) -> Schedule:
        """Return a tenant's schedule; None: of one that has none of its own. Raises NotFound."""
        own = Rotation() if tenant is None else await self._wraps.schedule(tenant)
        default = self._defaults.get(tier, Rotation())
        return Schedule(
            _first(own.kek, default.kek),
            _first(own.root, default.root),
            frozenset(
                name for name, span in (("kek", own.kek), ("root", own.root)) if span is not None
            ),
        )

    def turn(self, every: timedelta, since: datetime | None) -> Turn:
        """Tell when what was made `since` is to be rotated; None: nobody knows when, so never."""
        if every == NEVER or since is None:
            return Turn(every, since, None, is_due=False, overdue=False)
        due, present = since + every, self._clock()
        return Turn(every, since, due, present >= due, present >= due + self._grace)


def _first(*spans: timedelta | None) -> timedelta:
    return next((span for span in spans if span is not None), NEVER)
