"""Which versions are lost with the targets that are, on both databases."""

from dataclasses import replace

from gateway.catalog import SqlCatalog
from gateway.model import ReplicaState
from gateway.ports import Finding
from tests.contracts.catalog.samples import ANY, new_upload, put, version_of


async def test_what_none_of_the_others_holds(catalog: SqlCatalog, tenant: str) -> None:
    made = [await put(catalog, tenant, f"r{number}") for number in range(5)]
    ids = sorted(version.id for version in made)

    assert await catalog.replicas.stranded(["primary"]) == []
    assert await catalog.replicas.stranded(["primary", "backup"]) == []
    assert [v.id for v in await catalog.replicas.stranded(["backup"])] == ids
    assert [v.id for v in await catalog.replicas.stranded([])] == ids

    whole = Finding(ids[1], "backup", ReplicaState.STORED)
    damaged = Finding(ids[2], "primary", ReplicaState.DAMAGED, "flipped")
    await catalog.replicas.report([whole, damaged])

    assert [v.id for v in await catalog.replicas.stranded(["backup"])] == [ids[0], *ids[2:]]
    assert [v.id for v in await catalog.replicas.stranded(["primary"])] == [ids[2]]


async def test_by_page_and_without_what_takes_room(catalog: SqlCatalog, tenant: str) -> None:
    made = sorted(
        [await put(catalog, tenant, f"r{number}") for number in range(5)], key=lambda v: v.id
    )

    first = await catalog.replicas.stranded([], limit=3)
    rest = await catalog.replicas.stranded([], after=first[-1].id, limit=3)

    assert [*first, *rest] == [replace(version, envelope=b"") for version in made]


async def test_what_travels_in_the_catalog_is_not_stranded(
    catalog: SqlCatalog, tenant: str
) -> None:
    upload = new_upload(tenant)
    version = version_of(upload, await catalog.begin(upload, "small"))
    await catalog.commit(replace(version, body_size=0, inline=b"sealed"), {}, ANY, None)

    assert await catalog.replicas.stranded([]) == []
