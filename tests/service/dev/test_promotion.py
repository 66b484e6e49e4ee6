"""What the runbook "The primary is down" says: a backup becomes the primary by exchanging two roles."""

import asyncio
import os
import re
from pathlib import Path

import aiohttp

from gateway.settings.config import load
from gateway.wiring import app
from tests.service.dev.embedded import Embedded


def _value(stack: Embedded, name: str) -> str:
    match = re.search(rf"^{name}=(\S+)$", (stack.data / "env").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


async def test_a_backup_becomes_the_primary_in_the_settings(
    stack: Embedded, tmp_path: Path
) -> None:
    files = f"/v1/tenants/{_value(stack, 'TENANT')}/attachments"
    headers = {"Authorization": f"Bearer {_value(stack, 'TOKEN')}"}
    content = os.urandom(300_000)
    text = await asyncio.to_thread((stack.data / "gateway.toml").read_text)
    for before, after in (
        ('name = "primary"\nrole = "primary"', 'name = "primary"\nrole = "backup"'),
        ('name = "backup-1"\nrole = "backup"', 'name = "backup-1"\nrole = "primary"'),
    ):
        assert before in text
        text = text.replace(before, after)
    settings = tmp_path / "gateway.toml"
    await asyncio.to_thread(settings.write_text, re.sub(r"port = \d+", "port = 0", text))
    lost, kept = stack.data / "stores" / "primary", tmp_path / "lost"

    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.put(_value(stack, "URL") + files + "/old", data=content) as answer:
            assert answer.status == 201
        await asyncio.to_thread(lost.rename, kept)
        try:
            loaded = await asyncio.to_thread(load, settings, environment=False)
            async with app.running(loaded) as url:
                async with session.get(f"{url}{files}/old") as answer:
                    assert await answer.read() == content
                async with session.put(f"{url}{files}/new", data=content) as answer:
                    assert (await answer.json())["stored"] == ["backup-1", "backup-2"]
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
                    assert "store primary: failed" in await answer.text()
        finally:
            await asyncio.to_thread(kept.rename, lost)
