"""A rebuild from a store that does not list in order of keys ends, instead of missing half of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from gateway.errors import Unreadable
from gateway.keys.data_keys import KeyService
from gateway.model import body_key, envelope_key
from gateway.pacing.patience import Patience
from gateway.ports import Stat
from gateway.recovery.envelopes import Envelopes, Listing
from gateway.stores.memory import MemoryStore

TENANT = "a" * 32
ONE, TWO = "1" * 32, "2" * 32


class Listed(MemoryStore):
    """Lists these keys, in this order."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self._listed = keys

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        for key in self._listed:
            if key.startswith(prefix):
                yield Stat(key, 1, datetime.now(UTC))


async def _offered(*keys: str) -> list[str]:
    envelopes = Envelopes(Listed(*keys), cast("KeyService", None), patience=Patience(1))
    return [offer.blob async for offer in envelopes.offers(Listing())]


async def test_a_listing_out_of_order_is_refused() -> None:
    keys = [body_key(TENANT, TWO), envelope_key(TENANT, TWO), envelope_key(TENANT, ONE)]
    with pytest.raises(Unreadable, match="in order of their keys"):
        await _offered(*keys)


async def test_keys_of_others_may_come_in_any_order() -> None:
    keys = ["t/x/1", body_key(TENANT, ONE), "t/0", envelope_key(TENANT, ONE), "t/a-b/c"]
    assert await _offered(*keys) == [ONE]
