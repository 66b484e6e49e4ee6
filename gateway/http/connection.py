"""The connection below the application: what is not HTTP gets a problem too, and never into the log.

aiohttp answers a request that it cannot parse in plain text, and logs it with the bytes that it could
not parse, which may hold a token or a name. Here the answer has the form of every other error, and the
record tells the kind of fault only.
"""

import asyncio
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from gateway.http.problem_types import INTERNAL, ROUTING
from gateway.http.problems import render
from gateway.http.requests import request_id

log = structlog.get_logger()
KEEPALIVE = 75.0
SERVER = "sealgate"


class Connection(web.RequestHandler):
    """One client's connection; cut when the head of a request takes longer than `head_timeout`."""

    __slots__ = ("_head_since", "_head_timeout", "_head_timer")

    def __init__(self, *args: Any, head_timeout: float, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._head_timeout = head_timeout

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._head_since: float | None = self._loop.time()
        self._head_timer = self._loop.call_later(self._head_timeout, self._watch_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Let the request that runs end in time, then cancel it; aiohttp would wait as long again."""
        running = self._task_handler
        timer = None
        if timeout is not None and running is not None:
            timer = self._loop.call_later(timeout, running.cancel)
        try:
            await super().shutdown(timeout)
        finally:
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Note whether this leaves the head of a request begun and not ended."""
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

    def _watch_head(self) -> None:
        left = self._head_timeout
        if self._head_since is not None:
            left -= self._loop.time() - self._head_since
        if left <= 0:
            log.info("refused", reason="no request in time")
            self.force_close()
            return
        self._head_timer = self._loop.call_later(left, self._watch_head)

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
    request does not come whole after `head_timeout`. What still runs `drain_timeout` seconds after the
    end began is cut.
    """

    __slots__ = ("_options",)

    def __init__(self, app: web.Application, *, drain_timeout: float, head_timeout: float) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=drain_timeout)
        self._options = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEPALIVE,
            "head_timeout": head_timeout,
        }

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._options)
