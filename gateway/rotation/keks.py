"""Rotates the KEKs of tenants: of one, of several, or of all, some at a time.

Guarantees that each tenant's rotation is a row that one process holds, so that nobody rotates a tenant twice
at once, and that one which was interrupted is gone on with by whoever asks next; that one tenant's failure
keeps no other from its turn; and that nobody waits for caches while another tenant could have its turn. How
one tenant's KEK is renewed is `renewal`'s; roots are `roots`'.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.duties.record import AlreadyRunning
from gateway.duties.resumed import LEASE, resumed
from gateway.errors import GatewayError, NotFound, RunLost, Unreadable, first
from gateway.model import SYSTEM, now
from gateway.ports import Catalog, Runs, Wraps
from gateway.rotation.renewal import Control, Renewal, Renewed, current_of
from gateway.rotation.rewrapping import EVERYTHING, Choice
from keyservice.wire import KeyServiceError, Shredded, Shredding, Suspended, UnknownTenant

KIND: Final = "rotate-kek"
AT_ONCE: Final = 4  # tenants
REFUSALS: Final[Mapping[str, type[KeyServiceError]]] = {
    "suspended": Suspended,
    "shredding": Shredding,
    "shredded": Shredded,
}
_PAGE: Final = 500
_OF_ONE: Final = (KeyServiceError, AlreadyRunning, RunLost, Unreadable, NotFound)


@dataclass(slots=True)
class Rotated:
    """What became of one tenant. `error`: why it could not be gone on with."""

    renewed: Renewed
    error: KeyServiceError | GatewayError | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. Without `fresh` no KEK is made: what is under older ones is moved."""

    choice: Choice = EVERYTHING
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rotation of one tenant would have to do now."""

    tenant: str
    current: str  # the id of the KEK
    versions: int
    stale: int


@dataclass(order=True, slots=True)
class _Later:
    """A tenant whose caches are waited for."""

    until: datetime
    tenant: str
    renewed: Renewed = field(compare=False)


async def everyone(catalog: Catalog, control: Control) -> AsyncIterator[str]:
    """Go through every tenant, then the reserved one if it has keys. Raises CatalogErrors."""
    after: str | None = None
    while page := await catalog.tenants(after, _PAGE):
        for tenant in page:
            yield tenant.id
        after = page[-1].id
    with suppress(UnknownTenant):
        await control.tenant(SYSTEM)
        yield SYSTEM


class Rotation:
    """The use case. `told` in its methods is called with each tenant that has come to an end."""

    def __init__(
        self,
        runs: Runs,
        wraps: Wraps,
        control: Control,
        renewal: Renewal,
        *,
        lease: timedelta = LEASE,
        at_once: int = AT_ONCE,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._runs = runs
        self._wraps = wraps
        self._control = control
        self._renewal = renewal
        self._lease = lease
        self._at_once = at_once
        self._clock = clock

    async def plan(self, tenant: str, wish: Wish) -> Plan:
        """Tell what is to be done, and do nothing. Raises CatalogErrors and KeyServiceErrors."""
        keys = await self._control.tenant(tenant)
        if refusal := REFUSALS.get(keys.state):
            raise refusal(f"the tenant is {keys.state}")
        kek = current_of(keys)
        versions = stale = 0
        for use in await self._wraps.uses(tenant):
            if wish.fresh or use.kek != kek:
                versions += await self._count(use.kek, use.versions, wish.choice)
            if use.kek != kek:
                stale += sum(use.stale.values())
        return Plan(tenant, kek, versions, stale)

    async def keks(
        self, tenants: AsyncIterator[str], wish: Wish, told: Callable[[Rotated], None]
    ) -> None:
        """Rotate the KEK of each of these tenants. Raises CatalogErrors."""
        later: list[_Later] = []
        turn = asyncio.Lock()  # of those who want the next one

        async def lane() -> None:
            while True:
                async with turn:
                    tenant = await anext(tenants, None)
                if tenant is not None:
                    renewed = Renewed(tenant)
                elif later:
                    waiting = heapq.heappop(later)
                    renewed = waiting.renewed
                    await asyncio.sleep(max((waiting.until - self._clock()).total_seconds(), 0.0))
                else:
                    return
                rotated = await self._turn(renewed, wish)
                if rotated.error is None and (until := rotated.renewed.until) is not None:
                    heapq.heappush(later, _Later(until, renewed.tenant, renewed))
                else:
                    told(rotated)

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._at_once):
                    lanes.create_task(lane())
        except BaseExceptionGroup as error:
            raise first(error) from None

    async def _turn(self, renewed: Renewed, wish: Wish) -> Rotated:
        try:
            async with resumed(self._runs, KIND, renewed.tenant, lease=self._lease) as ledger:
                await self._renewal.turn(
                    renewed.tenant, ledger, wish.choice, renewed, fresh=wish.fresh
                )
                if renewed.until is not None:
                    raise _Unfinished  # noqa: TRY301 - so that the row is given back as it is
        except _Unfinished:
            pass
        except _OF_ONE as error:
            return Rotated(renewed, error)
        return Rotated(renewed)

    async def _count(self, kek: str, versions: int, choice: Choice) -> int:
        if choice.everything:
            return versions
        count, after = 0, None
        while page := await self._wraps.on_kek(
            kek, after=after, created_before=choice.before, attachment=choice.attachment
        ):
            count += len(page)
            after = page[-1].version.id
        return count


class _Unfinished(Exception):
    """Another turn is needed, by whoever."""
