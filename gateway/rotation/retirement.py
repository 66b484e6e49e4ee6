"""Retires KEKs: has the key service destroy those that nothing refers to, and refuses any other.

Guarantees that nothing becomes unreadable by it. Caches are waited out first. Then the catalog is told that
nothing comes under the KEK any more, which holds for every upload, rewrap and reseal from there on; only
then is it looked up, once more, whether anything is under it, anywhere; and only if nothing is, the key
service destroys it. What was closed stays closed, so that of two who retire it neither opens it to uploads
under the other's hands. Killed anywhere it can be asked again. A catalog that does not know what a target
holds is what `verification` is for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from gateway.errors import NotFound
from gateway.keys.data_keys import KeyControl
from gateway.model import new_id, now
from gateway.ports import KekUse, Wraps
from gateway.rotation.status import (
    DESTROYED,
    SETTLE,
    KekStatus,
    KeyStatuses,
    notice_ends,
    settles,
    use_blocks,
    used,
)
from keyservice.wire import WrongState

log = structlog.get_logger()
Verify = Callable[[str, frozenset[str]], Awaitable[Sequence[str]]]
"""Tells what refers to any of a tenant's KEKs on the targets themselves, in words."""


@dataclass(frozen=True, slots=True)
class Retired:
    """What became of one KEK: destroyed, or what keeps it."""

    id: str
    blocks: tuple[str, ...] = ()


class Retirement:
    """The use case. `waiting` in its method is told how long caches are waited for."""

    def __init__(
        self,
        control: KeyControl,
        wraps: Wraps,
        statuses: KeyStatuses,
        *,
        clock: Callable[[], datetime] = now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._control = control
        self._wraps = wraps
        self._statuses = statuses
        self._clock = clock
        self._sleep = sleep

    async def retire(
        self,
        tenant: str,
        chosen: str | None,
        *,
        reason: str,
        verify: Verify | None = None,
        waiting: Callable[[timedelta], None] = lambda _: None,
    ) -> Sequence[Retired]:
        """Retire one KEK, or with None all that were replaced, as far as nothing refers to them.

        Raises NotFound, CatalogErrors, KeyServiceErrors, and what `verify` raises.
        """
        found = await self._statuses.of(tenant)
        if chosen is not None and chosen not in {each.about.id for each in found.keks}:
            raise NotFound("the tenant has no such KEK: `sealgate keys status` shows them")
        asked = [
            each
            for each in found.keks
            if each.about.id == chosen or (chosen is None and each.about.state == "retired")
        ]
        # What will not go away by waiting is told at once.
        settled = settles(found.keys) or self._clock()
        stands = {each.about.id for each in asked if _stands(each, max(settled, self._clock()))}
        if any(each.about.state != DESTROYED and each.about.id not in stands for each in asked):
            wait = settled - self._clock()
            # Told by a clock that is ahead it shall not take longer than it must.
            wait = min(wait, timedelta(seconds=found.keys.cache_ttl) + SETTLE)
            if wait > timedelta():
                waiting(wait)
                await self._sleep(wait.total_seconds())
        return [
            Retired(
                each.about.id,
                each.blocks
                if each.about.id in stands
                else await self._one(tenant, each, reason, verify),
            )
            for each in asked
        ]

    async def _one(
        self, tenant: str, kek: KekStatus, reason: str, verify: Verify | None
    ) -> tuple[str, ...]:
        if kek.about.state == DESTROYED:
            return ()
        if blocks := (await self._now(tenant, kek.about.id)).blocks:
            return blocks
        name = kek.about.id
        await self._wraps.retiring(tenant, name)
        # It stays closed whatever is found: somebody else may be about to destroy it.
        blocks = use_blocks(await self._use(tenant, name))
        if not blocks and verify is not None:
            blocks = tuple(await verify(tenant, frozenset({name})))
        if blocks:
            return blocks
        try:
            await self._control.retire_kek(tenant, name, reason=reason, request_id=new_id())
        except WrongState as error:
            return (str(error),)  # it was replaced too lately, for one
        log.info("KEK retired", tenant=tenant, retired=name)
        return ()

    async def _now(self, tenant: str, kek: str) -> KekStatus:
        found = await self._statuses.of(tenant)
        return next(each for each in found.keks if each.about.id == kek)

    async def _use(self, tenant: str, kek: str) -> KekUse:
        return next((use for use in await self._wraps.uses(tenant) if use.kek == kek), KekUse(kek))


def _stands(kek: KekStatus, settled: datetime) -> bool:
    """Tell whether something keeps it that does not go away by waiting for caches, until `settled`."""
    notice = notice_ends(kek.about)
    late = kek.about.state != "retired" or (notice is not None and notice > settled)
    return used(kek.use) or (late and bool(kek.blocks))
