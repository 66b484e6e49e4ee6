"""Who reseals, over a bench."""

from contextlib import aclosing
from datetime import datetime, timedelta

from gateway.flow.pump import PumpSettings
from gateway.model import Found, Version, now
from gateway.pacing.rate import Rate
from gateway.rotation.reseal import Outcome, Reseal
from gateway.targets.policies import Policies
from tests.unit.gateway.conftest import PART, Bench

LATER = timedelta(days=1)


def resealer(bench: Bench, *, beat: float = 600.0, rate: Rate | None = None) -> Reseal:
    """Return the use case over a bench."""
    return Reseal(
        bench.catalog,
        bench.catalog.wraps,
        bench.keys,
        bench.downloads,
        bench.replication,
        policies=Policies(bench.catalog, bench.quorum),
        placing=bench.placing,
        background=bench.background,
        settings=PumpSettings(part_size=PART, inline=bench.inline, max_size=bench.max_size),
        rate=rate or Rate(),
        beat=beat,
    )


async def reseal(bench: Bench, version: Version, *, before: datetime | None = None) -> Outcome:
    """Reseal one version, however new its key is."""
    try:
        return await resealer(bench).version(
            version.tenant, version.id, before=before or now() + LATER
        )
    finally:
        await bench.background.settle()


async def content_of(bench: Bench, found: Found) -> bytes:
    """Open a version by what the catalog said of it."""
    opened = await bench.downloads.open(found, request_id="")
    async with aclosing(bench.downloads.read(opened, 0, opened.size)) as stream:
        return b"".join([piece async for piece in stream])


def blobs(bench: Bench) -> set[str]:
    """Return the blobs that stores hold some of."""
    return {key.split("/")[2] for store in bench.stores for key in store.keys}
