"""Finding, listing and trashing attachments, on both databases."""

import itertools
from dataclasses import replace

import pytest

from gateway.errors import NotFound, PreconditionFailed
from gateway.model import Precondition, Tenant, new_id
from gateway.ports import Catalog
from tests.contracts.catalog.samples import (
    ABSENT,
    ANY,
    PRESENT,
    START,
    STORED,
    FakeClock,
    at,
    new_upload,
    put,
)

# Byte order: capitals first, accents after z, and beyond the BMP after U+FFFD. No locale agrees.
IN_ORDER = ["A", "Z", "a", "a/", "a/b", "a0", "ab", "b", "z", "ä", "é", "\ufffd", "\U0001f600"]


async def test_every_version_stays_readable(catalog: Catalog, tenant: str) -> None:
    first, second = await put(catalog, tenant, "a"), await put(catalog, tenant, "a")
    assert (await catalog.find(tenant, "a")).version == second
    found = await catalog.find(tenant, "a", first.id)
    assert (found.version, found.current, found.replicas) == (first, False, STORED)
    listed = await catalog.versions(tenant, "a")
    bare = [replace(version, envelope=b"") for version in (second, first)]
    assert [f.version for f in listed] == bare
    assert [f.current for f in listed] == [True, False]
    assert all(f.replicas == STORED for f in listed)


async def test_versions_come_in_pages(catalog: Catalog, tenant: str) -> None:
    ids = [(await put(catalog, tenant, "a")).id for _ in range(5)]
    await put(catalog, tenant, "b")
    seen: list[str] = []
    while page := await catalog.versions(tenant, "a", seen[-1] if seen else None, 2):
        assert len(page) <= 2
        seen += [found.version.id for found in page]
    assert seen == ids[::-1]
    for stranger in (new_id(), (await catalog.find(tenant, "b")).version.id):
        with pytest.raises(NotFound):
            await catalog.versions(tenant, "a", stranger, 2)


async def test_a_page_beyond_what_one_query_takes_has_every_replica(
    catalog: Catalog, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.catalog.contents.AT_ONCE", 2)
    for _ in range(5):
        await put(catalog, tenant, "a")
    found = await catalog.versions(tenant, "a")
    assert [f.replicas for f in found] == [STORED] * 5


async def test_version_of_another_attachment(catalog: Catalog, tenant: str) -> None:
    version = await put(catalog, tenant, "a")
    await put(catalog, tenant, "b")
    with pytest.raises(NotFound):
        await catalog.find(tenant, "b", version.id)
    with pytest.raises(NotFound):
        await catalog.find(tenant, "a", new_id())


async def test_tenants_see_their_own(catalog: Catalog, tenant: str) -> None:
    other = Tenant(new_id(), "standard", START)
    await catalog.add_tenant(other)
    mine = await put(catalog, tenant, "a")
    theirs = await put(catalog, other.id, "a")
    assert (await catalog.find(tenant, "a")).version == mine
    assert (await catalog.find(other.id, "a")).version == theirs
    with pytest.raises(NotFound):
        await catalog.find(tenant, "a", theirs.id)
    with pytest.raises(NotFound):
        await catalog.by_version(tenant, theirs.id)
    assert [f.version for f in await catalog.list(tenant, "", None, 9)] == [mine]


async def test_by_version_reaches_into_the_trash(
    catalog: Catalog, tenant: str, clock: FakeClock
) -> None:
    version = await put(catalog, tenant, "a")
    assert (await catalog.by_version(tenant, version.id)).attachment.deleted is None
    clock.now = at(5)
    await catalog.trash(tenant, "a", ANY)
    found = await catalog.by_version(tenant, version.id)
    assert (found.version, found.attachment.deleted) == (version, at(5))
    assert found.replicas == STORED


async def test_list_is_in_code_point_order(catalog: Catalog, tenant: str) -> None:
    for reference in reversed(IN_ORDER):
        await put(catalog, tenant, reference)
    assert sorted(IN_ORDER) == IN_ORDER
    assert [f.attachment.reference for f in await catalog.list(tenant, "", None, 99)] == IN_ORDER


async def test_list_by_page(catalog: Catalog, tenant: str) -> None:
    for reference in IN_ORDER:
        await put(catalog, tenant, reference)
    prefixes = ["", "a", "a/", "é", "\U0001f600", "nothing"]
    for prefix, limit in itertools.product(prefixes, [1, 2, 5, 99]):
        seen: list[str] = []
        after: str | None = None
        while page := await catalog.list(tenant, prefix, after, limit):
            assert len(page) <= limit
            seen += [f.attachment.reference for f in page]
            after = seen[-1]
        assert seen == [r for r in IN_ORDER if r.startswith(prefix)]


async def test_list_after_what_is_no_reference(catalog: Catalog, tenant: str) -> None:
    for reference in ("b", "d"):
        await put(catalog, tenant, reference)
    assert [f.attachment.reference for f in await catalog.list(tenant, "", "c", 9)] == ["d"]
    assert [f.attachment.reference for f in await catalog.list(tenant, "b", "a", 9)] == ["b"]
    assert await catalog.list(tenant, "b", "c", 9) == []


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
async def test_list_by_what_no_reference_holds(catalog: Catalog, tenant: str, text: str) -> None:
    await put(catalog, tenant, "a")
    assert await catalog.list(tenant, text, None, 9) == []
    assert await catalog.list(tenant, "", text, 9) == []


async def test_wildcards_mean_themselves(catalog: Catalog, tenant: str) -> None:
    for reference in ("a%", "a_", "ab"):
        await put(catalog, tenant, reference)
    assert len(await catalog.list(tenant, "a%", None, 9)) == 1
    assert len(await catalog.list(tenant, "a_", None, 9)) == 1


async def test_list_shows_current_versions_only(catalog: Catalog, tenant: str) -> None:
    await put(catalog, tenant, "a")
    current = await put(catalog, tenant, "a")
    await put(catalog, tenant, "b")
    await catalog.trash(tenant, "b", ANY)
    await catalog.begin(new_upload(tenant), "c")
    (found,) = await catalog.list(tenant, "", None, 9)
    assert (found.version, found.current, found.replicas) == (current, True, STORED)


async def test_trash_hides(catalog: Catalog, tenant: str, clock: FakeClock) -> None:
    version = await put(catalog, tenant, "a")
    clock.now = at(7)
    trashed = await catalog.trash(tenant, "a", ANY)
    assert (trashed.id, trashed.reference) == (version.attachment, "a")
    assert trashed.deleted == at(7)
    for ask in (catalog.find(tenant, "a"), catalog.find(tenant, "a", version.id)):
        with pytest.raises(NotFound):
            await ask
    with pytest.raises(NotFound):
        await catalog.versions(tenant, "a")
    with pytest.raises(NotFound):
        await catalog.trash(tenant, "a", ANY)


async def test_trash_under_a_precondition(catalog: Catalog, tenant: str) -> None:
    first, second = await put(catalog, tenant, "a"), await put(catalog, tenant, "a")
    for precondition in (ABSENT, Precondition(versions=frozenset({first.id}))):
        with pytest.raises(PreconditionFailed):
            await catalog.trash(tenant, "a", precondition)
    assert (await catalog.find(tenant, "a")).version == second
    precondition = Precondition(must_exist=True, versions=frozenset({second.id}))
    await catalog.trash(tenant, "a", precondition)


async def test_trash_of_nothing(catalog: Catalog, tenant: str) -> None:
    with pytest.raises(NotFound):
        await catalog.trash(tenant, "a", PRESENT)


async def test_trash_holds_a_reference_many_times(catalog: Catalog, tenant: str) -> None:
    versions = []
    for _ in range(3):
        versions.append(await put(catalog, tenant, "a", ABSENT))
        await catalog.trash(tenant, "a", ANY)
    assert len({v.attachment for v in versions}) == 3
