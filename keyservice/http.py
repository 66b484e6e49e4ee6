"""From HTTP requests to use cases and back (docs/keyservice-api.md).

Guarantees: every field is checked before anything is done, bodies are bounded in size and time,
every error is the problem of one table with a stable type, and no answer may be stored by caches.
It knows no vendor and decides nothing about keys.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel

from keyservice import answers
from keyservice.callers import TokenCheck, of_certificate
from keyservice.desk import Call, Desk, Outcome
from keyservice.errors import Invalid, KeyServiceError, TooLarge
from keyservice.health import Health
from keyservice.journal import Journal, Page
from keyservice.messages import (
    Created,
    CreateTenant,
    Item,
    Items,
    JournalView,
    KekView,
    MakeDataKeys,
    Problem,
    StatusView,
    TenantView,
    Usable,
    UseKeys,
    parse,
)
from keyservice.metrics import Metrics
from keyservice.policy import NOBODY, Caller, Operation
from keyservice.ports import RootKind
from keyservice.problems import PREFIX, to_problem
from keyservice.records import is_tenant
from keyservice.service import KeyService
from keyservice.wire import MAX_REQUEST_ID, DataKey, WrappedKey

MAX_BODY = 2 * 1024 * 1024
BODY_TIMEOUT = 10.0
MAX_DIGITS = 10
JOURNAL_PAGE = 200
TENANT = "/v1/tenants/{tenant}"
PROBES = ("/livez", "/readyz", "/metrics")
REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_REQUEST_ID}}}")

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
REQUEST_ID_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UseCases:
    """All that can be asked for, and the desk at which what cannot be understood is turned away."""

    keys: KeyService
    desk: Desk
    journal: Journal


class Api:
    """The routes under `/v1`, for callers who said who they are."""

    def __init__(
        self,
        cases: UseCases,
        token: TokenCheck | None,
        health: Health,
        metrics: Metrics,
        root: RootKind,
    ) -> None:
        self._cases = cases
        self._token = token
        self._health = health
        self._metrics = metrics
        self._root = root

    def application(self) -> web.Application:
        """Return an application with these routes, its checks and its error answers."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_answer_errors, self._known])
        app.add_routes(
            [
                web.post("/v1/tenants", self.create_tenant, name=Operation.CREATE_TENANT),
                web.get(TENANT, self.tenant_status, name=Operation.TENANT_STATUS),
                web.get(f"{TENANT}/usable", self.usable),
                web.post(f"{TENANT}/data-keys", self.data_keys, name=Operation.DATA_KEYS),
                web.post(f"{TENANT}/unwrap", self.unwrap, name=Operation.UNWRAP),
                web.post(f"{TENANT}/rewrap", self.rewrap, name=Operation.REWRAP),
                web.get(f"{TENANT}/journal", self.journal, name=Operation.JOURNAL),
                web.get("/v1/status", self.status),
                *_probes(self._health, self._metrics),
            ]
        )
        return app

    async def create_tenant(self, request: web.Request) -> web.Response:
        """201 when it is new, 200 when it was there."""
        try:
            message = parse(CreateTenant, await _body(request))
        except Invalid as error:
            await self._refuse(request, Operation.CREATE_TENANT, error)
            raise
        new = await self._cases.keys.create_tenant(
            _call(request, message.reason), message.tenant, message.tier
        )
        return answers.json(Created(tenant=message.tenant), status=201 if new else 200)

    async def tenant_status(self, request: web.Request) -> web.Response:
        """Return the tenant's tier, state and KEKs, without any key."""
        tenant = await self._tenant(request, Operation.TENANT_STATUS)
        record = await self._cases.keys.tenant_status(_call(request, "status"), tenant)
        view = TenantView(
            tenant=record.tenant,
            tier=record.tier,
            state=record.state,
            cache_ttl=record.cache_ttl,
            keks=tuple(KekView(id=k.id, state=k.state, created=k.created) for k in record.keks),
        )
        return answers.json(view)

    async def usable(self, request: web.Request) -> web.Response:
        """Tell that the tenant's keys may be used, and how long that may be remembered."""
        tenant = await self._tenant(request, Operation.TENANT_STATUS)
        await self._cases.keys.usable(_call(request, "usable"), tenant)
        return answers.json(Usable(fresh=self._cases.keys.fresh(tenant)))

    async def data_keys(self, request: web.Request) -> web.Response:
        """Return one fresh key for each context."""
        tenant, message = await self._asked(request, Operation.DATA_KEYS, MakeDataKeys)
        found = await self._cases.keys.data_keys(
            _call(request, message.reason), tenant, message.contexts
        )
        return self._items(tenant, [_data_key(item) for item in found])

    async def unwrap(self, request: web.Request) -> web.Response:
        """Return the data key of each item."""
        tenant, message = await self._asked(request, Operation.UNWRAP, UseKeys)
        found = await self._cases.keys.unwrap(
            _call(request, message.reason), tenant, _keys(message)
        )
        return self._items(
            tenant, [_failed(i) if isinstance(i, KeyServiceError) else Item(dek=i) for i in found]
        )

    async def rewrap(self, request: web.Request) -> web.Response:
        """Return each item under the current KEK."""
        tenant, message = await self._asked(request, Operation.REWRAP, UseKeys)
        found = await self._cases.keys.rewrap(
            _call(request, message.reason), tenant, _keys(message)
        )
        return self._items(
            tenant,
            [_failed(i) if isinstance(i, KeyServiceError) else Item(wrapped=i) for i in found],
        )

    async def journal(self, request: web.Request) -> web.Response:
        """Return lines of the tenant's key journal after a number."""
        tenant = await self._tenant(request, Operation.JOURNAL)
        try:
            after = _number(request, "after", 0)
            limit = _number(request, "limit", JOURNAL_PAGE)
        except Invalid as error:
            await self._refuse(request, Operation.JOURNAL, error, tenant)
            raise

        async def read() -> Outcome[Page]:
            return Outcome("", await self._cases.journal.page(tenant, after, limit))

        call = _call(request, "journal")
        page = await self._cases.desk.one(call, tenant, Operation.JOURNAL, read)
        return answers.json(JournalView(tenant=tenant, head=page.head, entries=tuple(page.lines)))

    async def status(self, _request: web.Request) -> web.Response:
        """Return what the root is and whether it answered a moment ago."""
        found = await self._health.of("root")
        return answers.json(StatusView(root=self._root, healthy=found.healthy, detail=found.detail))

    @web.middleware
    async def _known(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in PROBES:
            return await handler(request)
        try:
            request[CALLER] = self._caller(request)
            if (given := request.headers.get("X-Request-Id")) is not None:
                request[REQUEST_ID_KEY] = _request_id(given)
        except KeyServiceError as error:
            await self._turn_away(request, error)
            raise
        return await handler(request)

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        if certificate is None and self._token is not None:
            return self._token.caller(request.headers.get("Authorization"))
        return of_certificate(certificate)

    async def _turn_away(self, request: web.Request, error: KeyServiceError) -> None:
        """Put on record who was refused at the door, as far as they are known, and at which one."""
        tenant = request.match_info.get("tenant", "")
        name = request.match_info.route.name
        await self._cases.desk.refuse(
            Call(request.get(CALLER, NOBODY), request[REQUEST_ID_KEY], ""),
            tenant if is_tenant(tenant) else "",
            Operation(name) if name else None,
            error,
        )

    async def _asked(
        self, request: web.Request, operation: Operation, kind: type[M]
    ) -> tuple[str, M]:
        tenant = await self._tenant(request, operation)
        try:
            return tenant, parse(kind, await _body(request))
        except Invalid as error:
            await self._refuse(request, operation, error, tenant)
            raise

    async def _tenant(self, request: web.Request, operation: Operation) -> str:
        tenant = request.match_info["tenant"]
        if not is_tenant(tenant):
            error = Invalid("tenant id must be 32 lower-case hex characters")
            await self._refuse(request, operation, error)
            raise error
        return tenant

    def _items(self, tenant: str, items: Sequence[Item]) -> web.Response:
        return answers.json(Items(items=tuple(items), fresh=self._cases.keys.fresh(tenant)))

    async def _refuse(
        self, request: web.Request, operation: Operation, error: KeyServiceError, tenant: str = ""
    ) -> None:
        await self._cases.desk.refuse(_call(request, ""), tenant, operation, error)


def probe_application(health: Health, metrics: Metrics) -> web.Application:
    """Return the probes and the figures alone, for a listener without client certificates."""
    app = web.Application(middlewares=[_answer_errors])
    app.add_routes(_probes(health, metrics))
    return app


def _probes(health: Health, metrics: Metrics) -> list[web.RouteDef]:
    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_request: web.Request) -> web.Response:
        fit, text = await health.ready()
        return web.Response(text=text, status=200 if fit else 503)

    async def figures(_request: web.Request) -> web.Response:
        await health.ready()
        response = web.Response(body=metrics.exposition())
        response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
        return response

    handlers = (live, ready, figures)
    return [web.get(path, answer) for path, answer in zip(PROBES, handlers, strict=True)]


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.monotonic()
    request[REQUEST_ID_KEY] = secrets.token_hex(16)
    try:
        response = await handler(request)
    except KeyServiceError as error:
        response = answers.problem(to_problem(error))
    except web.HTTPException as error:
        response = answers.problem(
            Problem(type=PREFIX + "http", status=error.status, detail=error.reason.lower())
        )
    except Exception:
        log.exception("request failed for a reason nobody foresaw")
        response = answers.problem(to_problem(KeyServiceError()))
    answers.finish(response, request[REQUEST_ID_KEY])
    caller = request.get(CALLER)
    if request.path in PROBES:
        return response
    log.info(
        "request",
        request_id=request[REQUEST_ID_KEY],
        caller=caller.name if caller else None,
        method=request.method,
        route=request.match_info.route.resource.canonical
        if request.match_info.route.resource
        else None,
        status=response.status,
        seconds=round(time.monotonic() - started, 6),
    )
    return response


def _number(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise Invalid(f"{name} must be a number of at most {MAX_DIGITS} digits")
    return int(given)


def _request_id(given: str) -> str:
    if not REQUEST_ID.fullmatch(given):
        raise Invalid("X-Request-Id must be 1 to 64 letters, digits or .:_-")
    return given


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"request body is larger than {MAX_BODY} bytes") from None
    except TimeoutError:
        raise Invalid("request body did not arrive in time") from None
    except (ConnectionError, web.RequestPayloadError):
        # The errors of aiohttp quote what was sent.
        raise Invalid("request body did not arrive whole") from None


def _call(request: web.Request, reason: str) -> Call:
    return Call(request[CALLER], request[REQUEST_ID_KEY], reason)


def _keys(message: UseKeys) -> list[WrappedKey]:
    return [WrappedKey(key.wrapped, key.context) for key in message.keys]


def _data_key(item: DataKey | KeyServiceError) -> Item:
    if isinstance(item, KeyServiceError):
        return _failed(item)
    return Item(dek=item.dek, wrapped=item.wrapped, kek=item.kek)


def _failed(error: KeyServiceError) -> Item:
    return Item(error=to_problem(error))
