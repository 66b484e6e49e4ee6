"""What the client is given after its tenant was refused does not come into its cache any more."""

import asyncio

import pytest
from aiohttp import web

from keyservice.client.client import KeyServiceClient
from keyservice.errors import Suspended
from keyservice.wire import WrappedKey
from tests.service.keyservice.test_key_service_client import (
    CALL,
    KEY,
    TENANT,
    failing,
    opened,
    scripted,
)


async def test_what_was_under_way_at_a_refusal_is_given_and_not_kept() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return await opened(request)

    other = WrappedKey(b"other", b"context")
    async with (
        scripted(late, failing(Suspended("no"))) as script,
        KeyServiceClient(script.url, timeout=60.0, attempt_timeout=60.0) as client,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.unwrap(TENANT, [KEY], **CALL))
        await begun.wait()
        with pytest.raises(Suspended):
            await client.unwrap(TENANT, [other], **CALL)
        go.set()
        assert isinstance((await first)[0], bytes)
        with pytest.raises(Suspended):
            await client.usable(TENANT)
        with pytest.raises(Suspended):
            await client.unwrap(TENANT, [KEY], **CALL)
