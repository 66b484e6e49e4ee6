"""Stores that stall, cut, flip, refuse and forget: the application sees one clean answer, and all is healed.

Every store is behind a wire that breaks as a test says. What is damaged behind a store's back is damaged in
the files of the S3 server.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.model import ReplicaState
from gateway.ports import Held
from tests.faults.proxy.faulty_wire import Fault, FaultyWire, Kind
from tests.faults.sites.site import Site, contents
from tests.servers.versitygw import Versitygw
from tests.stack.client import Client
from tests.stack.stack import Bucket, Stack

Record = Callable[[str, object], None]
NAMES = ("primary", "east", "west")
SIZE = 1_500_000
PATIENCE = 0.5  # seconds that a store may be silent
READS = (
    *((kind, at) for kind in (Kind.CUT, Kind.STALLED) for at in (0.0, 0.5, 1.0)),
    *((kind, at) for kind in (Kind.SHORT, Kind.FLIPPED) for at in (0.1, 0.9)),
    *((kind, 0.0) for kind in (Kind.SILENT, Kind.DROPPED, Kind.REFUSED)),
)
PAIRS = 150  # uploads, each of which is downloaded
SHARE = 0.05  # of the requests that stores refuse
ROWS = (1, 2, 3)  # times in a row; a fourth refusal ends a call, as it should
HARMED = 9


@pytest.fixture(scope="module")
def wire(s3: Versitygw) -> Iterator[FaultyWire]:
    """Run the wire that all stores are behind."""
    with FaultyWire(s3, seed=5) as running:
        yield running


@pytest.fixture(scope="module")
def stack(wire: FaultyWire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a gateway over three buckets behind it."""
    home = tmp_path_factory.mktemp("wires")
    running = Stack(
        home / "stack",
        targets={name: Bucket(wire, wire.server.new_bucket()) for name in NAMES},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        extra={
            "limits": {
                "inline": 1024,
                "first_byte": PATIENCE,
                "silence": PATIENCE,
                "stall_timeout": 5.0,
                "backup_patience": 30.0,  # no replica is left behind without a fault
            },
            "quorum": {"policy": "primary+1"},
            "repair": {"lease": 5.0},
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def site(stack: Stack) -> Site:
    """Give a site with a tenant of the test's own."""
    made = Site(stack)
    await made.open()
    return made


def target_of(site: Site, path: str) -> str:
    """Name the target to whose bucket a path leads."""
    bucket = path.split("/")[1]
    return next(
        name
        for name, place in site.stack.targets.items()
        if isinstance(place, Bucket) and place.name == bucket
    )


async def mended(site: Site) -> None:
    """Repair by command, and see that every replica is whole."""
    await site.command("repair", "--until-done", "--json")
    assert await site.whole()


async def damaged(
    site: Site, client: Client, wire: FaultyWire, reference: str, name: str, *faults: Fault
) -> None:
    """Read so that one target is asked, the others refuse once, and these faults are met anew."""
    others = [
        Fault(Kind.REFUSED, method="GET", bucket=place.name, ending="/body", times=1)
        for other, place in site.stack.targets.items()
        if isinstance(place, Bucket) and other != name
    ]
    fresh = [replace(fault, hits=[]) for fault in faults]
    with wire.broken(*others, *fresh):
        assert await site.differing(client, [reference]) == [], name


@pytest.mark.timeout(300)
async def test_reads_from_a_store_that_breaks_in_the_middle(
    site: Site, wire: FaultyWire, record_property: Record
) -> None:
    longest = 0.0
    async with site.client() as client:
        await site.put_all(client, contents(len(READS), (SIZE,), "read"))
        for number, (kind, at) in enumerate(READS):
            reference = f"read-{number}"
            fault = Fault(kind, method="GET", ending="/body", at=at, times=1)
            began = time.monotonic()
            with wire.broken(fault):
                wrong = await site.differing(client, [reference])
            longest = max(longest, time.monotonic() - began)
            assert len(fault.hits) == 1, kind
            assert wrong == [], f"{kind} at {at}"
            if kind in {Kind.FLIPPED, Kind.SHORT}:
                target = target_of(site, fault.hits[0])
                same = partial(damaged, site, client, wire, reference, target, fault)
                await site.known(reference, target, ReplicaState.DAMAGED, same)
        record_property("reads that broke and were clean to the client", len(READS))
        record_property("longest of them, seconds", round(longest, 2))
        await mended(site)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["flipped", "deleted", "replayed"])
async def test_what_changes_behind_our_back_is_never_given_out_and_healed(
    what: str, site: Site, wire: FaultyWire, record_property: Record
) -> None:
    rng = random.Random(what)
    states = {"deleted": ReplicaState.MISSING}
    async with site.client() as client:
        for name in NAMES:
            await site.put(client, name, rng.randbytes(200_000))
            older = {
                kind: site.file(await site.held(name), name, body=kind) for kind in (True, False)
            }
            await site.put(client, name, rng.randbytes(200_000))
            held = await site.held(name)
            body = site.file(held, name)
            if what == "flipped":
                flip(body, rng)
            elif what == "deleted":
                body.unlink()
            else:
                body.write_bytes(older[True].read_bytes())
                site.file(held, name, body=False).write_bytes(older[False].read_bytes())
        found = 0
        for name in NAMES:
            read = partial(damaged, site, client, wire, name, name)
            await read()
            await site.known(name, name, states.get(what, ReplicaState.DAMAGED), read)
            found += 1
        record_property(f"replicas {what}", len(NAMES))
        record_property("found by reads", found)
        await mended(site)
        assert await site.differing(client) == []


def flip(path: Path, rng: random.Random) -> None:
    """Flip a bit of a file, at random."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def harm(rng: random.Random, held: Held, older: Held, site: Site, name: str) -> None:
    """Change one replica on a target in one of the ways that storage fails, or attackers try."""
    kind = rng.choice(("flip", "flip", "flip", "delete", "replay"))
    body = bool(held.version.body_size) and rng.random() < 0.5
    path = site.file(held, name, body=body)
    if kind == "flip":
        flip(path, rng)
    elif kind == "delete":
        path.unlink()
    else:
        path.write_bytes(site.file(older, name, body=body).read_bytes())


@pytest.mark.timeout(300)
async def test_every_harm_to_a_replica_is_found_by_a_scrub_and_healed(
    site: Site, record_property: Record
) -> None:
    rng, found, done = random.Random(9), 0, 0
    async with site.client() as client:
        for number in range(HARMED):
            size = (500, 3_000, 80_000)[number % 3]
            await site.put(client, f"{number}", rng.randbytes(size))
            await site.put(client, f"{number}", rng.randbytes(size))
        newest = dict(site.versions)
        async with site.core() as core:
            page = await core.replicas.held("primary", tenant=site.tenant)
        lines = {
            each.version.id: next(
                other
                for other in page
                if other.version.attachment == each.version.attachment and other != each
            )
            for each in page
        }
        now = [each for each in page if each.version.id in newest.values()]
        for name in NAMES:
            for held in now:
                harm(rng, held, lines[held.version.id], site, name)
            words = ("scrub", "--target", name, "--tenant", site.tenant, "--json")
            told = (await site.command(*words, code=3))["targets"][name]
            done += len(now)
            found += sum(told["findings"].values())
            assert found == done, f"{found} of {done} found: {told}"
            await site.command("repair", "--target", name, "--until-done", "--json")
            assert (await site.command(*words))["targets"][name]["verified"] == len(page)
        record_property("replicas harmed", done)
        record_property("found by scrubs", found)
        assert await site.differing(client) == []


@pytest.mark.timeout(300)
async def test_one_request_in_twenty_is_refused(
    site: Site, wire: FaultyWire, record_property: Record
) -> None:
    # Requests that are asked again count as well: so many of those that are asked first.
    fresh = SHARE / (1 - SHARE) * len(ROWS) / sum(ROWS)
    fault = Fault(Kind.REFUSED, share=fresh, rows=ROWS)
    async with site.client() as client:
        with wire.broken(fault):
            await site.put_all(client, contents(PAIRS, (2_000, 5_000, 70_000), "pair"))
            wrong = await site.differing(client)
        share = 1 - len(wrong) / (2 * PAIRS)
        record_property("requests of stores that were refused", len(fault.hits))
        record_property("share of uploads and downloads that succeeded", share)
        told = f"{share:.2%} of {2 * PAIRS} succeeded with {len(fault.hits)} refusals by stores"
        assert len(site.sent) == PAIRS, told
        assert share >= 0.999, told
        assert len(fault.hits) > PAIRS * SHARE, told
        await mended(site)
