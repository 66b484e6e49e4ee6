"""A copy whose envelope has other wraps than the catalog's stays, and what it is under is told."""

from dataclasses import replace

from gateway.pacing.rate import Rate
from gateway.repair.copying import CATALOG, Copier, Filled
from tests.doubles.blobs import Blob, place, rewrapped, seal
from tests.doubles.stores import FaultyStore

PART = 64 * 1024
OLDER = seal(b"x" * 5000)
NEWER = replace(OLDER, version=rewrapped(OLDER))


async def fill(target: FaultyStore, wanted: Blob, *, blank: bool = False) -> Filled:
    """Make a target hold what the catalog has."""
    source = FaultyStore()
    await place(source, OLDER)
    copier = Copier({"source": source, "target": target}, part_size=PART, parallel=2, rate=Rate())
    return await copier.fill(wanted.version, "target", ["source"], replace=True, blank=blank)


async def test_an_older_envelope_is_told() -> None:
    target = FaultyStore()
    await place(target, OLDER)
    target.calls.clear()
    assert await fill(target, NEWER) == Filled("target", "k1")
    assert target.calls == []


async def test_an_older_envelope_is_told_by_who_did_not_look_first() -> None:
    target = FaultyStore()
    await place(target, OLDER)
    assert (await fill(target, NEWER, blank=True)).kek == "k1"


async def test_what_is_written_is_what_the_catalog_has() -> None:
    assert await fill(FaultyStore(), NEWER) == Filled("source", "k2")
    inline = seal(b"tiny", inline=True)
    assert await fill(FaultyStore(), inline) == Filled(CATALOG, "k1")


async def test_a_copy_that_is_ahead_of_the_catalog_is_never_called_stale() -> None:
    target = FaultyStore()
    await place(target, NEWER)
    assert await fill(target, OLDER) == Filled("target", "")
