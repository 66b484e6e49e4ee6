"""A repair that is cut after it removed what was damaged leaves a gap, whatever others say meanwhile."""

import asyncio

from gateway.model import now
from gateway.ports import Finding
from gateway.repair.verify import check_replica
from tests.doubles.blobs import flipped, overwrite
from tests.doubles.repair_site import DAMAGED, STORED, Site


async def test_what_was_removed_counts_as_missing_though_a_scrub_saw_it_whole_before() -> None:
    site = Site()
    blob = await site.store(on=("primary", "east"))
    await overwrite(site.east, blob.body_key, flipped(blob.body, 99))
    site.replicas.rows[blob.version.id, "east"].state = DAMAGED
    site.east.calls.clear()
    site.east.begun.clear()
    site.east.gate.clear()  # nothing is written yet
    async with asyncio.TaskGroup() as tasks:
        repair = tasks.create_task(site.make(lease=3.0).repair("east"))
        await site.east.begun.wait()
        assert "delete body" in site.east.calls
        late = Finding(blob.version.id, "east", STORED)
        await site.replicas.report([late])
        assert (await repair).failed == 1
    assert site.replicas.states(blob.version)["east"] != "stored"

    site.replicas.rows[blob.version.id, "east"].until = now()  # as a catalog does with a new gap
    site.east.gate.set()
    await site.repairer.repair("east")
    await check_replica(site.east, blob.version)
    assert site.replicas.states(blob.version)["east"] == "stored"
