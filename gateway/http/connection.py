"""The connection below the application: what is not HTTP gets a problem too, and never into the log.

aiohttp answers a request that it cannot parse in plain text, and logs it with the bytes that it could
not parse, which may hold a token or a name. Here the answer has the form of every other error, and the
record tells the kind of fault only.
"""

import asyncio
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from gateway.http.crowd import Crowd, address_of
from gateway.http.pace import unsent
from gateway.http.problem_types import INTERNAL, ROUTING
from gateway.http.problems import render
from gateway.http.requests import request_id

log = structlog.get_logger()
KEEPALIVE = 75.0
LOOK = 0.05  # seconds between two looks whether an answer was taken at the end
SERVER = "sealgate"


class Connection(web.RequestHandler):
    """One client's connection.

    Cut at once when the crowd is full, when the head of a request takes longer than `head_timeout`, and
    when the client takes nothing of what waits for it for `KEEPALIVE` seconds, also while the connection
    is being closed.
    """

    __slots__ = (
        "_address",
        "_crowd",
        "_head_since",
        "_head_timeout",
        "_left",
        "_left_since",
        "_served",
        "_timer",
        "_wire",
    )

    def __init__(self, *args: Any, head_timeout: float, crowd: Crowd, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._head_timeout = head_timeout
        self._crowd = crowd
        self._served = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a first request, if there is room for one more client."""
        self._address = address_of(transport)
        self._served = self._crowd.enter(self._address)
        if not self._served:
            cast("asyncio.WriteTransport", transport).abort()
            return
        super().connection_made(transport)
        self._head_since: float | None = self._loop.time()
        self._wire = cast("asyncio.WriteTransport", transport)
        self._left, self._left_since = 0, self._loop.time()
        self._timer = self._loop.call_later(self._head_timeout, self._watch)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        if not self._served:
            return
        self._served = False
        self._crowd.leave(self._address)
        self._timer.cancel()
        super().connection_lost(exc)

    def in_body(self) -> bool:
        """Tell whether all that has come was handed on, and what comes next is of the body alone."""
        held = self._reading_paused or self._buffer_paused  # its parser may keep bytes back
        return not (held or self._messages or self._upgraded or self._force_close)

    def expect_request(self) -> None:
        """Begin anew with a parser that knows of no body: it was read past the last one."""
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Let the request that runs end, and the client take the answer, in time; then cut.

        aiohttp would wait twice as long, and then for a client that takes nothing without end.
        """
        until = self._loop.time() + (timeout or 0)
        running = self._task_handler
        timer = self._loop.call_at(until, running.cancel) if running is not None else None
        try:
            await super().shutdown(timeout)
            while self._waits_for_client() and self._loop.time() < until:  # noqa: ASYNC110
                await asyncio.sleep(LOOK)
        finally:
            if timer is not None:
                timer.cancel()
            self._wire.abort()

    def _waits_for_client(self) -> bool:
        """Tell whether the client has still to take something."""
        try:
            return self._wire.get_write_buffer_size() > 0
        except AttributeError:  # from asyncio's TLS, once it was told twice to close
            return False

    def data_received(self, data: bytes) -> None:
        """Note whether this leaves the head of a request begun and not ended."""
        if not self._served:
            return
        self._take(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_body()
        if self._current_request is not None or self._messages:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self._loop.time()

    def _take(self, data: bytes) -> None:
        """Take bytes; those of a body still count when the connection is to close after it.

        aiohttp drops them once it drains, so that no upload which runs then could ever end.
        """
        flags = self._close, self._force_close
        if self._rest_of_body() is not None:
            self._close = self._force_close = False
        try:
            super().data_received(data)
        finally:
            self._close, self._force_close = flags[0] or self._close, flags[1] or self._force_close

    def _rest_of_body(self) -> StreamReader | None:
        """Return the body that the running request still waits for, if it does."""
        request = self._current_request
        return None if request is None or request.content.is_eof() else request.content

    def _break_body(self) -> None:
        """Tell the request that runs that the rest of its body will not come.

        The parser lost its place. It says so to the next request only, so that this one would wait
        until the client leaves.
        """
        body = self._rest_of_body()
        if body is not None:
            body.set_exception(web.RequestPayloadError("the body is malformed"))

    def _watch(self) -> None:
        """Look after what is overdue now and then."""
        now, pause = self._loop.time(), self._head_timeout
        if self._head_since is not None:
            pause -= now - self._head_since
        left = unsent(self._wire)
        if not left or left != self._left:
            self._left, self._left_since = left, now
        if pause <= 0 or now - self._left_since >= KEEPALIVE:
            log.info("refused", reason="no request in time" if pause <= 0 else "nothing taken")
            self._wire.abort()
            return
        self._timer = self._loop.call_later(pause, self._watch)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application, or cut what had begun."""
        del message  # it quotes the request
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        number = web.HTTPRequestHeaderFieldsTooLarge.status_code
        problem = ROUTING.get(number if isinstance(exc, LineTooLong) else status, INTERNAL)
        log.info("refused", status=problem.status, reason=type(exc).__name__)
        headers = {"X-Request-Id": request_id(request), "Server": SERVER}
        response = render(request, problem, headers=headers)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Record an error that nobody caught by its type alone."""
        del args
        log.error("connection failed", error=type(kw.get("exc_info")).__name__)


class _Server(web.Server):
    """Makes a `Connection` for every client."""

    def __init__(self, template: web.Server, options: dict[str, Any]) -> None:
        super().__init__(
            template.request_handler,
            request_factory=template.request_factory,
            handler_cancellation=template.handler_cancellation,
        )
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._options)


class Runner(web.AppRunner):
    """Runs the application on connections of ours.

    A client that leaves ends its request at once; a body is never decompressed, because it is stored as
    it was sent; a connection without a request is closed after `KEEPALIVE` seconds, and one whose
    request does not come whole after `head_timeout`; one beyond what `crowd` allows, at once. What still
    runs `drain_timeout` seconds after the end began is cut.
    """

    __slots__ = ("_options",)

    def __init__(
        self, app: web.Application, *, drain_timeout: float, head_timeout: float, crowd: Crowd
    ) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=drain_timeout)
        self._options = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEPALIVE,
            "head_timeout": head_timeout,
            "crowd": crowd,
        }

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._options)


class TcpSite(web.TCPSite):
    """Listens on a port; a TLS handshake has `handshake_timeout` seconds, where aiohttp lets it have 60."""

    __slots__ = ("_handshake_timeout",)

    def __init__(self, *args: Any, handshake_timeout: float, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._handshake_timeout = handshake_timeout

    async def start(self) -> None:
        """Begin to take connections."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 - the runner was set up
        self._server = await asyncio.get_running_loop().create_server(
            server,
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            reuse_port=self._reuse_port,
            ssl_handshake_timeout=self._handshake_timeout if self._ssl_context else None,
        )
