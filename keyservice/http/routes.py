"""From HTTP requests to use cases and back (docs/keyservice-api.md).

Guarantees: every field is checked before anything is done, bodies are bounded in size and time,
every error is the problem of one table with a stable type, and no answer may be stored by caches.
It knows no vendor and decides nothing about keys.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from aiohttp import web

from keyservice.access.callers import TokenCheck, of_certificate
from keyservice.access.policy import Caller, Operation
from keyservice.desk.desk import Call, Desk
from keyservice.desk.importing import Importing
from keyservice.desk.lifecycle import Lifecycle
from keyservice.desk.service import Batch, KeyService
from keyservice.desk.shared_root import SharedRoot
from keyservice.errors import KeyServiceError, Unavailable
from keyservice.health import Health
from keyservice.http import answers, asked, views
from keyservice.http import importing as http_import
from keyservice.http import journal as http_journal
from keyservice.http import lifecycle as http_lifecycle
from keyservice.http import shredding as http_shred
from keyservice.http.asked import CALLER, MAX_BODY, REQUEST_ID_KEY, TENANT, Asked
from keyservice.journal.journal import Journal
from keyservice.metrics import Metrics
from keyservice.ports import RootKind
from keyservice.protocol.messages import (
    Created,
    CreateTenant,
    Item,
    Items,
    MakeDataKeys,
    Problem,
    StatusView,
    Usable,
    UseKeys,
)
from keyservice.protocol.problems import PREFIX, to_problem
from keyservice.shredding.shredding import Shreddings
from keyservice.wire import DataKey, WrappedKey

PROBES = ("/livez", "/readyz", "/metrics")
MAX_DIGITS = 16

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UseCases:
    """All that can be asked for, and the desk at which what cannot be understood is turned away."""

    keys: KeyService
    lifecycle: Lifecycle
    importing: Importing
    shared: SharedRoot
    shreddings: Shreddings
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
        self._asked = Asked(cases.desk)
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
                *http_lifecycle.routes(self._asked, self._cases.lifecycle, self._cases.shared),
                *http_shred.routes(self._asked, self._cases.shreddings),
                *http_import.routes(self._asked, self._cases.importing),
                *http_journal.routes(self._asked, self._cases.desk, self._cases.journal),
                web.get("/v1/status", self.status),
                *_probes(self._health, self._metrics),
            ]
        )
        return app

    async def create_tenant(self, request: web.Request) -> web.Response:
        """201 when it is new, 200 when it was there."""
        message = await self._asked.message(request, Operation.CREATE_TENANT, CreateTenant)
        new = await self._cases.keys.create_tenant(
            asked.call(request, message.reason), message.tenant, message.tier
        )
        return answers.json(Created(tenant=message.tenant), status=201 if new else 200)

    async def tenant_status(self, request: web.Request) -> web.Response:
        """Return the tenant's tier, state and KEKs, without any key."""
        tenant = await self._asked.tenant(request, Operation.TENANT_STATUS)
        record = await self._cases.keys.tenant_status(asked.call(request, "status"), tenant)
        try:
            used = await self._cases.journal.last_used(tenant)
        except Unavailable:  # which is no reason not to tell the rest
            used = {}
        retirable = self._cases.lifecycle.retirable(record)
        return answers.json(views.tenant(record, used, retirable))

    async def usable(self, request: web.Request) -> web.Response:
        """Tell that the tenant's keys may be used, and how long that may be remembered."""
        tenant = await self._asked.tenant(request, Operation.TENANT_STATUS)
        found = await self._cases.keys.usable(
            asked.call(request, "usable"), tenant, at_least=_at_least(request)
        )
        return answers.json(Usable(revision=found.revision, fresh=found.fresh))

    async def data_keys(self, request: web.Request) -> web.Response:
        """Return one fresh key for each context."""
        tenant, message = await self._asked.of_tenant(request, Operation.DATA_KEYS, MakeDataKeys)
        found = await self._cases.keys.data_keys(
            asked.call(request, message.reason), tenant, message.contexts, at_least=message.at_least
        )
        return _items(found, _data_key)

    async def unwrap(self, request: web.Request) -> web.Response:
        """Return the data key of each item."""
        tenant, message = await self._asked.of_tenant(request, Operation.UNWRAP, UseKeys)
        found = await self._cases.keys.unwrap(
            _call(request, message), tenant, _keys(message), at_least=message.at_least
        )
        return _items(found, lambda dek: Item(dek=dek))

    async def rewrap(self, request: web.Request) -> web.Response:
        """Return each item under the current KEK."""
        tenant, message = await self._asked.of_tenant(request, Operation.REWRAP, UseKeys)
        found = await self._cases.keys.rewrap(
            _call(request, message), tenant, _keys(message), at_least=message.at_least
        )
        return _items(found, lambda wrapped: Item(wrapped=wrapped))

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
                request[REQUEST_ID_KEY] = asked.request_id(given)
        except KeyServiceError as error:
            await self._asked.turn_away(request, error)
            raise
        return await handler(request)

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        if certificate is None and self._token is not None:
            return self._token.caller(request.headers.get("Authorization"))
        return of_certificate(certificate)


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


def _at_least(request: web.Request) -> int:
    """Return the revision that the caller saw, 0 where it names none that makes sense."""
    given = request.query.get("at_least", "0")
    return int(given) if given.isdecimal() and len(given) < MAX_DIGITS else 0


def _call(request: web.Request, message: UseKeys) -> Call:
    """Return who asks and why, and for which requests if there are several."""
    call = asked.call(request, message.reason)
    if all(key.request is None for key in message.keys):
        return call
    return replace(call, requests=tuple(key.request or call.request_id for key in message.keys))


def _keys(message: UseKeys) -> list[WrappedKey]:
    return [WrappedKey(key.wrapped, key.context) for key in message.keys]


def _data_key(key: DataKey) -> Item:
    return Item(dek=key.dek, wrapped=key.wrapped, kek=key.kek)


def _items(found: Batch[T], show: Callable[[T], Item]) -> web.Response:
    items = tuple(
        Item(error=to_problem(item)) if isinstance(item, KeyServiceError) else show(item)
        for item in found.items
    )
    return answers.json(Items(items=items, revision=found.revision, fresh=found.fresh))
