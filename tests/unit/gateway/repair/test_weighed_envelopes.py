"""A catalog that lost a bit is not copied over the envelopes that are right."""

from dataclasses import replace

import pytest

from envelope.envelope import Wrap, decode, encode
from gateway.errors import StoreUnavailable, Unreadable
from gateway.model import Version
from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.verify import check_replica
from tests.doubles.blobs import Blob, flipped, overwrite, place, seal, whole
from tests.doubles.stores import FaultyStore

SMALL, INLINE = seal(b"s" * 5000), seal(b"tiny", inline=True)


class Site:
    """Three targets that hold the same; one is to be made good."""

    def __init__(self) -> None:
        self.one, self.two, self.target = FaultyStore(), FaultyStore(), FaultyStore()

    async def place(self, blob: Blob) -> None:
        for store in (self.one, self.two, self.target):
            await place(store, blob)

    async def fill(self, blob: Blob) -> None:
        stores = {"one": self.one, "two": self.two, "target": self.target}
        copier = Copier(stores, part_size=65536, parallel=2, rate=Rate())
        await copier.fill(blob.version, "target", ["one", "two"], replace=True)


@pytest.fixture
def site() -> Site:
    return Site()


def _contradicted(blob: Blob) -> list[Version]:
    """Return what a catalog may say that lost one bit, and still looks like an envelope of this version."""
    known = decode(blob.version.envelope)
    (wrap,) = known.wraps
    wrong = [
        replace(known, core=replace(known.core, created=3)),
        replace(known, attributes=flipped(known.attributes, 99)),
        replace(known, wraps=(Wrap(wrap.kek, flipped(wrap.wrapped, 99), wrap.created),)),
        replace(known, wraps=(Wrap("k3", wrap.wrapped.replace(b"k1", b"k3", 1), wrap.created),)),
    ]
    return [replace(blob.version, envelope=encode(each)) for each in wrong]


@pytest.mark.parametrize("blob", [SMALL, INLINE], ids=["small", "inline"])
@pytest.mark.parametrize("bit", range(4), ids=["core", "attributes", "wrap", "kek"])
async def test_an_envelope_that_two_stores_agree_on_is_kept(
    site: Site, blob: Blob, bit: int
) -> None:
    await site.place(blob)
    broken = replace(blob, version=_contradicted(blob)[bit])
    for store in (site.one, site.two):  # whichever of the others has it
        store.read_limit, store.read_fault = 0, StoreUnavailable()
        with pytest.raises(Unreadable):
            await site.fill(broken)
        store.read_limit = store.read_fault = None
    await overwrite(site.one, blob.envelope_key, broken.sealed)
    with pytest.raises(Unreadable) as refused:
        await site.fill(broken)
    assert refused.value.retry_after is None
    assert await whole(site.target, blob.envelope_key) == blob.sealed


async def test_a_damaged_envelope_waits_for_who_can_say_which_is_right(site: Site) -> None:
    await site.place(SMALL)
    await overwrite(site.target, SMALL.envelope_key, flipped(SMALL.sealed, 900))
    for store in (site.one, site.two):
        store.read_limit, store.read_fault = 0, StoreUnavailable()
    with pytest.raises(Unreadable) as refused:
        await site.fill(SMALL)
    assert refused.value.retry_after
    site.two.read_limit = site.two.read_fault = None  # which is with the catalog
    await site.fill(SMALL)
    await check_replica(site.target, SMALL.version)
