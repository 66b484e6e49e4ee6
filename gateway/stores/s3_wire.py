"""The requests of the hot path: a body to S3 and a body from it, streamed and signed by us.

Each body travels once, without being joined, hashed or copied here; the store checks it against the
checksum in a signed header. Goes to the store directly, through no proxy; follows no redirect.
"""

import base64
import hashlib
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import hdrs
from yarl import URL

from gateway.errors import ObjectExists, StoreDamaged, StoreUnavailable
from gateway.model import now
from gateway.ports import Piece
from gateway.stores.s3_body import Body
from gateway.stores.s3_client import Client
from gateway.stores.s3_session import end, refuse, request, session
from gateway.stores.s3_settings import S3Settings
from gateway.stores.s3_sign import EMPTY, UNSIGNED, Signer
from gateway.stores.s3_stream import read_body
from gateway.stores.workers import Workers

OK = 200
PARTIAL = 206


class Wire:
    """Signed streams to and from one bucket over a bounded pool of connections."""

    def __init__(
        self,
        settings: S3Settings,
        client: Client,
        context: ssl.SSLContext | None,
        workers: Workers,
    ) -> None:
        endpoint = urlsplit(client.endpoint)
        self._host = endpoint.netloc
        self._above = f"{endpoint.path.rstrip('/')}/"
        if settings.virtual:
            self._host = f"{settings.bucket}.{self._host}"
        else:
            self._above += f"{settings.bucket}/"
        self._origin = f"{endpoint.scheme}://{self._host}"
        self._client = client
        self._signer = Signer(settings.region)
        self._workers = workers
        self._unsigned = settings.private
        self._md5 = settings.checksum == "md5"
        self._stall = settings.stall_timeout
        self._puts = session(settings, context, settings.connections)
        # A reader keeps his connection for as long as he takes, so readers bound themselves: there are
        # no more than streams are admitted. Out of one pool, a few slow ones would have all of it.
        self._gets = session(settings, context, 0)

    async def put(
        self,
        key: str,
        piece: Piece,
        query: Mapping[str, str],
        *,
        only: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Send a body and return its ETag. `only` is the header on which it depends, if any."""
        proof = await self._checksum(piece)
        headers = dict(proof)
        headers["content-length"] = str(len(piece.data))
        headers.update(only)
        payload = UNSIGNED if self._unsigned else await self._workers.run(_sha256, piece.data)
        body = Body(piece.data, self._stall)
        url, signed = await self._signed("PUT", key, query, headers, payload)
        try:
            async with request(self._puts, "PUT", url, headers=signed, data=body) as response:
                if response.status != OK:
                    body.leave(response)
                    await refuse(response)
                await end(response)
                if any(response.headers.get(name, told) != told for name, told in proof.items()):
                    raise StoreDamaged("the store holds other bytes than were sent")
                return response.headers.get(hdrs.ETAG, "")
        except ObjectExists:
            if body.times > 1:
                # aiohttp sent it again on a fresh connection: the first one may have made it.
                raise StoreUnavailable("the store's first answer was lost") from None
            raise
        finally:
            body.give_up()

    async def get(
        self, key: str, start: int, stop: int | None
    ) -> AsyncGenerator[bytes | memoryview]:
        """Stream bytes [start, stop) of an object; exactly those, or an error."""
        headers = {}
        if start or stop is not None:
            headers["range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        url, signed = await self._signed("GET", key, {}, headers, EMPTY)
        async with request(self._gets, "GET", url, headers=signed) as response:
            if response.status not in {OK, PARTIAL}:
                await refuse(response)
            length = _length(response, start, stop)
            async with aclosing(read_body(response, length, self._stall)) as blocks:
                async for block in blocks:
                    yield block

    async def close(self) -> None:
        """Give back connections."""
        await self._puts.close()
        await self._gets.close()

    async def _signed(
        self, method: str, key: str, query: Mapping[str, str], headers: dict[str, str], payload: str
    ) -> tuple[URL, dict[str, str]]:
        path = f"{self._above}{key}"
        text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query.items())
        signed = self._signer.sign(
            await self._client.credentials(),
            method=method,
            host=self._host,
            path=path,
            query=text,
            headers=headers,
            payload=payload,
            at=now(),
        )
        url = f"{self._origin}{path}?{text}" if text else f"{self._origin}{path}"
        return URL(url, encoded=True), signed

    async def _checksum(self, piece: Piece) -> dict[str, str]:
        if self._md5:
            return {"content-md5": await self._workers.run(_md5, piece.data)}
        return {"x-amz-checksum-crc64nvme": crc_text(piece.crc64nvme)}


def crc_text(crc: int) -> str:
    """Return a CRC-64 as S3 writes it."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def _length(response: aiohttp.ClientResponse, start: int, stop: int | None) -> int:
    """Return how many bytes follow. Raises StoreDamaged unless they are those that were asked."""
    length = response.content_length
    if length is None:
        raise StoreDamaged("the store does not say how long its answer is")
    if response.status == PARTIAL:
        told = response.headers.get(hdrs.CONTENT_RANGE, "")
        if not told.startswith(f"bytes {start}-{start + length - 1}/"):
            raise StoreDamaged("the store answered another range than was asked of it")
    elif start:
        raise StoreDamaged("the store does not answer ranges")
    if stop is None:
        return length
    if length < stop - start or (length > stop - start and response.status == PARTIAL):
        raise StoreDamaged("an object ends before the range that was asked of it")
    return stop - start


def _sha256(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _md5(data: memoryview) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
