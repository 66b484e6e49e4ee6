"""A malicious store can withhold and replay. It cannot forge, move, or bring the older before the newer."""

from dataclasses import replace

import pytest

from envelope.envelope import decode, encode
from gateway.attachments.tenants import Tenants
from gateway.model import body_key, envelope_key, new_id
from tests.doubles.blobs import flipped
from tests.unit.gateway.recovery.conftest import Site, content


async def test_an_envelope_at_another_tenant_is_refused(site: Site) -> None:
    bench = site.bench
    theirs = await bench.store(b"theirs")
    stolen = await site.envelope(theirs.version.blob)
    bench.tenant = (await Tenants(bench.catalog, bench.keys).create()).id
    await bench.store(b"ours")
    planted = new_id()
    await site.plant(envelope_key(bench.tenant, planted), stolen)

    catalog, report = await site.rebuilt()

    assert report.refused == {"misplaced": 1}
    assert report.findings[0].blob == planted
    assert len(await catalog.list(bench.tenant, "", None, 9)) == 1
    assert await bench.read() == b"ours"


async def test_one_version_under_two_blobs_is_taken_once(site: Site) -> None:
    receipt = await site.bench.store(b"once")
    copy = await site.envelope(receipt.version.blob)
    await site.plant(envelope_key(site.bench.tenant, new_id()), copy)
    _, report = await site.rebuilt()
    assert (report.added, report.refused) == (1, {"duplicate": 1})
    assert await site.bench.read() == b"once"


async def test_an_older_version_does_not_become_current(site: Site) -> None:
    bench = site.bench
    old = await bench.store(b"old")
    await bench.store(b"new")
    replayed = await site.envelope(old.version.blob)
    for blob in ("0" * 32, "f" * 32):  # listed first, and last
        await site.plant(envelope_key(bench.tenant, blob), replayed)
    catalog, report = await site.rebuilt()
    assert report.refused == {"duplicate": 2}
    assert await bench.read() == b"new"
    assert len(await catalog.versions(bench.tenant, "report")) == 2


async def test_a_creation_time_cannot_be_changed(site: Site) -> None:
    bench = site.bench
    old = await bench.store(b"old")
    await bench.store(b"new")
    envelope = decode(await site.envelope(old.version.blob))
    younger = replace(envelope, core=replace(envelope.core, created=2**52))
    await site.plant(envelope_key(bench.tenant, old.version.blob), encode(younger))
    _, report = await site.rebuilt()
    assert report.refused == {"unopened": 1}
    assert await bench.read() == b"new"


async def test_damage_is_named(site: Site) -> None:
    bench = site.bench
    kept = await bench.store(content(5000), "kept")
    receipts = {n: await bench.store(content(5000), n) for n in ("flip", "body", "short", "cut")}
    blobs = {name: receipt.version.blob for name, receipt in receipts.items()}
    whole = await site.envelope(blobs["flip"])
    await site.plant(envelope_key(bench.tenant, blobs["flip"]), flipped(whole, 8 * len(whole) - 1))
    await bench.east.delete(body_key(bench.tenant, blobs["body"]))
    body = await site.object(body_key(bench.tenant, blobs["short"]))
    await site.plant(body_key(bench.tenant, blobs["short"]), body[:-1])
    await site.plant(envelope_key(bench.tenant, blobs["cut"]), whole[:100])
    await site.plant("t/strange", b"")
    await bench.east.delete(envelope_key(bench.tenant, kept.version.blob))

    catalog, report = await site.rebuilt()

    assert report.refused == {"damaged": 2, "bodiless": 1, "short": 1}
    assert {f.blob for f in report.findings} == set(blobs.values())
    assert (report.listing.bodies, report.listing.strange) == (1, 1)
    assert await catalog.list(bench.tenant, "", None, 9) == []


async def test_an_envelope_too_large_is_not_kept_in_memory(site: Site) -> None:
    await site.plant(envelope_key(site.bench.tenant, new_id()), bytes(5 << 20))
    _, report = await site.rebuilt()
    assert report.refused == {"damaged": 1}


async def test_an_older_copy_of_the_catalog_hides_nothing_that_is_there(
    site: Site,
) -> None:
    bench = site.bench
    await site.backups().make()
    await bench.store(b"one", "a")
    await site.backups().make()
    newest = (await site.backups().copies(site.east))[0]
    await bench.east.delete(envelope_key("0" * 32, newest.blob))  # withheld
    _, report = await site.rebuilt()
    assert report.backup is not None
    assert report.backup < newest.taken
    assert await bench.read("a") == b"one"


async def test_tenants_that_a_store_makes_up_are_not_remembered_without_bound(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.recovery.rebuild.LISTED", 3)
    receipt = await site.bench.store(b"ours")
    envelope = await site.envelope(receipt.version.blob)
    for _ in range(9):
        await site.plant(envelope_key(new_id(), new_id()), envelope)
    _, report = await site.rebuilt()
    assert report.refused == {"unknown-tenant": 9}
    assert (len(report.locked), len(report.findings)) == (3, 3)
    assert await site.bench.read() == b"ours"
