"""Whatever is damaged or missing where: what has a good copy comes back, and the rest is told exactly."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NotFound, StoreDamaged, StoreDenied, StoreError, StoreUnavailable, first
from gateway.model import ReplicaState, new_id
from gateway.pacing.rate import Rate
from gateway.ports import Catalog, Finding, Held, Replicas
from gateway.recovery.journal import Journal
from gateway.recovery.refill import Refill, Verify, holds, stored_size
from gateway.recovery.restore import SETTLED, Preview, Restore, Scope, Work, anyone
from gateway.repair.copying import Copier
from gateway.repair.verify import check_replica
from tests.doubles.blobs import Blob, flipped, overwrite, place, rewrapped, seal, whole
from tests.doubles.stores import FaultyStore

TENANT = "a" * 32
ALL = Scope()
TARGETS = ("primary", "east", "west")
# What may have happened to one copy.
FATES = ("whole", "gone", "no envelope", "no body", "flipped", "short", "swapped", "bad envelope")
GOOD_BODY = {"whole", "no envelope", "swapped", "bad envelope"}


class Shelf:
    """Some versions, in a catalog that knows them and in stores that may not."""

    def __init__(self, blobs: Sequence[Blob]) -> None:
        self.blobs = blobs
        self.stores = {name: FaultyStore() for name in TARGETS}
        self.found: list[Finding] = []
        self.purged: set[str] = set()
        self.doomed: set[str] = set()
        self.begun: set[str] = set()

    async def place(self) -> None:
        """Put everything everywhere."""
        for store in self.stores.values():
            for blob in self.blobs:
                await place(store, blob)

    async def held(
        self,
        target: str,
        *,
        after: str | None = None,
        limit: int = 500,
        tenant: str | None = None,
        attachment: str | None = None,
    ) -> Sequence[Held]:
        del target
        return [
            Held(blob.version, None, None)
            for blob in sorted(self.blobs, key=lambda blob: blob.version.id)
            if after is None or blob.version.id > after
            if tenant in {None, blob.version.tenant}
            if attachment in {None, blob.version.attachment}
        ][: min(limit, 2)]

    async def report(self, findings: Sequence[Finding]) -> int:
        self.found += findings
        return len(findings)

    async def known(self, blobs: Sequence[str]) -> frozenset[str]:
        return frozenset(blobs) - (self.purged - self.begun)

    async def tenant(self, tenant: str) -> str:
        return tenant

    async def by_version(self, tenant: str, version: str) -> Any:
        del tenant
        (found,) = [each.version for each in self.blobs if each.version.id == version]
        if found.blob in self.purged | self.doomed:
            raise NotFound("no such attachment or version")
        return SimpleNamespace(version=found)

    async def version(self, version: str) -> Any:
        (found,) = [each.version for each in self.blobs if each.version.id == version]
        return None if found.blob in self.purged else found

    async def find(self, tenant: str, reference: str, version: str | None = None) -> Any:
        del tenant, version
        return SimpleNamespace(attachment=SimpleNamespace(id=reference))

    def refill(
        self,
        scope: Scope = ALL,
        sources: Sequence[str] = ("east", "west"),
    ) -> Refill:
        copier = Copier(self.stores, part_size=65536, parallel=2, rate=Rate())
        return Refill(
            cast("Catalog", self),
            cast("Replicas", self),
            self.stores["primary"],
            copier,
            scope=scope,
            target="primary",
            sources=sources,
        )

    def verify(self, sources: Sequence[str]) -> Verify:
        catalog, replicas = cast("Catalog", self), cast("Replicas", self)
        return Verify(catalog, replicas, self.stores, scope=Scope(), sources=sources)

    async def befall(self, target: str, blob: Blob, fate: str) -> None:
        """Let something happen to one copy, behind everybody's back."""
        store = self.stores[target]
        if fate in {"gone", "no envelope"}:
            await store.delete(blob.envelope_key)
        if fate in {"gone", "no body"}:
            await store.delete(blob.body_key)
        if fate == "bad envelope":
            bit = 900 + list(self.stores).index(target)  # no two are damaged alike
            await overwrite(store, blob.envelope_key, flipped(blob.sealed, bit))
        if fate == "swapped":
            other = seal(b"other", tenant=blob.version.tenant, attachment=blob.version.attachment)
            await overwrite(store, blob.envelope_key, other.sealed)
        if fate in {"flipped", "short"} and blob.version.inline is None:
            damaged = flipped(blob.body, 77) if fate == "flipped" else blob.body[:-1]
            await overwrite(store, blob.body_key, damaged)


async def run(work: Work, journal: Journal | None = None) -> Restore:
    restore = Restore(work, journal, refusal=anyone, parallel=2)
    await restore.run()
    return restore


BLOBS = [
    seal(b"", inline=True, tenant=TENANT),
    seal(b"inline", inline=True, tenant=TENANT),
    seal(b"s" * 5_000, tenant=TENANT),
    seal(b"l" * 200_000, cuts=(100_000,), tenant="b" * 32),
]


@settings(max_examples=120, deadline=None)
@given(fates=st.lists(st.sampled_from(FATES), min_size=12, max_size=12))
def test_all_that_has_a_good_source_comes_back(fates: list[str]) -> None:
    asyncio.run(comes_back(fates))


async def comes_back(fates: list[str]) -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    each = iter(fates)
    suffered = {(blob.version.id, name): next(each) for blob in BLOBS for name in TARGETS}
    for blob in BLOBS:
        for name in TARGETS:
            await shelf.befall(name, blob, suffered[blob.version.id, name])
    before = {
        key: await whole(shelf.stores["primary"], key) for key in shelf.stores["primary"].keys
    }

    restore = await run(shelf.refill())

    failed = set()
    for blob in BLOBS:
        fate = {name: suffered[blob.version.id, name] for name in TARGETS}
        good = blob.version.inline is not None or any(fate[name] in GOOD_BODY for name in TARGETS)
        if good:
            await check_replica(shelf.stores["primary"], blob.version)
            continue
        failed.add(blob.version.id)
        for key in (blob.body_key, blob.envelope_key):
            if key in before:  # nothing that was there was thrown away for nothing
                assert await whole(shelf.stores["primary"], key) == before[key]
    assert restore.troubles.failed.keys() == failed
    assert restore.tally.counts["failed"] == len(failed)
    untouched = {
        version
        for (version, name), fate in suffered.items()
        if name == "primary"
        and (fate == "whole" or (fate in {"no body", "flipped", "short"} and inline(version)))
    }
    assert restore.tally.counts["skipped"] == len(untouched)
    stored = {
        f.version for f in shelf.found if f.target == "primary" and f.state is ReplicaState.STORED
    }
    assert stored == {blob.version.id for blob in BLOBS} - failed
    assert all(store.open_uploads == 0 for store in shelf.stores.values())


def inline(version: str) -> bool:
    return next(b for b in BLOBS if b.version.id == version).version.inline is not None


@settings(max_examples=60, deadline=None)
@given(fates=st.lists(st.sampled_from(FATES), min_size=8, max_size=8))
def test_verifying_tells_what_could_not_come_back_and_changes_nothing(fates: list[str]) -> None:
    asyncio.run(verifies(fates))


async def verifies(fates: list[str]) -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    each = iter(fates)
    suffered = {(blob.version.id, name): next(each) for blob in BLOBS for name in ("east", "west")}
    for blob in BLOBS:
        for name in ("east", "west"):
            await shelf.befall(name, blob, suffered[blob.version.id, name])
    before = {name: {k: await whole(s, k) for k in s.keys} for name, s in shelf.stores.items()}
    restore = await run(shelf.verify(["east", "west"]))
    harmless = {"no body", "flipped", "short"}
    bad = {
        blob.version.id
        for blob in BLOBS
        if not any(
            suffered[blob.version.id, name] == "whole"
            or (suffered[blob.version.id, name] in harmless and blob.version.inline is not None)
            for name in ("east", "west")
        )
    }
    assert restore.troubles.failed.keys() == bad
    assert restore.tally.counts["verified"] == len(BLOBS) - len(bad)
    after = {name: {k: await whole(s, k) for k in s.keys} for name, s in shelf.stores.items()}
    assert after == before
    assert not shelf.found


async def test_only_what_is_meant_comes_back() -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    for key in list(shelf.stores["primary"].keys):
        await shelf.stores["primary"].delete(key)
    one = BLOBS[2]
    await run(shelf.refill(Scope(TENANT, one.version.attachment, one.version.id)))
    assert shelf.stores["primary"].keys == sorted([one.body_key, one.envelope_key])
    restore = await run(shelf.refill(Scope("b" * 32)))
    assert +restore.tally.counts == {"restored": 1}
    restore = await run(shelf.refill(Scope(TENANT)))
    assert +restore.tally.counts == {"restored": 2, "skipped": 1}
    restore = await run(shelf.refill(Scope(since=datetime.now(UTC) + timedelta(days=1))))
    assert not +restore.tally.counts


async def test_a_preview_reads_no_body_and_writes_nothing() -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    await shelf.befall("primary", BLOBS[3], "gone")
    await shelf.befall("primary", BLOBS[2], "short")
    for store in shelf.stores.values():
        store.calls.clear()
        store.bytes_read = 0
    restore = await run(Preview(shelf.refill()))
    assert +restore.tally.counts == {"restored": 2, "skipped": 2}
    assert not shelf.stores["primary"].calls
    assert shelf.stores["primary"].bytes_read < 5_000
    assert not shelf.found


async def test_a_damaged_source_is_told_to_the_catalog() -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    await shelf.befall("primary", BLOBS[2], "gone")
    await shelf.befall("east", BLOBS[2], "flipped")
    restore = await run(shelf.refill())
    assert +restore.tally.counts == {"restored": 1, "skipped": 3}
    (told,) = [found for found in shelf.found if found.target == "east"]
    assert (told.version, told.state) == (BLOBS[2].version.id, ReplicaState.DAMAGED)


async def test_a_destination_that_refuses_ends_the_run() -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    await shelf.befall("primary", BLOBS[2], "gone")
    shelf.stores["primary"].fail = StoreDenied("no")
    with pytest.raises(ExceptionGroup) as caught:
        await run(shelf.refill())
    assert isinstance(first(caught.value), StoreDenied)


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), StoreDamaged("damaged")])
async def test_a_destination_that_fails_once_costs_one_version(error: StoreError) -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    for blob in BLOBS[2:]:
        await shelf.befall("primary", blob, "gone")
    shelf.stores["primary"].fail, shelf.stores["primary"].fail_on = error, "put body"
    restore = await run(shelf.refill())
    assert list(restore.troubles.failed.values()) == [
        f"destination: {'no answer' if isinstance(error, StoreUnavailable) else 'damaged'}"
    ]
    assert restore.troubles.failed.keys() == {BLOBS[2].version.id}


async def test_a_destination_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    shelf = Shelf([seal(b"x" * 100, tenant=TENANT) for _ in range(60)])
    await shelf.place()
    for blob in shelf.blobs:
        await shelf.befall("primary", blob, "gone")
    primary = shelf.stores["primary"]
    primary.fail = StoreUnavailable("gone")
    journal = Journal.open(tmp_path / "a.journal", {}, done=SETTLED)
    with pytest.raises(ExceptionGroup):
        await run(shelf.refill(), journal)
    journal.close()
    assert journal.tally.counts["failed"] < 60
    primary.fail = None
    journal = Journal.open(tmp_path / "a.journal", {}, done=SETTLED)
    restore = await run(shelf.refill(), journal)
    journal.close()
    assert +restore.tally.counts == {"restored": 60}


async def test_an_envelope_of_this_version_is_not_enough() -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    small, store = BLOBS[2], shelf.stores["east"]
    assert await holds(store, small.version)
    assert not await holds(store, replace(small.version, blob=new_id()))
    await store.delete(small.body_key)
    assert not await holds(store, small.version)
    assert stored_size(small.version) == len(small.body) + len(small.sealed)


async def test_an_older_envelope_that_was_there_is_told() -> None:
    newer = [replace(blob, version=rewrapped(blob)) for blob in BLOBS]
    shelf = Shelf(newer)
    await shelf.place()
    older, lost, body, _ = BLOBS
    await overwrite(shelf.stores["primary"], older.envelope_key, older.sealed)
    await shelf.stores["primary"].delete(lost.envelope_key)
    await overwrite(shelf.stores["primary"], body.envelope_key, body.sealed)
    await shelf.stores["primary"].delete(body.body_key)
    await run(shelf.refill())
    keks = {found.version: found.kek for found in shelf.found if found.target == "primary"}
    assert [keks[blob.version.id] for blob in BLOBS] == ["k1", "k2", "k1", "k2"]
    blobs = {found.version: found.blob for found in shelf.found}
    assert blobs == {blob.version.id: blob.version.blob for blob in BLOBS}


@pytest.mark.parametrize("kind", ["refill", "preview", "verify"])
async def test_a_damaged_row_of_the_catalog_costs_one_version(kind: str, tmp_path: Path) -> None:
    bad = replace(BLOBS[0], version=replace(BLOBS[0].version, envelope=b"rot"))
    shelf = Shelf(BLOBS)
    await shelf.place()
    shelf.blobs = [bad, *BLOBS[1:]]
    refill = shelf.refill()
    works: dict[str, Work] = {"refill": refill, "preview": Preview(refill)}
    work = works.get(kind, shelf.verify(["east"]))
    for _ in range(2):
        journal = Journal.open(tmp_path / "journal", {}, done=[*SETTLED, "failed"])
        restore = await run(work, journal)
        journal.close()
        assert restore.tally.counts["failed"] == 1
        assert sum(restore.tally.counts.values()) == len(BLOBS)
        assert list(restore.troubles.failed) in ([bad.version.id], [])


@pytest.mark.parametrize("held", ["nowhere", "west"])
async def test_of_what_is_purged_meanwhile_nothing_stays(held: str) -> None:
    shelf = Shelf(BLOBS)
    await shelf.place()
    refill, results = shelf.refill(), []
    for blob in BLOBS:
        await shelf.befall("primary", blob, "gone")
        results.append(await refill.do(blob.version))
    for blob in BLOBS[:2]:
        shelf.purged.add(blob.version.blob)
        for name in ("east", "west"):
            if name != held:  # a catalog that was rolled back forgot it
                await shelf.befall(name, blob, "gone")
    await refill.record(results)
    left = {key.split("/")[2] for key in shelf.stores["primary"].keys}
    assert left == {blob.version.blob for blob in (BLOBS if held == "west" else BLOBS[2:])}
