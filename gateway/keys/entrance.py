"""Who may be served at all: nobody of a tenant whose keys may not be used, needed or not.

Guarantees that a tenant that is suspended (by us, or by its key's owner), ordered to be shredded, or shredded
is refused on every route that asks here, also on those that need no key; what the key service said is
remembered for the tenant's time at most. While the key service does not answer, its last word counts: who
was refused stays refused, others get in to what needs no key, and the rest fails by itself.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from gateway.keys.data_keys import KeyService
from keyservice.wire import (
    Altered,
    KeyServiceError,
    Shredded,
    Suspended,
    Unavailable,
    UnknownTenant,
)

T = TypeVar("T")
KNOWN: Final = 10_000  # tenants
PATIENCE: Final = 1.0  # seconds to wait for the key service, where no key is needed
REST: Final = 5.0  # seconds for which it is not asked again after it did not answer


class Entrance:
    """One for all routes. `clock` is for tests."""

    def __init__(self, keys: KeyService, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._refused: OrderedDict[str, KeyServiceError] = OrderedDict()
        self._silent: OrderedDict[str, float] = OrderedDict()  # until when it is not asked

    async def admit(self, tenant: str) -> None:
        """Return, or raise Suspended, SuspendedByOwner, Shredding, Shredded, Denied or Throttled."""
        if self._silent.get(tenant, float("-inf")) > self._clock():
            return self._last_word(tenant)
        try:
            if not self._keys.remembered(tenant):
                async with asyncio.timeout(PATIENCE):
                    await self._keys.usable(tenant)
        except (Suspended, Shredded) as error:
            _keep(self._refused, tenant, error)
            raise
        except Altered:
            raise  # that is no outage
        except (Unavailable, TimeoutError):
            _keep(self._silent, tenant, self._clock() + REST)
            return self._last_word(tenant)
        except UnknownTenant:
            return None  # the catalog knows whether there is such a tenant
        self._refused.pop(tenant, None)
        return None

    def _last_word(self, tenant: str) -> None:
        refusal = self._refused.get(tenant)
        if refusal is not None:
            raise type(refusal)(str(refusal))


def _keep(known: OrderedDict[str, T], tenant: str, value: T) -> None:
    known[tenant] = value
    known.move_to_end(tenant)
    if len(known) > KNOWN:
        known.popitem(last=False)
