"""Killed in the midst of changes, a key service leaves none that its journal does not tell of."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyservice.journal.entry import Chain
from keyservice.wire import KeyServiceError
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_process import Process, config, serve

CHANGES = 25  # that are answered before the kill
TENANTS = [secrets.token_hex(16) for _ in range(3)]


async def change_until_killed(site: Site, url: str, process: Process) -> dict[str, int]:
    """Change tenants' settings until nobody answers; return how many changes of each were answered."""
    answered = dict.fromkeys(TENANTS, 0)
    async with site.client(url, attempts=1) as client:
        for tenant in TENANTS:
            await client.create_tenant(tenant, tier="business")

        async def change(tenant: str) -> None:
            with contextlib.suppress(KeyServiceError):
                while True:
                    ttl = float(answered[tenant] + 1)
                    await client.control.settings(tenant, reason="test", cache_ttl=ttl)
                    answered[tenant] += 1
                    if sum(answered.values()) == CHANGES:
                        process.popen.kill()

        async with asyncio.TaskGroup() as group:
            for tenant in TENANTS:
                group.create_task(change(tenant))
    return answered


def entries(site: Site, tenant: str) -> list[dict[str, Any]]:
    """Return a tenant's journal, which is whole."""
    folder = site.folder / "records" / "journal" / tenant
    lines = [path.read_text() for path in sorted(folder.glob("*.json"))]
    chain = Chain(tenant)
    assert [fault for line in lines if (fault := chain.take(line))] == []
    return [json.loads(line) for line in lines]


def test_no_change_is_missing_after_a_kill(
    site: Site, config: Path, serve: Callable[..., Process]
) -> None:
    process = serve("--config", config)
    url = process.wait_for("serving")["url"]
    answered = asyncio.run(change_until_killed(site, url, process))
    process.popen.wait()
    assert sum(answered.values()) >= CHANGES
    for tenant, count in answered.items():
        record = json.loads((site.folder / "records" / f"{tenant}.json").read_text())
        told = entries(site, tenant)
        done = [entry for entry in told if entry["kind"] == "done"]
        ended = {entry["of"] for entry in done}
        open_ = [e for e in told if e["kind"] == "begun" and e["sequence"] not in ended]
        newest = max(entry["revision"] for entry in done)
        assert len(done) >= count + 1  # with its creation
        assert newest >= count + 1
        assert newest <= record["revision"] <= newest + len(open_) <= newest + 1

    again = serve("--config", config)
    url = again.wait_for("serving")["url"]

    async def go_on() -> None:
        async with site.client(url) as client:
            for tenant in TENANTS:
                await client.control.suspend(tenant, reason="after the kill")

    asyncio.run(go_on())
    for tenant in TENANTS:
        assert entries(site, tenant)[-1]["changes"] == [{"what": "suspended"}]


__all__ = ["config", "serve"]
