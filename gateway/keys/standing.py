"""How a tenant stands with the key service: whether what it stored may be brought back.

Guarantees that nothing of a tenant whose keys were destroyed is brought back: the key service is asked
before the first version of a tenant, and again after `fresh` seconds. It is never guessed: when the key
service cannot be asked, its error goes to the caller. A suspended tenant's copies are kept up like any
other's, since a suspension may end; opening them is the key service's to refuse.
"""

import time
from collections.abc import Callable
from typing import Final

from gateway.keys.data_keys import KeyService
from keyservice.wire import UnknownTenant

SHREDDED: Final = "shredded"
UNKNOWN: Final = "unknown to the key service"
FRESH: Final = 30.0


class Standing:
    """Remembers what it was told, one word a tenant. `clock` is for tests."""

    def __init__(
        self,
        keys: KeyService,
        *,
        fresh: float = FRESH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._fresh = fresh
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}

    async def refusal(self, tenant: str) -> str:
        """Return why nothing of this tenant may be brought back; empty when it may.

        A tenant that the key service does not know is refused, too: its keys are not there, and
        whether they were destroyed nobody can say. Raises KeyServiceErrors.
        """
        told, until = self._told.get(tenant, ("", 0.0))
        if until > self._clock():
            return told
        try:
            state = (await self._keys.tenant(tenant)).state
        except UnknownTenant:
            reason = UNKNOWN
        else:
            reason = SHREDDED if state == "shredded" else ""
        self._told[tenant] = reason, self._clock() + self._fresh
        return reason
