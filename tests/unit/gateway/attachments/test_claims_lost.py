"""A claim of an idempotency key that nobody heard of any more does not keep the key."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway.attachments.operations import Operations
from gateway.attachments.uploads import Draft
from gateway.errors import CatalogUnavailable
from gateway.model import Operation
from tests.unit.gateway.conftest import Bench, pieces


@dataclass
class Mute:
    """A catalog that makes its first claim, and then fails to say so."""

    inner: Any
    error: BaseException | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def claim(self, operation: Operation, lease: timedelta) -> Operation:
        claimed: Operation = await self.inner.claim(operation, lease)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return claimed


@pytest.mark.parametrize("error", [CatalogUnavailable("lost"), asyncio.CancelledError()], ids=repr)
async def test_the_key_is_free_again(bench: Bench, error: BaseException) -> None:
    catalog: Any = Mute(bench.catalog, error)
    operations = Operations(catalog, bench.uploads, bench.downloads, bench.background)

    async def send() -> bool:
        draft = Draft(bench.tenant, "report")
        _, replayed = await operations.store_once(
            draft, pieces(b"content"), key="key", fingerprint=b"same"
        )
        return replayed

    with pytest.raises(type(error)):
        await send()
    await bench.background.settle()

    assert not await send()
    assert await send()
