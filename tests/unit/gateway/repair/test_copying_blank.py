"""A target that is believed to have nothing is filled without a look, and looked at where it has."""

import asyncio

import pytest

from gateway.pacing.rate import Rate
from gateway.repair.copying import Copier
from gateway.repair.verify import check_replica
from tests.doubles.blobs import Blob, flipped, overwrite, place, seal
from tests.doubles.stores import FaultyStore

PART = 64 * 1024
INLINE = seal(b"tiny", inline=True)
ALL = pytest.mark.parametrize(
    "blob", [seal(b"s" * 5000), seal(b"l" * 400_000), INLINE], ids=["small", "large", "inline"]
)


@ALL
@pytest.mark.parametrize("there", ["nothing", "whole", "body", "damaged body", "damaged envelope"])
async def test_what_is_believed_to_be_blank_is_looked_at_where_it_is_not(
    blob: Blob, there: str
) -> None:
    one, target = FaultyStore(), FaultyStore()
    await place(one, blob)
    if there != "nothing":
        await place(target, blob)
    if there == "body":
        await target.delete(blob.envelope_key)
    if there == "damaged body" and blob is not INLINE:
        await overwrite(target, blob.body_key, flipped(blob.body, 99))
    if there == "damaged envelope":
        await overwrite(target, blob.envelope_key, flipped(blob.sealed, 900))
    copier = Copier({"one": one, "target": target}, part_size=PART, parallel=2, rate=Rate())
    await copier.fill(blob.version, "target", ["one"], replace=True, blank=True)
    await check_replica(target, blob.version)
    if there == "nothing":
        assert target.calls.count("put envelope") == 1
    assert target.open_uploads == 0


async def test_buffers_are_used_again_and_never_while_somebody_looks() -> None:
    one, target = FaultyStore(), FaultyStore()
    copier = Copier({"one": one, "target": target}, part_size=2**20, parallel=2, rate=Rate())
    blobs = [seal(bytes([number]) * 900_000) for number in range(12)]
    for each in blobs:
        await place(one, each)
    async with asyncio.TaskGroup() as group:
        for each in blobs:
            group.create_task(
                copier.fill(each.version, "target", ["one"], replace=False, blank=True)
            )
    for each in blobs:
        await check_replica(target, each.version)
    assert 0 < len(copier._spare) <= 8
