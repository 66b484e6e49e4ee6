"""One KEK of a tenant takes the place of another, in turns, until nothing that counts is under an older one.

Guarantees that a turn which is killed anywhere is gone on with by the next, without another KEK; that new
data keys are under the new KEK from the first moment; that everything stays readable, since the older
KEKs stay until somebody retires them; and that what is told at the end was looked up then. A turn that
began before every cache has forgotten the older KEK is not the last: uploads may still commit under it.
Uploads that take longer are counted, and left to whoever finishes it later.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, Self

import structlog

from gateway.duties.duty import Ledger
from gateway.errors import first
from gateway.model import new_id, now
from gateway.ports import KekUse, Wraps
from gateway.rotation.pushing import Pushed, Pushing
from gateway.rotation.rewrapping import Choice, Moved, Rewrapping
from keyservice.wire import Shredded, TenantKeys

REASON: Final = "rotate"
_MARGIN: Final = timedelta(seconds=1)
_PAUSE: Final = 0.2  # seconds between two looks for what is to be pushed
_LOOK: Final = 500

log = structlog.get_logger()


class Control(Protocol):
    """What a renewal asks of the key service: some of `gateway.keys.data_keys.KeyControl`."""

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Describe a tenant's keys as they are now."""

    async def rotate_kek(
        self, tenant: str, expected: str, *, reason: str, request_id: str = ""
    ) -> TenantKeys:
        """Replace the KEK `expected` by a new one; where another is current, change nothing."""


@dataclass(slots=True)
class Renewed:
    """What a turn came to, with all turns of the run before it. `until`: when the next one is due."""

    tenant: str
    current: str = ""  # the id of the KEK
    made: bool = False
    moved: Moved = field(default_factory=Moved)
    pushed: dict[str, Pushed] = field(default_factory=dict)
    uploads: int = 0  # under way since before the end: they may yet commit under an older KEK
    left: int = 0  # of what is chosen, those still under an older KEK, counted up to 500 for each
    stale: Mapping[str, int] = field(default_factory=dict)  # by target: copies still to be written
    until: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not (
            self.until is not None
            or self.left
            or self.uploads
            or self.moved.failed
            or any(self.stale.values())
        )

    def counts(self) -> dict[str, int]:
        """Return what a row keeps of it."""
        return {
            "rewrapped": self.moved.rewrapped,
            "failed": self.moved.failed,
            "pushed": sum(each.pushed for each in self.pushed.values()),
            "left": self.left,
            "uploads": self.uploads,
            "stale": sum(self.stale.values()),
        }

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "tenant": self.tenant,
            "kek": self.current,
            "made": self.made,
            "complete": self.complete,
            **self.counts(),
            "elsewhere": self.moved.elsewhere,
            "wrong": self.moved.wrong,
            "targets": {
                name: {**asdict(each), "stale": self.stale.get(name, 0)}
                for name, each in self.pushed.items()
            },
        }


def current_of(keys: TenantKeys) -> str:
    """Return the id of the current KEK. Raises Shredded when there is none."""
    if keys.current is None:
        raise Shredded("the tenant's keys are destroyed")
    return keys.current.id


@dataclass(frozen=True, slots=True)
class _Cursor:
    """How far a renewal got: which KEK is to go, then which one came and since when it rules."""

    expected: str = ""
    new: str = ""
    since: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(**json.loads(text)) if text else cls()

    def __str__(self) -> str:
        return json.dumps(asdict(self))


class Renewal:
    """The mechanism. `ahead` is for how many seconds a gateway may use data keys that it has fetched."""

    def __init__(
        self,
        wraps: Wraps,
        control: Control,
        rewrapping: Rewrapping,
        pushing: Pushing,
        *,
        ahead: float,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._wraps = wraps
        self._control = control
        self._rewrapping = rewrapping
        self._pushing = pushing
        self._ahead = ahead
        self._clock = clock

    async def turn(
        self, tenant: str, ledger: Ledger, choice: Choice, renewed: Renewed, *, fresh: bool
    ) -> None:
        """Do what can be done now; `until` tells whether and when another turn is needed.

        With `fresh` a KEK is made, once a run. Raises CatalogErrors, KeyServiceErrors, Unreadable and
        RunLost.
        """
        cursor = _Cursor.read(ledger.run.cursor)
        if not cursor.new:
            cursor = await self._begin(tenant, ledger, cursor, fresh=fresh)
            renewed.made = fresh
        began = self._clock()
        keys = await self._control.tenant(tenant)
        renewed.current = current_of(keys)
        await self._move(tenant, renewed.current, choice, renewed, ledger)
        wait = timedelta(seconds=keys.cache_ttl + self._ahead) + _MARGIN
        # Told by a clock that was ahead it shall not take longer than it must.
        settled = min(datetime.fromisoformat(cursor.since), self._clock()) + wait
        renewed.until = settled if began < settled else None
        # Counted before the judgement, which sees what of them has committed by then.
        renewed.uploads = await self._wraps.begun(tenant, settled)
        await self._judge(tenant, renewed.current, choice, renewed)
        await ledger.note(str(cursor), renewed.counts())

    async def _begin(self, tenant: str, ledger: Ledger, cursor: _Cursor, *, fresh: bool) -> _Cursor:
        """Make the KEK, so that another try after a crash makes no other one."""
        if not fresh:
            kek = current_of(await self._control.tenant(tenant))
        else:
            if not cursor.expected:
                cursor = _Cursor(current_of(await self._control.tenant(tenant)))
                await ledger.note(str(cursor), {})
            made = await self._control.rotate_kek(
                tenant, cursor.expected, reason=REASON, request_id=new_id()
            )
            kek = current_of(made)
            log.info("KEK rotated", tenant=tenant, old=cursor.expected, new=kek)
        cursor = _Cursor(cursor.expected, kek, self._clock().isoformat())
        await ledger.note(str(cursor), {})
        return cursor

    async def _move(
        self, tenant: str, current: str, choice: Choice, renewed: Renewed, ledger: Ledger
    ) -> None:
        """Rewrap in the catalog, and write to all targets at once what comes of it."""
        moved = asyncio.Event()

        async def push(target: str) -> None:
            tally = renewed.pushed.setdefault(target, Pushed())
            while True:
                last = moved.is_set()
                await self._pushing.push(target, tally, tenant=tenant)
                if last or tally.away:
                    return
                await ledger.save(ledger.run.cursor, renewed.counts())
                await asyncio.sleep(_PAUSE)

        try:
            async with asyncio.TaskGroup() as group:
                for target in self._pushing.targets:
                    group.create_task(push(target))
                for use in await self._wraps.uses(tenant):
                    if use.kek != current and use.versions:
                        await self._rewrapping.move(tenant, use.kek, choice, renewed.moved)
                moved.set()
        except BaseExceptionGroup as error:
            raise first(error) from None

    async def _judge(self, tenant: str, current: str, choice: Choice, renewed: Renewed) -> None:
        """Look up what is left."""
        left, stale = 0, dict.fromkeys(self._pushing.targets, 0)
        for use in await self._wraps.uses(tenant):
            if use.kek != current:
                left += await self._visible(use, choice)
                for target, copies in use.stale.items():
                    stale[target] = stale.get(target, 0) + copies
        renewed.left, renewed.stale = left, stale

    async def _visible(self, use: KekUse, choice: Choice) -> int:
        """Count what is under a KEK and could be moved: not what is being purged."""
        if not use.versions:
            return 0
        page = await self._wraps.on_kek(
            use.kek, limit=_LOOK, created_before=choice.before, attachment=choice.attachment
        )
        return len(page)
