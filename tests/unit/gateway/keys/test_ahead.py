"""Keys fetched ahead: fewer requests, the same bindings, nothing held for long."""

import asyncio
import os

from gateway.keys.ahead import LEAST, MOST, KeysAhead, Ready
from tests.unit.gateway.conftest import Bench


async def test_uploads_in_a_row_share_requests_for_keys_and_read_back(bench: Bench) -> None:
    contents = {f"r{number}": os.urandom(100) for number in range(40)}
    for reference, content in contents.items():
        await bench.store(content, reference)
        await bench.background.settle()

    assert len(bench.keys.made) < 15
    assert max(bench.keys.made) <= MOST
    for reference, content in contents.items():
        assert await bench.read(reference) == content


async def test_a_new_version_of_what_is_there_asks_for_a_key_of_its_own(bench: Bench) -> None:
    for number in range(6):
        await bench.store(b"%d" % number)
        await bench.background.settle()

    assert await bench.read() == b"5"


async def test_a_tenant_that_uploads_seldom_has_none_fetched(bench: Bench) -> None:
    now = 0.0
    ahead = KeysAhead(bench.keys, bench.background, fresh=30, clock=lambda: now)

    for _ in range(5):
        assert ahead.take(bench.tenant) is None
        await bench.background.settle()
        now += 2

    assert bench.keys.made == []


async def test_keys_that_waited_too_long_are_not_used(bench: Bench) -> None:
    now = 0.0
    ahead = KeysAhead(bench.keys, bench.background, fresh=30, clock=lambda: now)
    ahead.take(bench.tenant)
    ahead.take(bench.tenant)
    await bench.background.settle()
    assert ahead.take(bench.tenant) is not None

    now = 30.0

    assert ahead.take(bench.tenant) is None


async def test_every_key_is_given_out_once(bench: Bench) -> None:
    ahead = KeysAhead(bench.keys, bench.background, fresh=30)
    taken: list[Ready] = []
    async with asyncio.timeout(60):
        while len(taken) < 3 * LEAST:
            ready = ahead.take(bench.tenant)
            taken += [ready] if ready is not None else []
            await bench.background.settle()

    assert len({ready.upload for ready in taken}) == len(taken)
    assert len({ready.key.dek for ready in taken}) == len(taken)
    assert taken[0].key.dek.hex() not in repr(taken[0])


async def test_without_a_key_service_uploads_say_so_themselves(bench: Bench) -> None:
    bench.keys.down = True
    ahead = KeysAhead(bench.keys, bench.background, fresh=30)
    for _ in range(3):
        assert ahead.take(bench.tenant) is None
        await bench.background.settle()


async def test_none_are_kept_where_nothing_may_be_cached(bench: Bench) -> None:
    ahead = KeysAhead(bench.keys, bench.background, fresh=0)
    for _ in range(5):
        assert ahead.take(bench.tenant) is None
    assert bench.keys.made == []


async def test_a_burst_makes_the_next_batch_large_enough(bench: Bench) -> None:
    ahead = KeysAhead(bench.keys, bench.background, fresh=30)
    for _ in range(32):  # all come while the first batch is on its way
        assert ahead.take(bench.tenant) is None
    await bench.background.settle()
    for _ in range(2 * LEAST):
        ahead.take(bench.tenant)
    await bench.background.settle()

    assert bench.keys.made[1] >= 30
