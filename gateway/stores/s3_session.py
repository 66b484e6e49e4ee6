"""How requests go to a store, the streams' and aioboto3's: nowhere else, and no answer is read without end.

By itself aioboto3 follows redirects, so that a store could send the gateway, and the token of a session, to
any host, and a DELETE that nobody carried out would count as done. Here a redirect is an answer like any
other, which `s3_errors` refuses.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import hdrs
from yarl import URL

from gateway.errors import StoreUnavailable
from gateway.stores.s3_errors import code_of, refusal
from gateway.stores.s3_settings import S3Settings

LONGEST = 16 * 1024 * 1024  # bytes of an answer to aioboto3: a page of a listing has a tenth of it
ANSWER = 64 * 1024  # bytes of an answer to a stream that are looked at
PATIENCE = 5.0  # seconds for the text of a refusal, and for what stands behind a success


@dataclass(frozen=True, slots=True)
class _Answer:
    """What botocore takes of an answer."""

    url: URL
    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def read(self) -> bytes:
        return self.body


class _Direct:
    """A session as botocore uses it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> _Answer:
        async with self._session.request(method, allow_redirects=False, **options) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LONGEST:
                    raise aiohttp.ClientPayloadError("the answer does not end")
            return _Answer(response.url, response.status, response.raw_headers, bytes(body))


class Session(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """What aioboto3 sends with."""

    async def _get_session(self, proxy_url: str | None) -> _Direct:
        return _Direct(await super()._get_session(proxy_url))


def session(
    settings: S3Settings, context: ssl.SSLContext | None, connections: int
) -> aiohttp.ClientSession:
    """Return a session with a pool of its own; 0 connections is no bound."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context or True),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout, sock_read=settings.stall_timeout
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=(hdrs.USER_AGENT, hdrs.CONTENT_TYPE, hdrs.ACCEPT_ENCODING),
        auto_decompress=False,
    )


def request(
    pool: aiohttp.ClientSession, method: str, url: URL, **options: object
) -> "aiohttp.client._RequestContextManager":
    """Begin a request. Raises StoreUnavailable once the pool is closed."""
    if pool.closed:
        raise StoreUnavailable("the store is closed")
    return pool.request(method, url, allow_redirects=False, **options)  # type: ignore[arg-type]


async def end(response: aiohttp.ClientResponse) -> None:
    """Read what stands behind a success, which is nothing: of what does not end, a bounded part."""
    if response.content.at_eof():  # came with the head, as mostly
        return
    size = 0
    with contextlib.suppress(TimeoutError):  # by its status it is done
        async with asyncio.timeout(PATIENCE):
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > ANSWER:
                    break
            else:
                return
    response.close()


async def refuse(response: aiohttp.ClientResponse) -> None:
    """Raise what a refusal means. Its text, which may come in pieces, is read up to its error code."""
    text = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # the status says enough
        async with asyncio.timeout(PATIENCE):
            async for piece in response.content.iter_any():
                text += piece
                if code_of(text) or len(text) > ANSWER:
                    break
    response.close()
    raise refusal(response.status, code_of(text), response.headers.get("retry-after"))
