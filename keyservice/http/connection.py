"""The connection below the application: what is not HTTP gets a problem, and none of it the log.

aiohttp answers a request that it cannot parse in plain text, and logs it with the bytes that it
could not parse, which may hold a token. Here the answer has the form of every other refusal, and
the log tells the kind of fault only. Such a request never reached the service, so no audit record
stands for it.
"""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from aiohttp import web

from keyservice.errors import Invalid, KeyServiceError
from keyservice.http import answers
from keyservice.protocol.problems import to_problem

KEEPALIVE = 75.0
BROKEN = 500

log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One caller's connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = BROKEN,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application, or cut what had begun."""
        del message  # it quotes the request
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        error = KeyServiceError() if status >= BROKEN else Invalid("request is not HTTP/1.1")
        request_id = secrets.token_hex(16)
        log.info("refused", request_id=request_id, reason=type(exc).__name__)
        response = answers.problem(to_problem(error))
        answers.finish(response, request_id)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Put an error that nobody caught in the log by its type alone."""
        del args
        log.error("connection failed", error=type(kw.get("exc_info")).__name__)


class _Server(web.Server):
    """Makes a `Connection` for every caller."""

    def __init__(self, template: web.Server) -> None:
        super().__init__(template.request_handler, request_factory=template.request_factory)

    def __call__(self) -> web.RequestHandler:
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEPALIVE}
        return Connection(self, loop=self._loop, **options)


class Runner(web.AppRunner):
    """Runs the application on connections of ours; `drain` seconds bound its end."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, drain: float) -> None:
        super().__init__(app, shutdown_timeout=drain)

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server())
