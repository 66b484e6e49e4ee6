"""A backup is down while attachments are stored, and comes back: it converges, and nothing is lost."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NewStack
from tests.stack.client import Client, MiB, digest_of, generated
from tests.stack.stack import Bucket, Stack

SIZES = (0, 300, 70_000, 3 * MiB, 0, 400, 80_000, 20 * MiB)


async def lag(stack: Stack, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until what `sealgate status` says of the backup is true."""
    async with asyncio.timeout(60):
        while True:
            told = json.loads(await asyncio.to_thread(stack.sealgate, "status", "--json"))
            if true(told["lag"].get("east", {"objects": 0, "late": 0})):
                return dict(told["lag"]["east"])


async def test_a_backup_that_was_down_catches_up(
    tmp_path: Path,
    new_s3: Callable[[], Versitygw],
    s3: Versitygw,
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
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        extra={
            "limits": {"backup_patience": 0.2},
            "repair": {"report_every": 0.1, "threshold": 1.0, "lease": 5.0},
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
        behind = await lag(stack, lambda east: bool(east["late"]))
        assert behind["objects"] == len(SIZES)
        assert behind["bytes"] > sum(size for size in SIZES if size > 70_000 - 1)

        await asyncio.to_thread(east.start)
        began = time.monotonic()
        done = await asyncio.to_thread(
            stack.sealgate, "repair", "--target", "east", "--until-done", "--json"
        )
        record_property("seconds to converge", round(time.monotonic() - began, 2))
        told = json.loads(done)["targets"]["east"]
        assert (told["filled"], told["pending"], told["failed"]) == (len(SIZES), 0, 0)
        assert (await lag(stack, lambda east: not east["late"]))["objects"] == 0
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
