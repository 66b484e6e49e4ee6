"""PUT and POST, GET and HEAD: the same bytes come back, whatever their number and framing."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.service.http.application import Application

pytestmark = pytest.mark.asyncio(loop_scope="session")
MiB = 1024 * 1024


async def _in_pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 65536, 65537, 1_000_000, 17 * MiB + 5])
@pytest.mark.parametrize("framing", ["known-length", "chunked"])
async def test_the_bytes_come_back(client: Application, path: str, size: int, framing: str) -> None:
    data = os.urandom(size)

    receipt = await client.stored(path, data if framing == "known-length" else _in_pieces(data))

    assert receipt["size"] == size
    answer = await client.get(path)
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(size)
    assert answer.body == data
