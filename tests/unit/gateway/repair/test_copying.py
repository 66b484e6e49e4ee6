"""Copies that converge: from any state of the target, with any fault of a source, or not at all."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import (
    ObjectMissing,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unreadable,
)
from gateway.model import ReplicaState
from gateway.pacing.rate import Rate
from gateway.ports import Finding, PartUpload, Piece, Store
from gateway.repair.copying import CATALOG, Copier
from gateway.repair.verify import check_replica
from gateway.stores.folder import FolderStore
from gateway.stores.memory import MemoryStore
from tests.doubles.blobs import Blob, flipped, overwrite, piece, place, seal, whole
from tests.doubles.stores import FaultyStore

PART = 64 * 1024
CONTENT = bytes(range(256)) * 1600  # seven parts, the last one short
SMALL, LARGE, INLINE = seal(CONTENT[:5000]), seal(CONTENT), seal(b"tiny", inline=True)
CUT = seal(CONTENT, cuts=(0, 100, 100_000))
ALL = pytest.mark.parametrize(
    "blob", [SMALL, LARGE, CUT, INLINE], ids=["small", "large", "segments", "inline"]
)
BODIES = pytest.mark.parametrize("blob", [SMALL, LARGE, CUT], ids=["small", "large", "segments"])


class Site:
    """Two good sources and an empty target, under test together."""

    def __init__(self) -> None:
        self.one, self.two, self.target = FaultyStore(), FaultyStore(), FaultyStore()
        self.findings: list[Finding] = []

    async def place(self, blob: Blob) -> None:
        await place(self.one, blob)
        await place(self.two, blob)
        for store in (self.one, self.two):
            store.calls.clear()

    async def fill(self, blob: Blob, *, replace: bool = False) -> str:
        stores = {"one": self.one, "two": self.two, "target": self.target}
        copier = Copier(stores, part_size=PART, parallel=2, rate=Rate())
        filled = await copier.fill(
            blob.version,
            "target",
            ["target", "one", "two"],
            replace=replace,
            findings=self.findings,
        )
        return filled.source


@pytest.fixture
def site() -> Site:
    return Site()


@ALL
async def test_an_empty_target_is_filled(site: Site, blob: Blob) -> None:
    await site.place(blob)
    source = await site.fill(blob)
    assert source == ("one" if blob is not INLINE else "")
    await check_replica(site.target, blob.version)
    assert site.target.calls[-1] == "put envelope"
    assert site.target.open_uploads == 0
    assert not site.findings
    assert not site.one.calls
    assert not site.two.calls


@ALL
async def test_a_whole_replica_is_taken_as_it_is(site: Site, blob: Blob) -> None:
    await place(site.target, blob)
    site.target.calls.clear()
    assert await site.fill(blob, replace=True) == "target"
    assert site.target.calls == []


@BODIES
async def test_a_body_without_envelope_is_completed(site: Site, blob: Blob) -> None:
    await site.target.put(blob.body_key, piece(blob.body))
    site.target.calls.clear()
    assert await site.fill(blob) == CATALOG
    assert site.target.calls == ["put envelope"]
    await check_replica(site.target, blob.version)


@BODIES
async def test_half_a_body_without_envelope_is_replaced(site: Site, blob: Blob) -> None:
    await site.place(blob)
    await site.target.put(blob.body_key, piece(blob.body[:-1]))
    assert await site.fill(blob) == "one"
    await check_replica(site.target, blob.version)


async def test_parts_that_were_left_behind_go(site: Site) -> None:
    await site.place(LARGE)
    left = await site.target.begin(LARGE.body_key)
    await left.part(1, piece(b"old"))
    await site.fill(LARGE)
    assert site.target.open_uploads == 0
    await check_replica(site.target, LARGE.version)


@ALL
async def test_an_envelope_without_its_body_or_damaged_is_made_good(site: Site, blob: Blob) -> None:
    await site.place(blob)
    await place(site.target, blob)
    if blob.version.inline is None:
        await site.target.delete(blob.body_key)
        await site.fill(blob)
        await check_replica(site.target, blob.version)
    await overwrite(site.target, blob.envelope_key, flipped(blob.sealed, 900))
    with pytest.raises(StoreDamaged):
        await site.fill(blob)
    await site.fill(blob, replace=True)
    await check_replica(site.target, blob.version)


@BODIES
async def test_a_damaged_body_is_replaced_only_on_demand(site: Site, blob: Blob) -> None:
    await site.place(blob)
    await place(site.target, blob)
    damaged = flipped(blob.body, 12_345)
    await overwrite(site.target, blob.body_key, damaged)
    with pytest.raises(StoreDamaged):
        await site.fill(blob)
    assert await whole(site.target, blob.body_key) == damaged
    assert await site.fill(blob, replace=True) == "one"
    await check_replica(site.target, blob.version)


@BODIES
@pytest.mark.parametrize("bad", [True, False], ids=["damaged", "absent"])
async def test_nothing_is_touched_when_no_source_is_good(
    site: Site, blob: Blob, *, bad: bool
) -> None:
    await place(site.target, blob)
    damaged = flipped(blob.body, 12_345)
    for store in (site.one, site.two, site.target):
        if bad or store is site.target:
            await overwrite(store, blob.body_key, damaged)
    with pytest.raises(Unreadable):
        await site.fill(blob, replace=True)
    assert await whole(site.target, blob.body_key) == damaged
    assert await whole(site.target, blob.envelope_key) == blob.sealed
    assert site.target.open_uploads == 0
    state, reason = (ReplicaState.DAMAGED, "flipped") if bad else (ReplicaState.MISSING, "absent")
    version = blob.version
    found = [Finding(version.id, name, state, reason, version.blob) for name in ("one", "two")]
    assert site.findings == found


@BODIES
async def test_a_source_that_breaks_is_left_at_the_same_byte(site: Site, blob: Blob) -> None:
    await site.place(blob)
    site.one.read_limit, site.one.read_fault = len(blob.body) // 2, StoreUnavailable("cut")
    assert await site.fill(blob) == "two"
    await check_replica(site.target, blob.version)
    assert site.one.bytes_read + site.two.bytes_read == len(blob.body)
    assert not site.findings


@BODIES
@pytest.mark.parametrize("bit", [0, 16_000, -1])
async def test_a_flipped_source_is_left_and_told(site: Site, blob: Blob, bit: int) -> None:
    await site.place(blob)
    site.one.flip = bit // 8 % len(blob.body)
    assert await site.fill(blob) == "two"
    await check_replica(site.target, blob.version)
    assert [(each.target, each.reason) for each in site.findings] == [("one", "flipped")]
    assert site.target.open_uploads == 0


@BODIES
async def test_a_short_source_is_left_and_told(site: Site, blob: Blob) -> None:
    await site.place(blob)
    await overwrite(site.one, blob.body_key, blob.body[:-1])
    assert await site.fill(blob) == "two"
    await check_replica(site.target, blob.version)
    assert [(each.target, each.state) for each in site.findings] == [("one", ReplicaState.DAMAGED)]


async def test_of_a_mixture_that_is_wrong_each_source_is_tried_alone(site: Site) -> None:
    # The first gives a flipped byte and breaks; the second is good, but the mixture is not.
    await site.place(LARGE)
    site.one.flip = 7
    site.one.read_limit, site.one.read_fault = 200_000, StoreUnavailable("cut")
    assert await site.fill(LARGE) == "two"
    await check_replica(site.target, LARGE.version)
    assert site.two.bytes_read > len(LARGE.body)
    assert not site.findings  # who was wrong, nobody can tell


async def test_a_body_that_somebody_wrote_meanwhile_counts_once_it_is_verified(
    site: Site,
) -> None:
    for data, good in ((LARGE.body, True), (flipped(LARGE.body, 5), False)):
        site = Site()
        await site.place(LARGE)
        site.target.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(_outcome(site.fill(LARGE)))
            await site.target.begun.wait()
            await MemoryStore.put(site.target, LARGE.body_key, piece(data))
            site.target.gate.set()
        if good:
            assert task.result() == "one"
            await check_replica(site.target, LARGE.version)
        else:
            assert isinstance(task.result(), StoreDamaged)
            assert LARGE.envelope_key not in site.target.keys
        assert site.target.open_uploads == 0


async def _outcome(call: Awaitable[str]) -> str | StoreError:
    try:
        return await call
    except StoreError as error:
        return error


@ALL
@pytest.mark.parametrize("when", ["put body", "begin", "part 2", "complete", "put envelope"])
async def test_a_target_that_fails_is_told_and_left_clean(
    site: Site, blob: Blob, when: str
) -> None:
    await site.place(blob)
    site.target.fail, site.target.fail_on = StoreFull("full"), when
    outcome = await _outcome(site.fill(blob))
    assert site.target.open_uploads == 0
    if isinstance(outcome, str):
        assert when not in site.target.calls
        return
    assert isinstance(outcome, StoreFull)
    assert blob.envelope_key not in site.target.keys
    site.target.fail = None
    await site.fill(blob)
    await check_replica(site.target, blob.version)


@ALL
async def test_cancelled_anywhere_it_leaves_nothing_visible_and_the_next_one_converges(
    blob: Blob,
) -> None:
    for steps in range(0, 120, 3):
        site = Site()
        await site.place(blob)
        task = asyncio.ensure_future(site.fill(blob))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert site.target.open_uploads == 0
        if blob.envelope_key in site.target.keys:
            await check_replica(site.target, blob.version)
        await site.fill(blob)
        await check_replica(site.target, blob.version)


def _variants(right: bytes, other: bytes) -> tuple[bytes | None, ...]:
    return (right, None, flipped(right, 2345), right[:-1], right + b"x", b"", other)


@pytest.mark.parametrize("beside", range(5), ids=["good", "none", "flipped", "cut", "another's"])
async def test_from_any_state_it_converges_or_touches_nothing(beside: int) -> None:
    """Whatever lies under the two keys of the target, and whatever the two sources hold."""
    other = seal(CONTENT[1:5001])
    bodies = _variants(SMALL.body, other.body)
    envelopes = _variants(SMALL.sealed, other.sealed)
    envelope = (*envelopes[:4], envelopes[-1])[beside]
    for body, one, two in itertools.product(bodies, bodies, bodies):
        site = Site()
        for store, key, data in (
            (site.target, SMALL.body_key, body),
            (site.target, SMALL.envelope_key, envelope),
            (site.one, SMALL.body_key, one),
            (site.two, SMALL.body_key, two),
        ):
            if data is not None:
                await store.put(key, piece(data))
        # Of a longer body only what belongs to it is read: as a source it is as good as any.
        good = {SMALL.body, SMALL.body + b"x"}
        if body == SMALL.body or {one, two} & good:
            await site.fill(SMALL, replace=True)
            await check_replica(site.target, SMALL.version)
            continue
        with pytest.raises(Unreadable):
            await site.fill(SMALL, replace=True)
        before = {SMALL.body_key: body, SMALL.envelope_key: envelope}
        assert {key: await whole(site.target, key) for key in site.target.keys} == {
            key: data for key, data in before.items() if data is not None
        }


class Slow(MemoryStore):
    """A target on which every part waits until the test lets one through; counts what is out."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: set[int] = set()
        self.most = self.now = 0

    async def begin(self, key: str) -> "_SlowUpload":
        return _SlowUpload(self, await super().begin(key))


class _SlowUpload:
    def __init__(self, store: Slow, upload: PartUpload) -> None:
        self._store, self._upload = store, upload

    async def part(self, number: int, piece: Piece) -> None:
        self._store.now += 1
        self._store.most = max(self._store.most, self._store.now)
        self._store.buffers.add(id(piece.data.obj))
        await asyncio.sleep(0.002)
        await self._upload.part(number, piece)
        self._store.now -= 1

    async def complete(self) -> None:
        await self._upload.complete()

    async def abort(self) -> None:
        await self._upload.abort()


async def test_memory_is_bounded_and_reading_goes_on_while_parts_are_sent() -> None:
    blob = seal(CONTENT * 8)
    source, target = FaultyStore(), Slow()
    await place(source, blob)
    copier = Copier({"a": source, "b": target}, part_size=PART, parallel=2, rate=Rate())
    await copier.fill(blob.version, "b", ["a"], replace=False)
    await check_replica(target, blob.version)
    assert target.most == 2
    assert len(target.buffers) <= 3


async def test_it_keeps_to_its_rate() -> None:
    site, waits = Site(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await site.place(LARGE)
    rate = Rate(len(LARGE.body) / 10, clock=lambda: 0.0, sleep=sleep)
    copier = Copier({"one": site.one, "target": site.target}, part_size=PART, parallel=2, rate=rate)
    await copier.fill(LARGE.version, "target", ["one"], replace=False)
    assert max(waits) > 5  # seconds behind on a clock that stands


async def test_a_catalog_that_is_damaged_touches_nothing(site: Site) -> None:
    await site.place(SMALL)
    broken = replace(SMALL, version=replace(SMALL.version, envelope=b"junk"))
    with pytest.raises(Unreadable):
        await site.fill(broken, replace=True)
    assert site.target.keys == []


@pytest.fixture
async def folders(tmp_path: Path) -> AsyncIterator[Callable[[str], Store]]:
    made: list[FolderStore] = []

    def make(name: str) -> Store:
        (tmp_path / name).mkdir()
        made.append(FolderStore(tmp_path / name, name=name))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@ALL
async def test_between_folders(folders: Callable[[str], Store], blob: Blob, tmp_path: Path) -> None:
    stores = {name: folders(name) for name in ("one", "two")}
    await place(stores["one"], blob)
    copier = Copier(stores, part_size=PART, parallel=2, rate=Rate())
    await copier.fill(blob.version, "two", ["one"], replace=False)
    await check_replica(stores["two"], blob.version)
    with pytest.raises(ObjectMissing):
        await check_replica(folders("three"), blob.version)
    kept = {path.read_bytes() for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert kept == {blob.sealed} | ({blob.body} if blob.version.inline is None else set())
