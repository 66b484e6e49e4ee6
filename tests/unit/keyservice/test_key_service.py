"""The use cases on fakes: item by item, on record, and never across tenants."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence

import pytest

from keyservice.access.audit import Auditor
from keyservice.access.policy import Caller, Gate, allow_all, parse
from keyservice.desk.desk import Call, Desk
from keyservice.desk.service import KeyService
from keyservice.errors import (
    CannotUnwrap,
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Suspended,
    Throttled,
    Unavailable,
    UnknownTenant,
)
from keyservice.journal.journal import Journal
from keyservice.keys.keyring import Keyring
from keyservice.metrics import Metrics
from keyservice.records import KekState, RootRef, TenantState, Tier
from keyservice.wire import DataKey, WrappedKey
from tests.unit.keyservice.fakes import (
    FakeClock,
    FakeJournal,
    FakeRoot,
    FakeSink,
    FakeStore,
    add_tenant,
    put,
    tenant_id,
)

A, B = tenant_id("a"), tenant_id("b")
CALL = Call(Caller(("dns:g",)), "request-1", "because")


class Bench:
    """A key service on fakes, and all that it stands on."""

    def __init__(self) -> None:
        self.root, self.store, self.sink = FakeRoot(), FakeStore(), FakeSink()
        self.clock = FakeClock()
        self.gate = Gate(allow_all("dns:g"), clock=self.clock)
        self.metrics = Metrics()
        self.lines = FakeJournal()
        self.journal = Journal(self.lines, instance="here")
        self.service = KeyService(
            root=self.root,
            store=self.store,
            keyring=Keyring(self.root, self.store, clock=self.clock),
            desk=Desk(self.gate, Auditor(self.sink, timeout=0.2), self.metrics, self.journal),
            cache_ttl={Tier.STANDARD: 300, Tier.BUSINESS: 60},
        )

    async def keys(self, tenant: str, *contexts: bytes) -> list[DataKey]:
        """Return fresh keys, all of them made."""
        found = (await self.service.data_keys(CALL, tenant, contexts)).items
        assert all(isinstance(key, DataKey) for key in found)
        return [key for key in found if isinstance(key, DataKey)]

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey]
    ) -> list[bytes | KeyServiceError]:
        """Return what each opens to."""
        return (await self.service.unwrap(CALL, tenant, keys)).items

    async def rewrap(
        self, tenant: str, keys: Sequence[WrappedKey]
    ) -> list[bytes | KeyServiceError]:
        """Return each under the current KEK."""
        return (await self.service.rewrap(CALL, tenant, keys)).items

    def outcomes(self) -> Counter[tuple[str, str, str, int]]:
        """Return what is on record, and forget it."""
        found = Counter((r.operation, r.key, r.outcome, r.count) for r in self.sink.records)
        self.sink.records.clear()
        return found


@pytest.fixture
async def bench() -> Bench:
    """Give a service with the tenants a and b."""
    bench = Bench()
    for name in ("a", "b"):
        await add_tenant(bench.root, bench.store, name)
    return bench


async def test_what_was_made_unwraps(bench: Bench) -> None:
    keys = await bench.keys(A, b"one", b"two")
    assert len({key.dek for key in keys} | {key.wrapped for key in keys}) == 4
    wrapped = [WrappedKey(keys[0].wrapped, b"one"), WrappedKey(keys[1].wrapped, b"two")]
    assert await bench.unwrap(A, wrapped) == [key.dek for key in keys]


async def test_a_batch_is_answered_item_by_item(bench: Bench) -> None:
    good, other = await bench.keys(A, b"c", b"d")
    foreign = (await bench.keys(B, b"c"))[0]
    bench.outcomes()
    items = [
        WrappedKey(good.wrapped, b"c"),
        WrappedKey(good.wrapped, b"wrong context"),
        WrappedKey(foreign.wrapped, b"c"),
        WrappedKey(b"not a wrapped key", b"c"),
        WrappedKey(good.wrapped[:-1] + bytes([good.wrapped[-1] ^ 1]), b"c"),
        WrappedKey(other.wrapped, b"d"),
    ]
    found = await bench.unwrap(A, items)
    assert (found[0], found[5]) == (good.dek, other.dek)
    assert all(isinstance(item, CannotUnwrap) for item in found[1:5])
    assert len({str(item) for item in found[1:5]}) == 1  # one message for every kind
    assert bench.outcomes() == Counter(
        {
            ("unwrap", f"{A}/1", "ok", 2): 1,
            ("unwrap", f"{A}/1", "cannot-unwrap", 2): 1,
            ("unwrap", "", "cannot-unwrap", 2): 1,
        }
    )


async def test_keys_of_several_requests_are_on_record_by_their_own_ids(bench: Bench) -> None:
    """Also of one that was refused, and of a batch that was refused whole."""
    (key,) = await bench.keys(A, b"c")
    bench.sink.records.clear()
    good, bad = WrappedKey(key.wrapped, b"c"), WrappedKey(key.wrapped, b"another context")
    call = dataclasses.replace(CALL, requests=("one", "two", "one", "request-1"))
    await bench.service.unwrap(call, A, [good, bad, good, good])
    with pytest.raises(UnknownTenant):
        await bench.service.unwrap(call, tenant_id("x"), [good] * 4)
    assert [(r.request_id, r.key, r.outcome, r.count) for r in bench.sink.records] == [
        ("one", f"{A}/1", "ok", 2),
        ("two", f"{A}/1", "cannot-unwrap", 1),
        ("request-1", f"{A}/1", "ok", 1),
        ("one", "", "unknown-tenant", 2),
        ("two", "", "unknown-tenant", 1),
        ("request-1", "", "unknown-tenant", 1),
    ]
    assert {r.reason for r in bench.sink.records} == {CALL.reason}


async def test_one_tenants_key_never_opens_as_anothers_warm_or_cold(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    item = [WrappedKey(key.wrapped, b"c")]
    assert await bench.unwrap(A, item) == [key.dek]
    for _ in range(2):
        assert isinstance((await bench.unwrap(B, item))[0], CannotUnwrap)


async def test_a_kek_id_rewritten_to_the_other_tenants_does_not_open(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    forged = key.wrapped.replace(A.encode(), B.encode())
    assert forged != key.wrapped
    found = await bench.unwrap(B, [WrappedKey(forged, b"c")])
    assert isinstance(found[0], CannotUnwrap)


async def test_rewrap_moves_to_the_current_kek_and_shows_no_key(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    old = bench.store.held[A].record
    await add_tenant(bench.root, bench.store, "a", versions=2)
    new = bench.store.held[A].record
    retired = dataclasses.replace(old.keks[0], state=KekState.RETIRED)
    record = dataclasses.replace(new, keks=(retired, new.keks[1]))
    put(bench.root, bench.store, record)
    bench.clock.now += 1000
    moved = await bench.rewrap(A, [WrappedKey(key.wrapped, b"c")])
    assert isinstance(moved[0], bytes)
    assert key.dek not in moved[0]
    assert f"{A}/2".encode() in moved[0]
    assert await bench.unwrap(A, [WrappedKey(moved[0], b"c")]) == [key.dek]
    again = await bench.rewrap(A, [WrappedKey(moved[0], b"c")])
    assert again == moved  # there already
    bad = await bench.rewrap(A, [WrappedKey(moved[0], b"other")])
    assert isinstance(bad[0], CannotUnwrap)


async def test_one_kek_out_of_reach_fails_only_its_items(bench: Bench) -> None:
    await add_tenant(bench.root, bench.store, "a", versions=2)
    record = bench.store.held[A].record
    first = dataclasses.replace(
        record, keks=(dataclasses.replace(record.keks[0], state=KekState.CURRENT),)
    )
    put(bench.root, bench.store, first)
    old = (await bench.keys(A, b"old"))[0]
    put(bench.root, bench.store, record)
    bench.clock.now += 1000
    new = (await bench.keys(A, b"new"))[0]
    bench.root.down = True
    items = [WrappedKey(old.wrapped, b"old"), WrappedKey(new.wrapped, b"new")]
    found = await bench.unwrap(A, items)
    assert isinstance(found[0], Unavailable)
    assert found[0].retry_after is not None
    assert found[1] == new.dek


@pytest.mark.parametrize(
    ("state", "error"), [(TenantState.SUSPENDED, Suspended), (TenantState.SHREDDED, Shredded)]
)
async def test_a_tenant_that_is_not_active_gets_nothing(
    bench: Bench, state: TenantState, error: type[KeyServiceError]
) -> None:
    await add_tenant(bench.root, bench.store, "a", state=state)
    with pytest.raises(error):
        await bench.service.data_keys(CALL, A, [b"c"])
    with pytest.raises(error):
        await bench.service.create_tenant(CALL, A, Tier.STANDARD)
    assert {record.outcome for record in bench.sink.records} == {error.code}
    assert (await bench.service.tenant_status(CALL, A)).state is state


async def test_an_unknown_tenant_is_unknown_and_on_record(bench: Bench) -> None:
    with pytest.raises(UnknownTenant):
        await bench.unwrap(tenant_id("x"), [WrappedKey(b"w", b"c")] * 3)
    assert bench.outcomes() == Counter({("unwrap", "", "unknown-tenant", 3): 1})


async def test_create_is_idempotent_and_keeps_the_tier(bench: Bench) -> None:
    tenant = tenant_id("new")
    assert await bench.service.create_tenant(CALL, tenant, Tier.BUSINESS)
    assert bench.root.calls == ["create", "wrap"]
    record = bench.store.held[tenant].record
    assert (record.cache_ttl, record.tier) == (60, Tier.BUSINESS)
    assert not await bench.service.create_tenant(CALL, tenant, Tier.BUSINESS)
    with pytest.raises(Invalid):
        await bench.service.create_tenant(CALL, tenant, Tier.STANDARD)
    assert bench.store.held[tenant].record == record


async def test_of_many_creators_one_wins_and_all_use_its_kek(bench: Bench) -> None:
    tenant = tenant_id("new")
    found = await asyncio.gather(
        *(bench.service.create_tenant(CALL, tenant, Tier.STANDARD) for _ in range(20))
    )
    assert sum(found) == 1
    assert len(bench.store.held[tenant].record.keks) == 1
    assert len({r.key for r in bench.sink.records}) == 1


async def test_two_tenants_created_anew_never_share_a_kek_id(bench: Bench) -> None:
    tenant, ids = tenant_id("new"), set()
    for _ in range(2):  # as after a key store that was restored from before
        bench.store.held.pop(tenant, None)
        await bench.service.create_tenant(CALL, tenant, Tier.STANDARD)
        ids.add(bench.store.held[tenant].record.keks[0].id)
    assert len(ids) == 2


async def test_a_denied_request_touches_nothing_and_is_on_record(bench: Bench) -> None:
    stranger = Call(Caller(("dns:stranger",)), "r", "why not")
    with pytest.raises(Denied):
        await bench.service.data_keys(stranger, A, [b"c"])
    assert bench.store.reads == 0
    assert bench.root.calls == []
    assert bench.outcomes() == Counter({("data-keys", "", "denied", 1): 1})


async def test_the_policy_is_asked_even_when_the_key_is_cached(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    bench.gate.policy = parse(
        '[[rule]]\nname="n"\neffect="deny"\ncallers=["*"]\ntenants=["*"]\noperations=["unwrap"]'
    )
    with pytest.raises(Denied):
        await bench.unwrap(A, [WrappedKey(key.wrapped, b"c")])


async def test_a_rate_is_spent_by_the_keys_of_a_batch(bench: Bench) -> None:
    bench.gate.policy = parse(
        '[[rule]]\nname="n"\neffect="allow"\ncallers=["*"]\ntenants=["*"]\noperations=["*"]\n'
        "rate={per_second=1,burst=5}"
    )
    await bench.keys(A, *[b"c"] * 5)
    with pytest.raises(Throttled) as refused:
        await bench.keys(A, b"c")
    assert refused.value.retry_after == pytest.approx(1)
    await bench.keys(B, b"c")


async def test_every_use_is_on_record_even_from_the_cache(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    for _ in range(3):
        await bench.unwrap(A, [WrappedKey(key.wrapped, b"c")])
    assert bench.root.calls == ["unwrap"]
    assert [r.operation for r in bench.sink.records] == ["data-keys", "unwrap", "unwrap", "unwrap"]
    record = bench.sink.records[-1]
    assert (record.caller, record.tenant, record.request_id) == ("dns:g", A, "request-1")
    assert (record.reason, record.key, record.outcome) == ("because", f"{A}/1", "ok")


@pytest.mark.parametrize("fault", ["fails", "hangs"])
@pytest.mark.parametrize("caller", ["dns:g", "dns:stranger"])
async def test_without_a_record_there_is_no_answer(bench: Bench, fault: str, caller: str) -> None:
    setattr(bench.sink, fault, True)
    call = Call(Caller((caller,)), "r", "x")
    with pytest.raises(Unavailable) as refused:
        await bench.service.data_keys(call, A, [b"c"])
    assert refused.value.retry_after is not None
    with pytest.raises(Unavailable):
        await bench.service.tenant_status(call, A)


async def test_what_nobody_foresaw_is_on_record_and_says_nothing(bench: Bench) -> None:
    async def broken(tenant: str, root: RootRef, wrapped: str) -> bytes:
        raise ZeroDivisionError(tenant, root, wrapped)

    bench.root.unwrap = broken  # type: ignore[method-assign]
    with pytest.raises(KeyServiceError) as failed:
        await bench.service.data_keys(CALL, A, [b"c"])
    assert (type(failed.value), str(failed.value)) == (KeyServiceError, "internal")
    assert bench.outcomes() == Counter({("data-keys", "", "internal", 1): 1})


async def test_a_thousand_cold_unwraps_make_one_root_call(bench: Bench) -> None:
    key = (await bench.keys(A, b"c"))[0]
    bench.clock.now += 1000
    bench.root.calls.clear()
    item = [WrappedKey(key.wrapped, b"c")]
    found = await asyncio.gather(*(bench.unwrap(A, item) for _ in range(1000)))
    assert all(answer == [key.dek] for answer in found)
    assert bench.root.calls == ["unwrap"]


async def test_no_record_log_or_figure_holds_a_key(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    key = (await bench.keys(A, b"c"))[0]
    await bench.unwrap(A, [WrappedKey(key.wrapped, b"c")])
    shown = repr(bench.sink.records) + bench.metrics.exposition().decode()
    shown += "".join(capsys.readouterr()) + repr(key)
    assert repr(key.dek)[2:-1] not in shown
    assert key.dek.hex() not in shown
