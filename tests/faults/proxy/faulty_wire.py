"""A wire between a gateway and an S3 server that breaks as a test tells it to, while it runs.

It understands enough of HTTP to know requests and bodies: a `Fault` names what goes wrong, with which
requests, how often, and where in the body. What no fault is meant for passes unchanged. It runs in a
thread of its own, so that tests with loops of their own share it; faults may be changed at any moment,
and hold for requests that begin afterwards.
"""

import asyncio
import contextlib
import enum
import random
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.servers.ports import LOOPBACK
from tests.servers.versitygw import Versitygw

_BLOCK = 64 * 1024
_REFUSAL = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Kind(enum.Enum):
    """What goes wrong with a request, or with the body of its answer."""

    LATE = "the request is passed on late"
    REFUSED = "503, and the server does not hear of it"
    SILENT = "the request is taken and never answered"
    DROPPED = "the connection ends before anything is passed on"
    LOST = "the server does it, and the connection ends before its answer"
    CUT = "the connection ends within the answer's body"
    STALLED = "nothing more comes from some byte of the answer's body on"
    SHORT = "the answer's body ends early, and says so in its head"
    FLIPPED = "a bit of the answer's body is another"


_BODIES = {Kind.CUT, Kind.STALLED, Kind.SHORT, Kind.FLIPPED}


@dataclass(slots=True)
class Fault:
    """What goes wrong, and with what: requests of this method, below this bucket, with such an ending.

    `at` is where in the body, as a share of its length: 0 is before its first byte, 1 after all but the
    last. `share` of the requests that fit are hit, and no more than `times` of them. `seconds` are those of a
    delay. With `rows` it is chosen once for each method and path whether it is hit: if so, its first requests
    are, as many as the next of `rows` says, and never one after them. So who asks more often is served.
    """

    kind: Kind
    method: str = ""
    bucket: str = ""
    ending: str = ""
    at: float = 0.5
    share: float = 1.0
    times: int | None = None
    rows: tuple[int, ...] = ()
    seconds: float = 0.0
    hits: list[str] = field(default_factory=list)  # the paths of the requests that met it
    _rows: dict[tuple[str, str], int] = field(init=False, default_factory=dict)  # left of each
    _begun: int = field(init=False, default=0)

    def fits(self, request: "_Request", rng: random.Random) -> bool:
        """Tell whether a request is to meet it, and count it."""
        path = request.path
        if self.method not in {"", request.method} or not path.endswith(self.ending):
            return False
        if self.bucket and not path.startswith(f"/{self.bucket}/"):
            return False
        if self.times is not None and len(self.hits) >= self.times:
            return False
        if not (self._in_row(request, rng) if self.rows else rng.random() < self.share):
            return False
        self.hits.append(path)
        return True

    def _in_row(self, request: "_Request", rng: random.Random) -> bool:
        key = request.method, request.path
        left = self._rows.get(key)
        if left is None:
            hit = rng.random() < self.share
            left = self.rows[self._begun % len(self.rows)] if hit else 0
            self._begun += hit
        self._rows[key] = max(left - 1, 0)
        return left > 0


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    fault: Fault | None = None


class FaultyWire(Versitygw):
    """Passes requests on to an S3 server, and stands for it in a `Bucket`."""

    def __init__(self, server: Versitygw, seed: int = 0) -> None:  # starts no program
        self._port = int(server.endpoint.rpartition(":")[2])
        self.server = server
        self.access_key, self.secret_key = server.access_key, server.secret_key
        self.region, self.folder = server.region, server.folder
        self.endpoint = ""
        self._faults: tuple[Fault, ...] = ()
        self._rng = random.Random(seed)
        self._started, self._over = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    @contextlib.contextmanager
    def broken(self, *faults: Fault) -> Iterator[None]:
        """Break like this for as long as the block lasts. The first fault that fits a request counts."""
        self._faults = faults
        try:
            yield
        finally:
            self._faults = ()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        # start_server's own tasks would outlive the test that cut them.
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._connection(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return  # either side left, or the test is over
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(accept, LOOPBACK, 0, limit=_BLOCK)
        self.endpoint = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._over.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._port, limit=_BLOCK)
        asked: asyncio.Queue[_Request] = asyncio.Queue()
        ways = (
            asyncio.ensure_future(self._ask(reader, writer, far_writer, asked)),
            asyncio.ensure_future(_answer(far_reader, writer, asked)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _ask(
        self,
        source: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        sink: asyncio.StreamWriter,
        asked: "asyncio.Queue[_Request]",
    ) -> None:
        """Pass requests on, until the client or a fault ends the connection."""
        while True:
            head = await source.readuntil(b"\r\n\r\n")
            request = self._meet(head)
            kind = request.fault.kind if request.fault else None
            if request.fault and kind is Kind.LATE:
                await asyncio.sleep(request.fault.seconds)
            elif kind is Kind.SILENT:
                await asyncio.Event().wait()
            elif kind is Kind.DROPPED:
                return
            elif kind is Kind.REFUSED:
                if _field(head, b"expect"):
                    back.write(_refusal(request.method))
                    await back.drain()
                    return  # without a body to wait for: the client has not sent it
                async for _ in _body(source, head):
                    pass
                back.write(_refusal(request.method))
                await back.drain()
                continue
            asked.put_nowait(request)
            sink.write(head)
            async for data in _body(source, head):
                sink.write(data)
                await sink.drain()

    def _meet(self, head: bytes) -> _Request:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        request = _Request(method, target.partition("?")[0])
        for fault in self._faults:
            if fault.fits(request, self._rng):
                return _Request(method, request.path, fault)
        return request


async def _answer(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, asked: "asyncio.Queue[_Request]"
) -> None:
    """Pass answers on, each to the request that it belongs to, until a fault ends the connection."""
    request: _Request | None = None
    while True:
        head = await source.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        request = request or await asked.get()
        if status >= 200 and request.fault and request.fault.kind is Kind.LOST:
            return
        length = int(_field(head, b"content-length") or b"0")
        bare = request.method == "HEAD" or status in {204, 304} or status < 200
        fault = request.fault if request.fault and request.fault.kind in _BODIES else None
        if fault and length and not bare and status < 300:
            if not await _broken(fault, source, sink, head, length):
                return
        else:
            sink.write(head)
            if not bare:
                async for data in _body(source, head):
                    sink.write(data)
                    await sink.drain()
            await sink.drain()
        if status >= 200:
            request = None


async def _broken(
    fault: Fault,
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    head: bytes,
    length: int,
) -> bool:
    """Pass an answer on that is no good. Return whether the connection goes on after it."""
    at, seen = min(int(length * fault.at), length - 1), 0
    sink.write(_shortened(head, at) if fault.kind is Kind.SHORT else head)
    async for data in _body(source, head):
        if fault.kind is Kind.FLIPPED:
            flipped = bytearray(data)
            if seen <= at < seen + len(data):
                flipped[at - seen] ^= 1
            sink.write(flipped)
        else:
            sink.write(data[: max(at - seen, 0)])
        await sink.drain()
        seen += len(data)
        if fault.kind in {Kind.CUT, Kind.STALLED} and seen > at:
            break
    if fault.kind is Kind.STALLED:
        await asyncio.Event().wait()
    return fault.kind is not Kind.CUT


async def _body(source: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    """Read the body that belongs to a head, as it stands on the wire."""
    if b"chunked" in _field(head, b"transfer-encoding").lower():
        while True:
            line = await source.readuntil(b"\r\n")
            yield line
            size = int(line.partition(b";")[0], 16)
            yield await source.readexactly(size + 2)
            if not size:
                return
    left = int(_field(head, b"content-length") or b"0")
    while left:
        data = await source.read(min(_BLOCK, left))
        if not data:
            raise asyncio.IncompleteReadError(data, left)
        left -= len(data)
        yield data


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""


def _shortened(head: bytes, kept: int) -> bytes:
    lines = []
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            lines.append(b"%s: %d" % (name, kept))
        elif name.lower() == b"content-range":
            span, _, total = value.partition(b"/")
            start = int(span.strip().removeprefix(b"bytes ").partition(b"-")[0])
            lines.append(b"%s: bytes %d-%d/%s" % (name, start, start + kept - 1, total))
        else:
            lines.append(line)
    return b"\r\n".join(lines)


def _refusal(method: str) -> bytes:
    body = b"" if method == "HEAD" else _REFUSAL
    return (
        b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
        b"Content-Length: %d\r\n\r\n" % len(_REFUSAL)
    ) + body
