"""A small HTTP client for tests: what an application's backend would send, and nothing clever."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

MiB = 1024 * 1024


def generated(size: int, seed: bytes = b"seed") -> AsyncIterator[bytes]:
    """Stream `size` bytes that look random and come again for the same seed."""

    async def stream() -> AsyncIterator[bytes]:
        block = hashlib.shake_256(seed).digest(MiB)
        left, number = size, 0
        while left:
            # A different first bytes of every block, so that blocks cannot be swapped unnoticed.
            piece = (number.to_bytes(8, "big") + block[8:])[: min(left, MiB)]
            left -= len(piece)
            number += 1
            yield piece

    return stream()


async def digest_of(stream: AsyncIterator[bytes]) -> str:
    """Return the SHA-256 of a stream in hexadecimal."""
    running = hashlib.sha256()
    async for piece in stream:
        running.update(piece)
    return running.hexdigest()


@dataclass(slots=True)
class Client:
    """One application with one token."""

    url: str
    token: str
    session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=900),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.session is not None
        await self.session.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Return aiohttp's request context."""
        assert self.session is not None
        return self.session.request(method, path, **options)

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that must succeed and return its JSON."""
        async with self.request(method, path, **options) as answer:
            body = await answer.json(content_type=None)
            assert answer.status < 300, body
            return body

    async def create_tenant(self, tier: str = "standard") -> str:
        """Create a tenant and return its id."""
        made = await self.json("POST", "/v1/tenants", json={"tier": tier})
        return str(made["tenant"])

    async def digest(self, path: str) -> str:
        """Download and return the SHA-256 of what came."""
        async with self.request("GET", path) as answer:
            assert answer.status == 200, await answer.text()
            return await digest_of(answer.content.iter_any())
