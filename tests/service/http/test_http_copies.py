"""What clients see of copies: who held it, what was degraded, and reads that find a copy bad."""

import asyncio
import secrets

import pytest

from gateway.errors import StoreDenied, StoreUnavailable
from tests.service.http.application import Application
from tests.service.http.conftest import NewSite
from tests.service.http.eventually import eventually
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
BODY = secrets.token_bytes(300_000)


async def replicas(client: Application, path: str) -> dict[str, str]:
    (version,) = (await client.get(f"{path}/versions")).json["versions"]
    shown: dict[str, str] = version["replicas"]
    return shown


async def counted(client: Application, name: str) -> float:
    text = (await client.get("/metrics")).body.decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("found", ["damaged", "missing"])
async def test_a_copy_that_a_read_finds_bad_is_recorded_and_asked_last(
    new_site: NewSite, found: str
) -> None:
    # A site of its own: it has asked nobody yet, so the primary is asked first.
    async with new_site() as site, site.tenant() as (client, path):
        await client.stored(path, BODY)
        primary = site.stores["primary"]
        if found == "damaged":
            primary.faults.damage_from = 100_000
        else:
            (body,) = [key for key in await primary.keys() if key.endswith("body")]
            await primary.inner.delete(body)

        assert (await client.get(path)).body == BODY

        async def told() -> bool:
            return (await replicas(client, path))["primary"] == found

        await eventually(told)
        reason = {"damaged": "damaged", "missing": "absent"}[found]
        failures = f'sealgate_replica_reads_failed_total{{reason="{reason}",target="primary"}}'
        assert await counted(client, failures) == 1
        assert (await client.get(path)).body == BODY
        assert primary.calls["read"] == 1


async def test_a_tenant_has_a_policy_of_its_own(site: Site, client: Application, path: str) -> None:
    await site.catalog.set_quorum(path.split("/")[3], "majority")
    site.stores["primary"].faults.refuse_writes = StoreDenied("no")

    answer = await client.put(path, BODY)

    assert answer.status == 201
    assert answer.headers["Sealgate-Stored"] == "east, west"
    assert "Sealgate-Degraded" not in answer.headers
    assert answer.json["degraded"] is False


async def test_a_degraded_acknowledgement_says_so_every_time(new_site: NewSite) -> None:
    async with new_site(quorum={"degraded": True}) as site, site.tenant() as (client, path):
        for name in ("primary", "west"):
            site.stores[name].faults.refuse = StoreUnavailable("down")
        for replayed in (False, True):
            async with asyncio.timeout(100):
                answer = await client.put(path, BODY, {"Idempotency-Key": "once"})
            assert (answer.status, answer.headers["Sealgate-Stored"]) == (201, "east")
            assert answer.headers["Sealgate-Degraded"] == "true"
            assert answer.json["degraded"] is True
            assert ("Idempotency-Replayed" in answer.headers) is replayed
        assert await counted(client, "sealgate_degraded_acknowledgements_total") == 1
        assert await counted(client, "sealgate_degraded_acknowledgement_timestamp") > 1e9
        assert (await client.get("/readyz")).status == 200
        assert (await client.get(path)).body == BODY
