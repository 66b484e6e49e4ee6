"""A byte flipped in each replica in turn, behind the back of a real S3 server: all are found and mended.

Over SQLite and PostgreSQL, with the adapters that a gateway has. `-s` prints the figures.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import Tenant, new_id, now
from gateway.pacing.rate import Rate
from gateway.ports import Store
from gateway.repair.copying import Copier
from gateway.repair.findings import Kind
from gateway.repair.inventory import Inventory
from gateway.repair.opening import Opening
from gateway.repair.repairer import Repairer
from gateway.repair.scrub import Scrub, ScrubSettings
from gateway.repair.verify import check_replica
from gateway.stores.retrying import RetryingStore
from gateway.stores.s3 import S3Store
from gateway.targets.quorum import Role, Target
from tests.contracts.stores.conftest import settings
from tests.doubles.blobs import Blob, commit, seal
from tests.doubles.keys import MemoryKeys
from tests.doubles.scrub_site import Row
from tests.servers.postgres import Postgres
from tests.servers.versitygw import Versitygw

SIZES = (0, 1, 700, 3000, 16_384, 70_000, 300_000, 9_000_000)
NAMES = ("primary", "east")
NOW = datetime.now(UTC)


@dataclass
class Site:
    """Two buckets of one server, and versions that both hold."""

    catalog: SqlCatalog
    stores: dict[str, Store]
    folders: dict[str, Path]
    blobs: list[Blob]

    @property
    def targets(self) -> list[Target]:
        """Both."""
        roles = {"primary": Role.PRIMARY, "east": Role.BACKUP}
        return [Target(name, roles[name], self.stores[name]) for name in NAMES]

    @property
    def scrub(self) -> Scrub:
        """What verifies."""
        chosen = ScrubSettings(parallel=4, sample=0.0)
        return Scrub(
            self.catalog.replicas,
            self.catalog.wraps,
            self.targets,
            Opening(MemoryKeys()),
            rate=Rate(),
            settings=chosen,
        )

    @property
    def repairer(self) -> Repairer:
        """What mends."""
        copier = Copier(self.stores, part_size=5 << 20, parallel=2, rate=Rate())
        return Repairer(self.catalog.replicas, copier, self.targets)

    async def whole(self) -> None:
        """Show that every replica is."""
        for blob in self.blobs:
            for store in self.stores.values():
                await check_replica(store, blob.version)


@pytest.fixture(params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, s3: Versitygw, tmp_path: Path
) -> AsyncIterator[Site]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = await asyncio.to_thread(postgres.new_database)
    await migrate(url)
    catalog = await open_catalog(url, patience=60.0)  # the machine may be busy
    buckets = {name: s3.new_bucket() for name in NAMES}
    stores: dict[str, Store] = {
        name: RetryingStore(S3Store(settings(s3, bucket))) for name, bucket in buckets.items()
    }
    tenant = Tenant(new_id(), "standard", now())
    await catalog.add_tenant(tenant)
    blobs = [
        await commit(catalog, tenant.id, os.urandom(size), stores, on=NAMES, inline=0 < size < 3000)
        for size in SIZES
    ]
    folders = {name: s3.bucket_folder(bucket) for name, bucket in buckets.items()}
    yield Site(catalog, stores, folders, blobs)
    for store in stores.values():
        await store.close()
    await catalog.close()


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit of a file, in place: the server keeps its checksum, as with rot on a disk."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    with path.open("r+b") as file:
        file.write(data)


async def test_a_byte_flipped_in_each_replica_in_turn_is_found_and_mended(site: Site) -> None:
    rng = random.Random(5)
    flips = found = mended = 0
    with structlog.testing.capture_logs():
        for number, blob in enumerate(site.blobs):
            for name in NAMES:
                keys = [blob.envelope_key]
                if blob.version.inline is None:
                    keys.append(blob.body_key)
                key = keys[(number + NAMES.index(name)) % len(keys)]
                await asyncio.to_thread(flip, site.folders[name] / key, rng)
                flips += 1
                tally = await site.scrub.all(name, Row())
                assert [each.version for each in tally.troubles] == [blob.version.id]
                found += tally.found[Kind.DAMAGED]
                assert tally.verified == len(site.blobs) - 1
                mended += (await site.repairer.repair(name)).filled
    await site.whole()
    assert (found, mended) == (flips, flips)
    print(f"\nreplicas with a flipped bit {flips}, found {found}, mended {mended}")  # noqa: T201 - the figure


async def test_what_is_deleted_replayed_or_nobody_s_is_found_by_its_kind(site: Site) -> None:
    gone, replayed, swapped, other = (site.blobs[n] for n in (4, 5, 6, 3))
    older = seal(b"o" * 99, tenant=gone.version.tenant, attachment=replayed.version.attachment)
    east = site.folders["east"]
    orphan = east / f"t/{gone.version.tenant}/{new_id()}"

    def harm() -> None:
        (east / gone.body_key).unlink()
        (east / replayed.envelope_key).write_bytes(older.sealed)
        (east / replayed.body_key).write_bytes(older.body)
        (east / swapped.envelope_key).write_bytes(other.sealed)
        orphan.mkdir()
        (orphan / "body").write_bytes(b"litter")

    await asyncio.to_thread(harm)
    with structlog.testing.capture_logs():
        listing = Inventory(site.catalog, site.catalog.replicas, site.targets, rate=Rate())
        listed = await listing.take("east")
        scrubbed = await site.scrub.all("east", Row())
        found = {each.blob: each.kind for each in (*listed.troubles, *scrubbed.troubles)}
        assert found == {
            gone.version.blob: Kind.MISSING,
            orphan.name: Kind.ORPHANED,
            swapped.version.blob: Kind.SWAPPED,
            # Its size told the listing first.
            replayed.version.blob: Kind.DAMAGED,
        }
        assert (await site.repairer.repair("east")).filled == 3
    await site.whole()
