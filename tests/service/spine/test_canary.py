"""A large attachment through everything: equal digests, flat memory, and no trace of plaintext.

The canary stands in content, name, type and metadata, and is searched for in every byte that stores,
catalog, logs, audit and temporary files hold.
"""

import asyncio
import hashlib
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.servers.postgres import Postgres
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.servers.versitygw import Versitygw
from tests.service.spine.conftest import NAMES, NewStack
from tests.stack.client import Client, MiB, digest_of
from tests.stack.memory import peak
from tests.stack.stack import Bucket

CANARY = b"Kanarienvogel-5c1d9e"
LIMIT = 200 * MiB


async def with_canaries(size: int) -> AsyncIterator[bytes]:
    """Stream content in which the canary comes again and again, at odd places."""
    block = (CANARY + os.urandom(977)) * (MiB // 997)
    while size:
        piece = block[: min(size, len(block))]
        size -= len(piece)
        yield piece
        await asyncio.sleep(0)


def holds(path: Path, word: bytes) -> bool:
    """Tell whether a file holds a word, also across the seams of blocks."""
    tail = b""
    with path.open("rb") as file:
        while block := file.read(4 * MiB):
            if word in tail + block:
                return True
            tail = block[-len(word) :]
    return False


async def round_trip(client: Client, tenant: str, size: int) -> None:
    """Upload, download, compare."""
    running = hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        async for piece in with_canaries(size):
            running.update(piece)
            yield piece

    path = f"/v1/tenants/{tenant}/attachments/size-{size}"
    name = CANARY.decode()
    made = await client.json(
        "PUT",
        path,
        data=content(),
        headers={
            "Content-Type": f"application/{name.lower()}",
            "Content-Disposition": f'attachment; filename="{name}.pdf"',
            "X-Sealgate-Meta-Colour": name,
        },
    )
    assert made["stored"] == sorted(NAMES)
    async with client.request("GET", path) as answer:
        assert answer.status == 200
        assert name in answer.headers["Content-Disposition"]
        assert await digest_of(answer.content.iter_any()) == running.hexdigest()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(512 * MiB, id="512 MiB"),
        pytest.param(5 * 1024 * MiB, id="5 GiB", marks=pytest.mark.soak),
    ],
)
async def test_a_large_attachment_leaves_no_plaintext_and_needs_no_more_memory(  # noqa: PLR0917 - fixtures
    record_property: Callable[[str, object], None],
    size: int,
    vault: Vault,
    new_s3: Callable[[], Versitygw],
    postgres: Postgres,
    tmp_path: Path,
    new_stack: NewStack,
) -> None:
    server = await asyncio.to_thread(new_s3)
    database = await asyncio.to_thread(postgres.new_database)
    stack = await new_stack(
        tmp_path / "stack",
        targets={name: Bucket(server, server.new_bucket()) for name in NAMES},
        catalog=database,
        # The S3 server copies every part when an upload completes, three times on one disk here.
        extra={"limits": {"backup_patience": 600}},
        vault=await asyncio.to_thread(prepare, vault, tmp_path),
    )
    token = await asyncio.to_thread(stack.admin_token)
    async with Client(stack.url, token) as client:
        tenant = await client.create_tenant()
        await round_trip(client, tenant, 100 * MiB)
        small = await asyncio.to_thread(peak, stack.gateway.pid)
        await round_trip(client, tenant, size)
        large = await asyncio.to_thread(peak, stack.gateway.pid)
        await round_trip(client, tenant, 1000)
    record_property("gateway peak MiB after 100 MiB", small // MiB)
    record_property("gateway peak MiB after all", large // MiB)

    assert large < LIMIT
    assert large - small < 48 * MiB  # buffers: how many are in use at once is the stores' to say
    await asyncio.to_thread(stack.stop)
    dump = tmp_path / "dump.sql"
    await asyncio.to_thread(_dump, postgres, database, dump)
    searched = [dump, *(file for file in stack.home.rglob("*") if file.is_file())]
    searched += [file for file in server.folder.rglob("*") if file.is_file()]
    searched += list(server.log.parent.glob("*.log"))
    found = await asyncio.to_thread(
        lambda: [str(f) for f in searched if holds(f, CANARY) or holds(f, CANARY.lower())]
    )
    assert len(searched) > 3 * len(NAMES)
    assert found == []


def _dump(postgres: Postgres, database: str, to: Path) -> None:
    """Write every table, as text and in the hexadecimal that binary columns show."""
    done = subprocess.run(
        [str(postgres._programs / "pg_dump"), "--dbname", _plain(database), "--file", str(to)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = to.read_text()
    assert CANARY.hex() not in text
    assert "versions" in text


def _plain(dsn: str) -> str:
    return re.sub(r"^postgresql\+\w+:", "postgresql:", dsn)
