"""A catalog that is rebuilt after a reseal: the later blob counts, the older one does not stay for ever."""

import os
from collections.abc import Sequence
from datetime import timedelta

import pytest

from gateway.catalog import SqlCatalog
from gateway.errors import CatalogUnavailable
from gateway.model import Version, body_key, envelope_key, now
from gateway.rotation.reseal import Outcome
from tests.doubles.blobs import whole
from tests.doubles.resealing import reseal
from tests.unit.gateway.conftest import PART
from tests.unit.gateway.recovery.conftest import Site


async def resealed(site: Site, content: bytes, reference: str = "report") -> Sequence[Version]:
    """Store and reseal; return the version as it was and as it is."""
    receipt = await site.bench.store(content, reference)
    assert await reseal(site.bench, receipt.version) is Outcome.RESEALED
    found = await site.bench.catalog.find(site.bench.tenant, reference)
    return receipt.version, found.version


async def known(catalog: SqlCatalog, *versions: Version) -> set[str]:
    """Return which of their blobs somebody owns."""
    return set(await catalog.known([version.blob for version in versions]))


@pytest.mark.parametrize("size", [100, 2 * PART])
async def test_of_two_blobs_the_later_counts(site: Site, size: int) -> None:
    contents = {f"r{number}": os.urandom(size) for number in range(4)}  # listed in any order
    made = {name: await resealed(site, content, name) for name, content in contents.items()}

    catalog, report = await site.rebuilt(use_backup=False)

    assert (report.added, report.replaced, report.refused) == (4, 4, {})
    assert report.clean
    for name, (old, new) in made.items():
        found = await catalog.find(site.bench.tenant, name)
        assert found.version == new
        assert await site.bench.read(name) == contents[name]
        assert await known(catalog, old, new) == {old.blob, new.blob}
    again = await site.rebuild(catalog).run(site.east, merge=True)
    assert (again.added, again.replaced, again.refused) == (0, 0, {})


async def test_a_copy_from_before_the_reseal_is_not_the_last_word(site: Site) -> None:
    content = os.urandom(2 * PART)
    receipt = await site.bench.store(content)
    await site.backups().make()
    assert await reseal(site.bench, receipt.version, before=now()) is Outcome.RESEALED
    new = (await site.bench.catalog.find(site.bench.tenant, "report")).version
    for store in site.bench.stores:  # its time has come since
        await store.delete(envelope_key(site.bench.tenant, receipt.version.blob))
        await store.delete(body_key(site.bench.tenant, receipt.version.blob))

    catalog, report = await site.rebuilt()

    assert report.backup is not None
    assert (report.added, report.older, report.refused) == (1, 0, {})
    found = await catalog.find(site.bench.tenant, "report")
    assert found.version == new
    assert {name: state.value for name, state in found.replicas.items()} == {
        "primary": "missing",
        "east": "stored",
        "west": "missing",
    }
    assert await site.bench.read() == content
    assert await known(catalog, receipt.version, new) == {receipt.version.blob, new.blob}


async def test_a_copy_from_the_middle_of_a_reseal_is_not_the_last_word(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * PART)
    receipt = await site.bench.store(content)
    switch = site.bench.catalog.wraps.switch

    async def copied_first(*words: object) -> bool:
        await site.backups().make()
        return await switch(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(site.bench.catalog.wraps, "switch", copied_first)
    monkeypatch.setattr("gateway.recovery.rebuild.SKEW", timedelta())
    assert await reseal(site.bench, receipt.version, before=now()) is Outcome.RESEALED
    new = (await site.bench.catalog.find(site.bench.tenant, "report")).version
    catalog, _ = await site.rebuilt()
    assert (await catalog.find(site.bench.tenant, "report")).version == new
    assert await site.bench.read() == content


async def test_one_that_was_killed_before_it_switched_costs_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * PART)
    receipt = await site.bench.store(content)

    async def killed(*_: object) -> bool:
        raise CatalogUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(site.bench.catalog.wraps, "switch", killed)
        broken.setattr(site.bench.catalog.wraps, "abandon", killed)
        broken.setattr("gateway.rotation.reseal.ASKED", 1)
        with pytest.raises(CatalogUnavailable):
            await reseal(site.bench, receipt.version)
    catalog, report = await site.rebuilt(use_backup=False)
    assert (report.added, report.replaced) == (1, 1)
    assert await site.bench.read() == content
    found = (await catalog.find(site.bench.tenant, "report")).version
    assert found.blob != receipt.version.blob
    assert await whole(site.bench.east, envelope_key(site.bench.tenant, found.blob))
    assert await reseal(site.bench, found) is Outcome.RESEALED
    assert await site.bench.read() == content
