"""A drill tells a backup that can be restored from, and one that cannot."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from envelope.envelope import decode, encode
from gateway.duties.record import on_record
from gateway.errors import CatalogConflict, NotFound
from gateway.model import SYSTEM, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.ports import RunState
from gateway.recovery.drill import EVERYTHING, Drill
from gateway.recovery.drilled import Drilled
from gateway.recovery.trial import Scratch
from tests.doubles.blobs import flipped
from tests.doubles.stores import FaultyStore
from tests.unit.gateway.recovery.conftest import Site, content

Opened = Callable[[], AbstractAsyncContextManager[Scratch]]


class Places:
    """Makes scratch places, and remembers what was in them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.stores: list[FaultyStore] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Scratch]:
        catalog = await self._site.new_catalog()
        self.stores.append(FaultyStore())
        yield Scratch(catalog, catalog.recovery, catalog.dumps, catalog.runs, self.stores[-1])
        assert self.stores[-1].keys == []


def drill_of(site: Site, places: Places | None = None) -> Drill:
    catalog = site.bench.catalog
    return Drill(
        catalog.replicas,
        catalog.runs,
        site.bench.keys,
        site.backups(),
        scratch=places or Places(site),
        rate=Rate(),
        sample=50,
        part_size=5 << 20,
    )


async def fill(site: Site) -> None:
    for number, size in enumerate((0, 10, 1024, 1025, 300_000)):
        await site.bench.store(content(size, number), f"r/{number}")
    await site.bench.store(b"replaced", "r/1")


@pytest.mark.parametrize("everything", [False, True])
async def test_a_good_backup_comes_back_whole(site: Site, everything: bool) -> None:  # noqa: FBT001
    await fill(site)
    await site.backups().make()
    places = Places(site)

    drilled = await drill_of(site, places).record(site.east, everything=everything)

    assert drilled.good
    if everything:  # a sample is random
        assert (drilled.checked, drilled.bytes) == (6, 10 + 1024 + 1025 + 300_000 + 8)
    assert drilled.checked > 0
    assert drilled.copy is not None
    assert drilled.copy_rows > 10
    assert (drilled.missing, drilled.rpo) == (0, 0.0)
    assert drilled.rto >= drilled.catalog_seconds > 0
    run = (await site.bench.catalog.runs.history())[0]
    assert (run.state, run.subject) == (RunState.DONE, "east")
    assert run.outcome == drilled.as_json()
    assert list(await drill_of(site).history("east")) == [drilled.as_json()]


async def test_everything_but_the_backup_may_be_gone(site: Site) -> None:
    await fill(site)
    site.bench.primary._objects.clear()
    site.bench.west._objects.clear()
    assert (await drill_of(site).run(site.east, everything=True)).checked == 6


async def damaged(site: Site, how: str) -> str:
    """Damage one version on the backup; return its id."""
    receipt = await site.bench.store(content(300_000, 9), "victim")
    version = receipt.version
    body, envelope = (key(version.tenant, version.blob) for key in (body_key, envelope_key))
    if how == "flipped":
        bytes_ = bytearray(await site.object(body))
        bytes_[1000] ^= 1
        await site.plant(body, bytes(bytes_))
    elif how == "no body":
        await site.bench.east.delete(body)
    elif how == "no envelope":
        await site.bench.east.delete(envelope)
    elif how == "another's":
        other = await site.bench.store(content(300_000, 8), "other")
        await site.plant(
            envelope, await site.object(envelope_key(version.tenant, other.version.blob))
        )
    elif how == "attributes":
        data = decode(await site.object(envelope))
        await site.plant(envelope, encode(replace(data, attributes=flipped(data.attributes, 0))))
    return version.id


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("how", ["flipped", "no body", "no envelope", "another's", "attributes"])
async def test_what_is_wrong_is_found(
    site: Site,
    how: str,
    everything: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.recovery.trial.SKEW", timedelta())
    version = await damaged(site, how)

    drilled = await drill_of(site).record(site.east, everything=everything)

    assert not drilled.good
    assert version in [each for each, _ in drilled.failures]
    run = (await site.bench.catalog.runs.history())[0]
    assert run.state is RunState.FAILED
    assert run.outcome["failed"] == drilled.failed


async def test_what_the_catalog_knows_to_be_missing_is_how_far_it_is_behind(site: Site) -> None:
    await site.bench.store(b"there", "a")
    site.bench.patience = 0.5
    site.bench.east.gate.clear()
    await site.bench.store(content(300_000), "b")
    site.bench.east.gate.set()
    drilled = await drill_of(site).run(site.east, everything=True)
    assert (drilled.checked, drilled.missing, drilled.failed) == (1, 1, 0)
    assert drilled.rpo > 0


async def test_a_copy_of_the_catalog_that_does_not_load_is_a_failure(site: Site) -> None:
    await fill(site)
    await site.backups().make()
    (copy,) = await site.backups().copies(site.east)
    key = body_key(SYSTEM, copy.blob)
    body = bytearray(await site.object(key))
    body[-1] ^= 1
    await site.plant(key, bytes(body))
    drilled = await drill_of(site).run(site.east, everything=True)
    assert drilled.copy_failed == "Unreadable"
    assert (drilled.checked, drilled.failed) == (6, 0)
    assert not drilled.good


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("state", ["suspended", "shredded"])
async def test_a_tenant_whose_keys_are_withheld_is_no_failure(
    site: Site,
    state: str,
    copied: bool,  # noqa: FBT001
    everything: bool,  # noqa: FBT001
) -> None:
    await fill(site)
    if copied:
        await site.backups().make()
    site.bench.keys.states[site.bench.tenant] = state
    drilled = await drill_of(site).run(site.east, everything=everything)
    assert (drilled.good, drilled.failures, drilled.checked, drilled.locked) == (True, [], 0, 6)


async def test_damage_is_found_though_the_keys_are_withheld(site: Site) -> None:
    version = await damaged(site, "flipped")
    await site.backups().make()
    site.bench.keys.states[site.bench.tenant] = "suspended"
    drilled = await drill_of(site).run(site.east, everything=True)
    assert [each for each, _ in drilled.failures] == [version]


async def test_one_drill_of_a_target_at_a_time(site: Site) -> None:
    catalog = site.bench.catalog
    async with on_record(catalog.runs, EVERYTHING, "east"):
        with pytest.raises(CatalogConflict):
            await drill_of(site).record(site.east, everything=True)
    async with asyncio.TaskGroup() as group:  # another kind is no hindrance
        group.create_task(drill_of(site).record(site.east))


async def test_a_drill_that_breaks_off_is_on_record_as_failed(site: Site) -> None:
    drill = drill_of(site)

    async def broken(*_: object, **__: object) -> Drilled:
        raise NotFound("x")

    drill.run = broken  # type: ignore[method-assign]
    with pytest.raises(NotFound):
        await drill.record(site.east)
    run = (await site.bench.catalog.runs.history())[0]
    assert (run.state, run.outcome) == (RunState.FAILED, {"error": "NotFound"})
    assert list(await drill.history()) == []


async def test_the_record_is_kept_alive(site: Site) -> None:
    lease, runs = timedelta(seconds=8), site.bench.catalog.runs
    async with on_record(runs, "drill", "east", lease=lease):
        (begun,) = await runs.history()
        async with asyncio.timeout(60):
            while (await runs.history())[0].touched == begun.touched:  # noqa: ASYNC110 - of a row
                await asyncio.sleep(0.05)
        assert await runs.claim("drill", "east", holder="x", every=lease, lease=lease) is None
