"""Data keys fetched ahead in batches, for tenants that upload often.

A data key is bound to the ids of its attachment and version, which are random; so they are drawn with
it, and an upload that takes the key takes the ids. Guarantees that a key waits no longer than `fresh`
seconds and no longer than the key service allows for the tenant, counted from before it was asked for;
that no upload waits for a batch; and that what is held is bounded. The key service records every key
when it hands it out.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from envelope.context import Context, Purpose
from gateway.keys.data_keys import KeyService
from gateway.model import new_id
from gateway.pacing.background import Background
from keyservice.wire import DataKey, KeyServiceError

log = structlog.get_logger()
LEAST, MOST = 4, 64  # keys in a batch
OFTEN = 1.0  # seconds between two uploads from which on a tenant uploads often
TENANTS = 1000
NEVER = 60.0  # seconds for which nobody asks again for a tenant whose keys may not wait


@dataclass(frozen=True, slots=True)
class Ready:
    """A data key, and the ids that it is bound to."""

    attachment: str
    upload: str
    key: DataKey = field(repr=False)


@dataclass(slots=True)
class _Stock:
    ready: deque[tuple[Ready, float]] = field(default_factory=deque, repr=False)
    batch: int = LEAST
    asked: float = float("-inf")
    missed: int = 0  # uploads that found none since the last batch was asked for
    filling: bool = False
    closed: float = float("-inf")  # until when none are fetched


class KeysAhead:
    """Keys at hand for each tenant; `fresh` 0 keeps none."""

    def __init__(
        self,
        keys: KeyService,
        background: Background,
        *,
        fresh: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._background = background
        self._fresh = fresh
        self._clock = clock
        self._stocks: dict[str, _Stock] = {}

    def take(self, tenant: str) -> Ready | None:
        """Return a key that is at hand, or None; see to it that there are some next time."""
        if not self._fresh:
            return None
        if len(self._stocks) >= TENANTS and tenant not in self._stocks:
            self._stocks.clear()
        stock, now = self._stocks.setdefault(tenant, _Stock()), self._clock()
        while stock.ready and stock.ready[0][1] <= now:
            stock.ready.popleft()
            stock.batch = max(stock.batch // 2, LEAST)  # more were fetched than were needed
        often, stock.asked = now - stock.asked < OFTEN, now
        found = stock.ready.popleft()[0] if stock.ready else None
        stock.missed += found is None
        if (
            often
            and now >= stock.closed
            and not stock.filling
            and len(stock.ready) <= stock.batch // 2
        ):
            stock.filling = True
            if stock.missed:  # also of those who came while a batch was on its way
                stock.batch, stock.missed = min(max(stock.batch * 2, stock.missed), MOST), 0
            self._background.start("fetch keys ahead", self._fill(tenant, stock))
        return found

    async def _fill(self, tenant: str, stock: _Stock) -> None:
        asked = self._clock()
        try:
            contexts = [Context(tenant, new_id(), new_id()) for _ in range(stock.batch)]
            made = await self._keys.data_keys(
                tenant,
                [context.encode(Purpose.DEK) for context in contexts],
                reason="uploads ahead",
                request_id=new_id(),
            )
            for context, key in zip(contexts, made, strict=True):
                if isinstance(key, KeyServiceError):
                    continue
                until = asked + min(self._fresh, key.fresh)
                if until <= self._clock():
                    stock.closed = asked + NEVER
                else:
                    stock.ready.append((Ready(context.attachment, context.version, key), until))
        except KeyServiceError as error:
            log.info("no keys ahead", tenant=tenant, reason=error.code)
        finally:
            stock.filling = False
