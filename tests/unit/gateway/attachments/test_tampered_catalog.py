"""What whoever writes to the catalog cannot make the gateway say, and what a reader cannot guess."""

import hashlib
import json

import pytest
from sqlalchemy import Connection, select, update

from gateway.attachments.downloads import Downloads
from gateway.attachments.listing import Listing
from gateway.attachments.operations import Operations
from gateway.attachments.uploads import Draft
from gateway.catalog import tables
from gateway.errors import OperationDiffers, Unreadable
from tests.unit.gateway.conftest import Bench, pieces

ATTACHMENTS, VERSIONS = tables.attachments.c, tables.versions.c


def operations(bench: Bench) -> Operations:
    downloads = Downloads(bench.catalog, bench.keys, lambda: bench.targets)
    return Operations(bench.catalog, bench.uploads, downloads, bench.background)


async def rename(bench: Bench, old: str, new: str) -> None:
    def work(connection: Connection) -> None:
        renamed = update(tables.attachments).where(ATTACHMENTS.reference == old)
        connection.execute(renamed.values(reference=new))

    await bench.catalog._database.write(work)


async def swap_envelopes(bench: Bench, one: str, two: str) -> None:
    def work(connection: Connection) -> None:
        of = {
            version: connection.scalar(select(VERSIONS.envelope).where(VERSIONS.id == version))
            for version in (one, two)
        }
        for here, there in ((one, two), (two, one)):
            row = update(tables.versions).where(VERSIONS.id == here)
            connection.execute(row.values(envelope=of[there]))

    await bench.catalog._database.write(work)


async def spoil_envelope(bench: Bench, version: str) -> None:
    def work(connection: Connection) -> None:
        row = update(tables.versions).where(VERSIONS.id == version)
        connection.execute(row.values(envelope=b"no envelope"))

    await bench.catalog._database.write(work)


async def test_two_attachments_that_changed_references_are_not_served(bench: Bench) -> None:
    await bench.store(b"the salary", "salary")
    await bench.store(b"the menu", "menu")
    await rename(bench, "salary", "elsewhere")
    await rename(bench, "menu", "salary")
    await rename(bench, "elsewhere", "menu")

    with pytest.raises(Unreadable):
        await bench.read("salary")
    page = await Listing(bench.catalog, bench.keys).page(bench.tenant)

    assert [row.error for row in page.rows] == ["damaged", "damaged"]


async def test_two_versions_that_changed_envelopes_are_not_served(bench: Bench) -> None:
    one = await bench.store(b"one", "one")
    two = await bench.store(b"two", "two")
    await swap_envelopes(bench, one.version.id, two.version.id)

    with pytest.raises(Unreadable):
        await bench.read("one")
    page = await Listing(bench.catalog, bench.keys).page(bench.tenant)

    assert [row.error for row in page.rows] == ["damaged", "damaged"]


async def test_an_envelope_that_is_none_hides_no_other(bench: Bench) -> None:
    one = await bench.store(b"one", "one")
    await bench.store(b"two", "two")
    await spoil_envelope(bench, one.version.id)

    with pytest.raises(Unreadable):
        await bench.read("one")
    page = await Listing(bench.catalog, bench.keys).page(bench.tenant)

    assert [row.error for row in page.rows] == ["damaged", None]
    assert page.rows[1].attributes is not None


async def test_the_name_of_an_idempotent_request_cannot_be_guessed(bench: Bench) -> None:
    guess = hashlib.sha256(json.dumps(["PUT", "report", "plan.pdf"]).encode()).digest()
    use = operations(bench)
    draft = Draft(bench.tenant, "report", name="plan.pdf")
    await use.store_once(draft, pieces(b"body"), key="a random key", fingerprint=guess)

    def kept(connection: Connection) -> list[bytes]:
        return list(connection.scalars(select(tables.operations.c.fingerprint)))

    (fingerprint,) = await bench.catalog._database.read(kept)

    assert fingerprint != guess
    again, repeated = await use.store_once(
        Draft(bench.tenant, "report"), pieces(b"body"), key="a random key", fingerprint=guess
    )
    assert repeated
    assert again.attachment.reference == "report"
    with pytest.raises(OperationDiffers):
        await use.store_once(
            Draft(bench.tenant, "report"), pieces(b"body"), key="a random key", fingerprint=b"other"
        )
