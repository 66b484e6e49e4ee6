"""Many versions get new data keys: each once, whatever stops it and however often it is asked for."""

import asyncio
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from gateway.attachments.tenants import Tenants
from gateway.attachments.uploads import Draft
from gateway.duties.resumed import resumed
from gateway.errors import CatalogUnavailable, StoreFull, StoreUnavailable, Unreadable
from gateway.model import Version, microseconds, now
from gateway.ports import RunState
from gateway.rotation.reseal import Outcome
from gateway.rotation.reseals import Reseals, Scope, Tally, Unfinished
from keyservice.wire import CannotUnwrap, Suspended
from tests.doubles.resealing import resealer
from tests.unit.gateway.conftest import PART, Bench, pieces

LEASE = timedelta(seconds=60)


class Killed(Exception):
    """The process is gone."""


@dataclass
class Pretender:
    """Reseals nothing; `ends` are what becomes of single versions, `dies` after how many it is killed."""

    ends: dict[str, Outcome | Exception] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    dies: int = 1_000_000
    most: int = 0
    running: int = 0
    before: datetime | None = None

    async def version(self, tenant: str, version: str, *, before: datetime) -> Outcome:
        del tenant
        self.before = before
        if len(self.done) >= self.dies:
            raise Killed
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        end = self.ends.get(version, Outcome.RESEALED)
        if isinstance(end, Exception):
            raise end
        self.done.append(version)
        return end


async def fill(bench: Bench, count: int, *, tenant: str | None = None) -> list[Version]:
    """Store some small attachments; return their versions in order of id."""
    made = [
        (await bench.uploads.store(Draft(tenant or bench.tenant, f"r{n}"), pieces(b"x"))).version
        for n in range(count)
    ]
    return sorted(made, key=lambda version: version.id)


async def renew(
    bench: Bench,
    sealer: Pretender,
    scope: Scope | None = None,
    *,
    before: datetime | None = None,
    parallel: int = 1,
) -> Tally:
    """Do one run; what ends it early is raised."""
    tally = Tally()
    reseals = Reseals(sealer, bench.catalog.replicas, "primary", parallel=parallel, patience=0.0)
    scope = scope or Scope(bench.tenant)
    async with resumed(bench.catalog.runs, "rotate dek", scope.subject, lease=LEASE) as ledger:
        await reseals.run(scope, ledger, before=before or now(), tally=tally)
    return tally


async def test_everything_is_done_once(bench: Bench) -> None:
    versions, sealer = await fill(bench, 5), Pretender()
    sealer.ends[versions[1].id] = Outcome.RECENT
    sealer.ends[versions[2].id] = Outcome.GONE
    sealer.ends[versions[3].id] = Outcome.OVERTAKEN
    tally = await renew(bench, sealer, parallel=3)
    assert sorted(sealer.done) == [version.id for version in versions]
    assert (tally.resealed, tally.recent, tally.gone, tally.overtaken) == (2, 1, 1, 1)
    assert tally.seen == 5
    assert 1 < sealer.most <= 3
    (run,) = await bench.catalog.runs.history("rotate dek")
    assert run.state is RunState.DONE
    assert run.progress["resealed"] == 2


async def test_killed_it_goes_on_where_it_was_and_by_the_same_time(bench: Bench) -> None:
    versions, first, second = await fill(bench, 6), Pretender(dies=3), Pretender()
    begun = now() - timedelta(hours=1)
    with pytest.raises(Killed):
        await renew(bench, first, before=begun)
    tally = await renew(bench, second, before=now())
    assert first.done + second.done == [version.id for version in versions]
    assert second.before is not None
    assert microseconds(second.before) == microseconds(begun)
    assert tally.resealed == 3
    (run,) = await bench.catalog.runs.history("rotate dek")
    assert run.progress["resealed"] == 6


async def test_the_row_says_no_more_than_was_done(bench: Bench) -> None:
    versions, slow = await fill(bench, 4), asyncio.Event()

    class Uneven(Pretender):
        async def version(self, tenant: str, version: str, *, before: datetime) -> Outcome:
            if version == versions[0].id and not slow.is_set():
                if len(self.done) == len(versions) - 1:
                    raise Killed
                await asyncio.sleep(0.05)
                return await self.version(tenant, version, before=before)
            return await super().version(tenant, version, before=before)

    first, second = Uneven(), Pretender()
    with pytest.raises(Killed):
        await renew(bench, first, parallel=2)
    await renew(bench, second)
    assert versions[0].id in second.done


@pytest.mark.parametrize(
    "error", [Unreadable("no target"), CannotUnwrap(), StoreUnavailable("down")]
)
async def test_what_fails_is_tried_again_and_the_rest_is_not(
    bench: Bench, error: Exception
) -> None:
    versions, sealer = await fill(bench, 4), Pretender()
    sealer.ends[versions[1].id] = error
    begun = now()
    with pytest.raises(Unfinished):
        await renew(bench, sealer, before=begun)
    assert len(sealer.done) == 3
    sealer.ends.clear()
    tally = await renew(bench, sealer)
    assert sealer.before is not None
    assert microseconds(sealer.before) == microseconds(begun)  # so that Reseal leaves what is done
    assert tally.seen == 4
    (run,) = await bench.catalog.runs.history("rotate dek")
    assert run.state is RunState.DONE


async def test_a_tenant_that_is_suspended_is_left_out_and_the_others_not(bench: Bench) -> None:
    other = (await Tenants(bench.catalog, bench.keys).create()).id
    mine, theirs = await fill(bench, 3), await fill(bench, 3, tenant=other)
    sealer = Pretender({version.id: Suspended("suspended") for version in theirs})
    tally = Tally()
    reseals = Reseals(sealer, bench.catalog.replicas, "primary", parallel=2)
    async with resumed(bench.catalog.runs, "rotate dek", "") as ledger:
        await reseals.run(Scope(), ledger, before=now(), tally=tally)
    assert sorted(sealer.done) == [version.id for version in mine]
    assert tally.refused == {other: "suspended"}
    assert (tally.left, tally.failed) == (3, 0)
    tally = await renew(bench, sealer, Scope(other))
    assert (tally.refused, tally.seen) == ({other: "suspended"}, 1)
    for run in await bench.catalog.runs.history("rotate dek"):
        assert run.state is RunState.DONE  # the next one goes by a time of its own


@pytest.mark.parametrize("error", [CatalogUnavailable("down"), StoreFull("full")])
async def test_what_every_version_would_meet_ends_the_run(bench: Bench, error: Exception) -> None:
    versions, sealer = await fill(bench, 4), Pretender()
    sealer.ends[versions[2].id] = error
    with pytest.raises(type(error)):
        await renew(bench, sealer)
    assert sealer.done == [version.id for version in versions[:2]]
    sealer.ends.clear()
    await renew(bench, sealer)
    assert sealer.done == [version.id for version in versions]


async def test_targets_that_are_gone_end_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.rotation.reseals.GIVE_UP", 3)
    versions = await fill(bench, 6)
    sealer = Pretender({version.id: StoreUnavailable("down") for version in versions[1:]})
    with pytest.raises(StoreUnavailable):
        await renew(bench, sealer)
    assert len(sealer.done) == 1


async def test_one_attachment_or_one_version_of_it(bench: Bench) -> None:
    first, second = await bench.store(b"one"), await bench.store(b"two")
    other = await bench.store(b"three", "other")
    tenant, sealer = bench.tenant, Pretender()
    await renew(bench, sealer, Scope(tenant, first.attachment.id))
    assert sorted(sealer.done) == sorted([first.version.id, second.version.id])
    sealer = Pretender()
    await renew(bench, sealer, Scope(tenant, first.attachment.id, first.version.id))
    assert sealer.done == [first.version.id]
    assert other.version.id not in sealer.done


async def test_one_that_takes_long_does_not_keep_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.rotation.reseals.AHEAD", 4)
    versions, gate = await fill(bench, 8), asyncio.Event()

    class Slow(Pretender):
        async def version(self, tenant: str, version: str, *, before: datetime) -> Outcome:
            if version == versions[0].id:
                await gate.wait()
            end = await super().version(tenant, version, before=before)
            if len(self.done) == 3:  # as many as may be ahead of it
                gate.set()
            return end

    sealer = Slow()
    await renew(bench, sealer, parallel=2)
    assert sorted(sealer.done) == [version.id for version in versions]
    assert sealer.done.index(versions[0].id) == 3


async def test_what_is_looked_at_only_is_counted_and_stays(bench: Bench) -> None:
    content = os.urandom(2 * PART)
    first = await bench.store(content, "first")
    await bench.store(b"small", "second")
    begun = now()
    await bench.store(b"later", "third")
    reseals = Reseals(resealer(bench), bench.catalog.replicas, "primary", parallel=2)
    tally = Tally()
    await reseals.look(Scope(bench.tenant), before=begun, tally=tally)
    assert (tally.seen, tally.resealed, tally.recent) == (3, 2, 1)
    assert tally.bytes > first.version.body_size
    assert (await bench.catalog.find(bench.tenant, "first")).version == first.version


async def test_a_tenant_of_every_kind_of_content(bench: Bench) -> None:
    contents = {f"r{size}": os.urandom(size) for size in (0, 1, 2000, PART, 2 * PART + 5)}
    for reference, content in contents.items():
        await bench.store(content, reference)
    olds = {name: (await bench.catalog.find(bench.tenant, name)).version for name in contents}
    reseals = Reseals(resealer(bench), bench.catalog.replicas, "primary", parallel=3)
    for again in range(2):
        tally, told = Tally(), list[int]()
        async with resumed(bench.catalog.runs, "rotate dek", bench.tenant) as ledger:
            before = now() if again == 0 else max(v.created for v in olds.values())
            await reseals.run(
                Scope(bench.tenant), ledger, before=before, tally=tally, told=told.append
            )
        assert (tally.resealed, tally.recent) == ((5, 0) if again == 0 else (0, 5))
        assert len(told) == 5
    for name, content in contents.items():
        assert await bench.read(name) == content
        assert (await bench.catalog.find(bench.tenant, name)).version.blob != olds[name].blob
