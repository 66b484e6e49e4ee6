"""An application's side: requests as a well-behaved client sends them, answers read to the end."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from tests.service.http.contract import described


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The last part of the type of a problem, after its shape was checked."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["instance"] == f"urn:sealgate:request:{self.headers['X-Request-Id']}"
        assert self.headers["Server"] == "sealgate"
        return str(self.json["type"]).removeprefix("urn:sealgate:problem:")


@dataclass(slots=True)
class Application:
    """One client with one token (or none)."""

    url: str
    token: str | None = field(repr=False)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=110),
            auto_decompress=False,
            skip_auto_headers={"Content-Type"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def open(self, method: str, path: str, **options: Any) -> Any:
        """Return aiohttp's request context, for answers that are to be read in steps."""
        assert self._session is not None
        return self._session.request(method, URL(self.url + path, encoded=True), **options)

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send a request, read the answer to the end, and hold it to the OpenAPI document."""
        async with self.open(method, path, headers=headers, **options) as answer:
            whole = Answer(answer.status, answer.headers, await answer.read())
        described(method, path, whole.status, whole.headers, whole.body)
        return whole

    async def put(
        self, path: str, data: Any = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """PUT."""
        # aiohttp wants large bodies as files, so that its own loop is not held up.
        body = io.BytesIO(data) if isinstance(data, bytes) and data else data
        return await self.send("PUT", path, headers, data=body)

    async def get(self, path: str, **headers: str) -> Answer:
        """GET with fields whose names have `_` for `-`."""
        return await self.send("GET", path, {k.replace("_", "-"): v for k, v in headers.items()})

    async def stored(self, path: str, data: Any = b"", **headers: str) -> dict[str, Any]:
        """PUT what must be stored, and return the receipt."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.put(path, data, fields)
        assert answer.status == 201, answer.body
        receipt: dict[str, Any] = answer.json
        return receipt
