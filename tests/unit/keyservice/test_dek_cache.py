"""The client's short cache: found only for the same tenant, context and wrapped key, and in time."""

from dataclasses import replace

import pytest

from keyservice.client.client import KeyServiceClient
from keyservice.client.dek_cache import DekCache
from keyservice.wire import WrappedKey
from tests.unit.keyservice.fakes import FakeClock

KEY = WrappedKey(b"wrapped", b"context")
DEK = b"D" * 32


def test_only_the_same_tenant_context_and_wrapped_key_find_it() -> None:
    cache = DekCache(10, 30, FakeClock())
    cache.put("a", KEY, DEK, cache.until(cache.now(), 3600))
    assert cache.get("a", KEY) == DEK
    assert cache.get("b", KEY) is None
    assert cache.get("a", WrappedKey(b"wrapped", b"other")) is None
    assert cache.get("a", WrappedKey(b"other", b"context")) is None
    assert cache.get("a", WrappedKey(b"wrappedc", b"ontext")) is None


def test_it_ends_by_the_time_it_was_asked_for() -> None:
    clock = FakeClock()
    cache = DekCache(10, 30, clock)
    asked = cache.now()
    clock.now += 20
    cache.put("a", KEY, DEK, cache.until(asked, 3600))
    clock.now += 9
    assert cache.get("a", KEY) == DEK
    clock.now += 1
    assert cache.get("a", KEY) is None
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("size", "ttl", "fresh"), [(0, 30.0, 9.0), (10, 0.0, 9.0), (10, 30.0, 0.0)]
)
def test_nothing_of_any_keeps_nothing(size: int, ttl: float, fresh: float) -> None:
    cache = DekCache(size, ttl, FakeClock())
    until = cache.until(cache.now(), fresh)
    cache.put("a", KEY, DEK, until)
    cache.used("a", until)
    assert len(cache) == 0
    assert cache.get("a", KEY) is None
    assert not cache.usable("a")


def test_it_ends_by_the_time_that_the_key_service_allows() -> None:
    clock = FakeClock()
    cache = DekCache(10, 30, clock)
    until = cache.until(cache.now(), 5)
    cache.put("a", KEY, DEK, until)
    cache.used("a", until)
    cache.used("a", replace(until, until=until.until - 3))  # an answer that came late
    clock.now += 4
    assert cache.usable("a")
    clock.now += 1
    assert cache.get("a", KEY) is None
    assert not cache.usable("a")


def test_it_is_bounded_and_the_least_used_leaves() -> None:
    cache = DekCache(2, 30, FakeClock())
    keys = [WrappedKey(bytes([number]), b"c") for number in range(3)]
    cache.put("a", keys[0], DEK, cache.until(cache.now(), 3600))
    cache.put("a", keys[1], DEK, cache.until(cache.now(), 3600))
    cache.get("a", keys[0])
    cache.put("a", keys[2], DEK, cache.until(cache.now(), 3600))
    assert [cache.get("a", key) is not None for key in keys] == [True, False, True]


def test_forgetting_a_tenant_leaves_the_others() -> None:
    cache = DekCache(10, 30, FakeClock())
    for tenant in ("a", "b"):
        cache.put(tenant, KEY, DEK, cache.until(cache.now(), 3600))
        cache.used(tenant, cache.until(cache.now(), 3600))
    cache.forget("a")
    assert cache.get("a", KEY) is None
    assert not cache.usable("a")
    assert cache.usable("b")
    assert cache.get("b", KEY) == DEK


def test_what_was_asked_before_a_tenant_was_forgotten_does_not_come_in_after_it() -> None:
    cache = DekCache(2, 30, FakeClock())
    before = cache.until(cache.now(), 3600)
    cache.forget("a")
    cache.put("a", KEY, DEK, before)
    cache.used("a", before)
    cache.used("b", before)
    assert cache.get("a", KEY) is None
    assert not cache.usable("a")
    assert cache.usable("b")
    after = cache.until(cache.now(), 3600)
    cache.put("a", KEY, DEK, after)
    cache.used("a", after)
    assert cache.get("a", KEY) == DEK
    assert cache.usable("a")


def test_it_remembers_no_more_tenants_than_keys_and_lets_no_old_answer_in_for_that() -> None:
    cache = DekCache(2, 30, FakeClock())
    before = cache.until(cache.now(), 3600)
    for tenant in ("a", "b", "c", "d"):
        cache.forget(tenant)
    cache.used("a", before)
    cache.used("e", before)
    assert not cache.usable("a")
    assert not cache.usable("e")
    assert len(cache._forgotten) == 2
    cache.used("a", cache.until(cache.now(), 3600))
    assert cache.usable("a")
    now = cache.until(cache.now(), 3600)
    cache.clear()
    cache.used("a", now)
    assert not cache.usable("a")


def test_neither_keys_nor_token_are_shown() -> None:
    cache = DekCache(10, 30, FakeClock())
    cache.put("a", KEY, DEK, cache.until(cache.now(), 3600))
    client = KeyServiceClient("http://127.0.0.1:1", token="hush" * 10)
    assert "DDDD" not in repr(cache)
    assert "hush" not in repr(client) + str(client)
