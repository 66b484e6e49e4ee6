"""An application's side of the tour: a few requests over HTTP, in nothing special.

Downloads are compared with the file as they arrive and are held nowhere.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.wiring.dev.errors import Unexpected
from gateway.wiring.dev.sample import Sample

_UNREADABLE = 503
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Received:
    """How a download ended: what came, whether each byte of it was right, whether it was whole."""

    size: int
    right: bool
    whole: bool
    digest: bytes


class Client:
    """Requests for one attachment."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def upload(self, sample: Sample, digest: bytes, advance: Advance) -> dict[str, Any]:
        """Send the file with its digest; return the receipt."""
        headers = {
            "Content-Type": sample.content_type,
            "Content-Disposition": f'attachment; filename="{sample.name}"',
            "Content-Length": str(sample.size),
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            "X-Sealgate-Meta-Note": sample.note,
        }

        async def body() -> AsyncIterator[bytes]:
            for piece in sample.pieces():
                yield piece
                advance(len(piece))

        async with self._session.put(self._url, data=body(), headers=headers) as response:
            await _expect(response, 201)
            receipt: dict[str, Any] = await response.json()
            return receipt

    async def download(self, sample: Sample, advance: Advance) -> Received:
        """Read the whole and compare it with the file; a refusal is an answer, too."""
        running, size, right = hashlib.sha256(), 0, True
        try:
            async with self._session.get(self._url) as response:
                if response.status == _UNREADABLE:
                    return Received(0, right=True, whole=False, digest=b"")
                await _expect(response, 200)
                async for piece in response.content.iter_any():
                    right &= piece == sample.slice(size, size + len(piece))
                    running.update(piece)
                    size += len(piece)
                    advance(len(piece))
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, ConnectionError):
            return Received(size, right, whole=False, digest=running.digest())
        return Received(size, right, whole=size == sample.size, digest=running.digest())

    async def part(self, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop)."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        async with self._session.get(self._url, headers=headers) as response:
            await _expect(response, 206)
            return await response.read()

    async def name(self) -> str:
        """Return what the gateway says is the file's name."""
        async with self._session.head(self._url) as response:
            await _expect(response, 200)
            disposition = response.content_disposition
            return (disposition.filename if disposition else None) or ""

    async def delete(self) -> None:
        """Move the attachment to the trash."""
        async with self._session.delete(self._url) as response:
            await _expect(response, 204)

    async def status(self) -> int:
        """Return the status of a HEAD."""
        async with self._session.head(self._url) as response:
            return response.status


async def _expect(response: aiohttp.ClientResponse, status: int) -> None:
    if response.status != status:
        try:
            said = (await response.json(content_type=None)).get("detail", "")
        except (ValueError, AttributeError):
            said = ""
        asked = f"{response.method} was answered {response.status} instead of {status}"
        raise Unexpected(f"{asked}{f': {said}' if said else ''}")
