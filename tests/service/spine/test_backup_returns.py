"""A backup is down while attachments are stored, and comes back: it converges, and nothing is lost."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from gateway.cli.status import lags_of
from gateway.settings.config import load
from gateway.wiring.core import open_core
from tests.servers.postgres import Postgres
from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NewStack
from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket

SIZES = (0, 300, 70_000, 3 * MiB, 0, 400, 80_000, 20 * MiB)


async def lag(client: Client, true: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Wait until what `sealgate status` would say of the backup is true."""
    async with asyncio.timeout(60):
        while True:
            async with client.request("GET", "/metrics") as answer:
                told = lags_of(await answer.text()).get("east", {"objects": 0, "late": 0})
            if true(told):
                return told
            await asyncio.sleep(0.1)


async def test_a_backup_that_was_down_catches_up(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    new_s3: Callable[[], Versitygw],
    s3: Versitygw,
    postgres: Postgres,
    new_stack: NewStack,
    record_property: Callable[[str, object], None],
) -> None:
    east = await asyncio.to_thread(new_s3)
    stack = await new_stack(
        tmp_path / "stack",
        targets={
            "primary": Bucket(s3, s3.new_bucket()),
            "west": Bucket(s3, s3.new_bucket()),
            "east": Bucket(east, east.new_bucket()),
        },
        catalog=postgres.new_database(),
        extra={
            "repair": {"report_every": 0.1, "threshold": 1.0},
        },
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()

        def path(number: int) -> str:
            return f"/v1/tenants/{tenant}/attachments/{number}"

        await asyncio.to_thread(east.kill)
        for number, size in enumerate(SIZES):
            body = generated(size, str(number).encode())
            receipt = await client.json("PUT", path(number), data=body)
            assert set(receipt["stored"]) == {"primary", "west"}
        behind = await lag(client, lambda east: east["late"] > 0 and east["objects"] == len(SIZES))
        assert behind["bytes"] > sum(size for size in SIZES if size > 70_000 - 1)

        await asyncio.to_thread(east.start)
        began = time.monotonic()
        settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
        async with open_core(settings) as core:
            tally = await core.repairer.repair("east")
        assert (tally.filled, tally.failed) == (len(SIZES), 0)
        record_property("seconds to converge", round(time.monotonic() - began, 2))
        assert (await lag(client, lambda east: not east["late"]))["objects"] == 0
        async with client.request("GET", "/metrics") as answer:
            figures = await answer.text()
        assert 'sealgate_replica_threshold_missed_total{target="east"} 1.0' in figures
        assert 'sealgate_replica_caught_up_total{target="east"} 1.0' in figures

        # Everything, from that backup alone: the other two lose all that they have.
        for name in ("primary", "west"):
            place = stack.targets[name]
            assert isinstance(place, Bucket)
            for each in place.folder.rglob("body"):
                each.unlink()
        for number, size in enumerate(SIZES):
            sent = generated(size, str(number).encode())
            assert await client.digest(path(number)) == await digest_of(sent)
