"""kill -9 of the gateway in the middle of uploads, again and again.

Afterwards every acknowledged attachment reads back from the primary alone and from each acknowledged
backup alone, nothing is visible that was not sent whole, and leftovers are reaped.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.attachments.downloads import Downloads
from gateway.errors import NotFound
from gateway.model import ReplicaState, envelope_key
from gateway.settings.config import load
from gateway.wiring.core import open_core
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NAMES, NewStack
from tests.stack.client import Client, MiB
from tests.stack.stack import Bucket, Stack

SIZES = (0, 300, 65_536, 200_000, 3 * MiB, 20 * MiB)
AT_ONCE = 4


@dataclass(slots=True)
class Journal:
    """What the clients sent and what they were told, by attachment."""

    sent_whole: dict[str, str] = field(default_factory=dict)  # reference: SHA-256
    acknowledged: dict[str, list[str]] = field(default_factory=dict)  # reference: targets
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def acknowledge(self, reference: str, stored: list[str]) -> None:
        """Note that an attachment was acknowledged, and where."""
        async with self.changed:
            self.acknowledged[reference] = stored
            self.changed.notify_all()

    async def more(self, count: int) -> None:
        """Wait for `count` acknowledgements more than there are now."""
        target = len(self.acknowledged) + count
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.acknowledged) >= target)


async def upload(client: Client, tenant: str, journal: Journal, rng: random.Random) -> None:
    """Upload one attachment, slowly enough to be killed in the middle, and note the answer."""
    reference, size, running = rng.randbytes(8).hex(), rng.choice(SIZES), hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        left = size
        while left:
            piece = rng.randbytes(min(left, 256 * 1024))
            left -= len(piece)
            running.update(piece)
            if not left:
                journal.sent_whole[reference] = running.hexdigest()
            yield piece
            await asyncio.sleep(0.002)

    if not size:
        journal.sent_whole[reference] = running.hexdigest()
    path = f"/v1/tenants/{tenant}/attachments/{reference}"
    async with client.request("PUT", path, data=content()) as answer:
        if answer.status == 201:
            await journal.acknowledge(reference, (await answer.json())["stored"])


async def uploads_until_killed(
    stack: Stack,
    token: str,
    tenant: str,
    journal: Journal,
    rng: random.Random,
    *,
    moment: tuple[int, float],
) -> None:
    """Keep several uploads going until the gateway is gone, after so many of them and seconds."""

    async def one_after_another(client: Client) -> None:
        try:
            while True:
                await upload(client, tenant, journal, rng)
        except (aiohttp.ClientError, ConnectionError):
            return

    async with Client(stack.url, token) as client, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another(client))
        # By acknowledgements and not by time alone, so that a slow machine proves as much.
        await journal.more(moment[0])
        await asyncio.sleep(moment[1])
        await asyncio.to_thread(stack.gateway.kill)


async def read_from(stack: Stack, tenant: str, journal: Journal) -> dict[str, set[str]]:
    """Read everything visible from each target alone; return who has each attachment intact."""
    settings = await asyncio.to_thread(load, stack.home / "gateway.toml", environment=False)
    intact: dict[str, set[str]] = {}
    async with open_core(settings) as core:
        for listed in await core.catalog.list(tenant, "", None, 100_000):
            reference = listed.attachment.reference
            found = await core.catalog.find(tenant, reference)
            intact[reference] = set()
            for target in core.targets:
                if found.replicas[target.name] is not ReplicaState.STORED:
                    continue
                # The envelope lies there too, and with it all that a rebuilt catalog would need.
                await target.store.stat(envelope_key(tenant, found.version.blob))
                alone = Downloads(
                    core.catalog, core.services.downloads._keys, partial(list, [target])
                )
                opened = await alone.open(found, request_id="test")
                running = hashlib.sha256()
                async with aclosing(alone.read(opened, 0, opened.size)) as stream:
                    async for piece in stream:
                        running.update(piece)
                assert running.hexdigest() == journal.sent_whole[reference]
                intact[reference].add(target.name)
        await core.reaper.uploads()
        assert await core.catalog.stale(timedelta(), 10) == []
        for target in core.targets:
            assert [each async for each in target.store.unfinished("t/")] == []
            blobs = {stat.key.split("/")[2] async for stat in target.store.list("t/")}
            assert blobs <= await core.catalog.known(sorted(blobs))
        with pytest.raises(NotFound):
            await core.catalog.find(tenant, "never sent")
    return intact


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(25, id="25"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
async def test_killed_at_any_point_nothing_acknowledged_is_lost(  # noqa: PLR0917 - fixtures
    kills: int,
    vault: Vault,
    s3: Versitygw,
    tmp_path: Path,
    new_stack: NewStack,
    record_property: Callable[[str, object], None],
) -> None:
    stack = await new_stack(
        tmp_path / "stack",
        targets={name: Bucket(s3, s3.new_bucket()) for name in NAMES},
        catalog=f"sqlite:///{tmp_path / 'catalog.db'}",
        vault=await asyncio.to_thread(prepare, vault, tmp_path),
        extra={"reaper": {"grace": 1.0, "keep_complete": 0}},
        top={"heartbeat": 0.25},
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
    rng, journal = random.Random(kills), Journal()
    # Drawn ahead: uploads side by side draw from the same dice, in an order that differs from run to run.
    moments = [(rng.randrange(4), rng.uniform(0, 0.3)) for _ in range(kills)]
    for moment in moments:
        await uploads_until_killed(stack, token, tenant, journal, rng, moment=moment)
        await asyncio.to_thread(stack.gateway.start)
    await asyncio.to_thread(stack.gateway.stop)
    await asyncio.sleep(1.1)  # past the reaper's grace

    intact = await read_from(stack, tenant, journal)

    record_property("kills", kills)
    record_property("acknowledged", len(journal.acknowledged))
    assert len(journal.acknowledged) >= sum(count for count, _ in moments) >= kills
    for reference, targets in journal.acknowledged.items():
        assert set(targets) <= intact[reference]
    assert intact.keys() <= journal.sent_whole.keys()
