"""Whatever is done to a target behind our back, a scrub finds that and nothing else, and repair mends it.

The catalog is the real one, on SQLite; the stores are in memory. An adversary who has the store may flip
any bit, cut, lengthen, delete, swap, put older versions back, and add what nobody owns.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog import migrate
from gateway.model import body_key, envelope_key, new_id
from gateway.repair.findings import Kind
from tests.doubles.blobs import Blob, flipped, overwrite, piece, place, seal, whole
from tests.doubles.scrub_site import Row, Site, scrub_site

FAULTS = (
    "flip body",
    "flip envelope",
    "truncate body",
    "truncate envelope",
    "extend body",
    "extend envelope",
    "delete body",
    "delete envelope",
    "delete both",
    "swap",
    "swap envelopes",
    "replay",
)
contents = st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), min_size=1, max_size=7)
faults = st.dictionaries(
    st.integers(0, 6), st.tuples(st.sampled_from(FAULTS), st.floats(0, 1, exclude_max=True))
)
orphans = st.lists(st.sampled_from(["body", "envelope", "whole"]), max_size=3)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated, empty file, with room beside it."""
    path = tmp_path_factory.mktemp("scrub") / "pristine.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@dataclass
class Vandal:
    """Does it, and knows what should be found."""

    site: Site
    blobs: list[Blob]
    expected: dict[str, Kind] = field(default_factory=dict)  # by version
    orphans: set[tuple[str, str]] = field(default_factory=set)  # blob and what of it is there

    async def harm(self, number: int, fault: str, where: float) -> None:
        """Do one thing to one replica, if it is whole and can be done to it."""
        blob = self.blobs[number % len(self.blobs)]
        inline = blob.version.inline is not None
        action, _, what = fault.partition(" ")
        if blob.version.id in self.expected:
            return
        if action == "swap":
            await self._swap(blob, bodies=not what)
            return
        if inline and what == "body":
            what = "envelope"
        store = self.site.east
        key, data = (
            (blob.body_key, blob.body) if what == "body" else (blob.envelope_key, blob.sealed)
        )
        if action == "flip":
            await overwrite(store, key, flipped(data, int(where * len(data) * 8)))
        elif action == "truncate":
            await overwrite(store, key, data[: int(where * len(data))])
        elif action == "extend":
            await overwrite(store, key, data + b"\0" * (1 + int(where * 99)))
        elif action == "delete":
            await store.delete(key)
            if what == "both" and not inline:
                await store.delete(blob.body_key)
        else:
            older = seal(
                b"older" * 99, tenant=blob.version.tenant, attachment=blob.version.attachment
            )
            await store.delete(blob.body_key)
            await overwrite(store, blob.envelope_key, older.sealed)
            await store.put(blob.body_key, piece(older.body))
        kinds = {"delete": Kind.MISSING, "replay": Kind.REPLAYED}
        self.expected[blob.version.id] = kinds.get(action, Kind.DAMAGED)

    async def _swap(self, blob: Blob, *, bodies: bool) -> None:
        """Exchange the objects of two replicas, or their envelopes alone."""
        store = self.site.east
        for other in self.blobs:
            if other is blob or other.version.id in self.expected:
                continue
            for mine, theirs in ((blob, other), (other, blob)):
                await overwrite(store, mine.envelope_key, theirs.sealed)
                if bodies:
                    await store.delete(mine.body_key)
                    if theirs.version.inline is None:
                        await store.put(mine.body_key, piece(theirs.body))
                self.expected[mine.version.id] = Kind.SWAPPED
            return

    async def litter(self, what: str) -> None:
        """Add what nobody owns."""
        blob, tenant, store = new_id(), self.site.tenant, self.site.east
        if what != "envelope":
            await store.put(body_key(tenant, blob), piece(b"litter"))
        if what != "body":
            await store.put(envelope_key(tenant, blob), piece(b"litter"))
        self.orphans.add((blob, what))


@settings(max_examples=25, deadline=None)
@given(contents, faults, orphans, st.booleans())
def test_exactly_what_is_wrong_is_found_and_mended(
    pristine: Path,
    contents: list[tuple[int, bool]],
    faults: dict[int, tuple[str, float]],
    orphans: list[str],
    listed_first: bool,  # noqa: FBT001 - drawn
) -> None:
    async def run(home: Path) -> None:
        async with scrub_site(home, migrated=True) as site:
            blobs = [
                await site.store(b"\x5a" * size, inline=inline and size < 9000)
                for size, inline in contents
            ]
            vandal = Vandal(site, blobs)
            for number, (fault, where) in faults.items():
                await vandal.harm(number, fault, where)
            for what in orphans:
                await vandal.litter(what)
            await examine(vandal, listed_first=listed_first)

    with TemporaryDirectory(dir=pristine.parent) as folder, structlog.testing.capture_logs():
        Path(folder, "catalog.db").write_bytes(pristine.read_bytes())
        asyncio.run(run(Path(folder)))


async def examine(vandal: Vandal, *, listed_first: bool) -> None:
    """Scrub, compare with what was done, mend, and scrub again."""
    site, expected = vandal.site, vandal.expected
    before = {key: await whole(site.primary, key) for key in site.primary.keys}
    if listed_first:  # which needs no bytes to see what is missing, and judges by size alone
        listing = await site.inventory().take("east")
        early = {each.version: each.kind for each in listing.troubles if each.version}
        assert early.keys() <= expected.keys()
        gone = {version for version, kind in expected.items() if kind is Kind.MISSING}
        assert {version for version, kind in early.items() if kind is Kind.MISSING} >= gone
    scrubbed = await site.scrub().all("east", Row())
    found = {each.version: each.kind for each in scrubbed.troubles}
    if listed_first:
        assert not found.keys() & early.keys()
        assert found.keys() | early.keys() == expected.keys()
        assert all(expected[version] is kind for version, kind in found.items())
    else:
        assert found == expected
        listing = await site.inventory().take("east")
        assert all(not each.version for each in listing.troubles)
    assert {(t.blob, t.reason) for t in listing.troubles if not t.version} == vandal.orphans
    assert scrubbed.verified == len(vandal.blobs) - len(expected)
    tally = await site.repairer.repair("east")
    assert (tally.filled, tally.failed) == (len(expected), 0)
    again = await site.scrub().all("east", Row())
    assert (again.verified, again.found.total()) == (len(vandal.blobs), 0)
    assert {key: await whole(site.primary, key) for key in site.primary.keys} == before


async def test_a_replica_that_is_placed_again_is_whole(tmp_path: Path) -> None:
    async with scrub_site(tmp_path) as site:
        blob = await site.store()
        await site.east.delete(blob.body_key)
        await site.east.delete(blob.envelope_key)
        assert (await site.inventory().take("east")).found[Kind.MISSING] == 1
        await place(site.east, blob)
        assert (await site.repairer.repair("east")).filled == 1
