"""The routes that change how keys are kept (docs/keyservice-api.md, "How a tenant's keys are kept")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from keyservice.access.policy import Operation
from keyservice.desk.desk import Call
from keyservice.desk.lifecycle import Lifecycle, Wanted
from keyservice.desk.shared_root import SharedRoot
from keyservice.http import answers, views
from keyservice.http.asked import TENANT, Asked, call
from keyservice.ports import RootVersions
from keyservice.protocol.messages import (
    Because,
    DestroyRoot,
    Mend,
    Move,
    RateView,
    RetireKek,
    RetireShared,
    RootView,
    RotateKek,
    RotateShared,
    Settings,
)
from keyservice.records import Allowance, RootRef, TenantRecord

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(asked: Asked, cases: Lifecycle, shared: SharedRoot) -> list[web.RouteDef]:
    """Return the routes; each is named for its operation, and what follows a dot tells them apart."""

    def tenant(
        path: str,
        name: str,
        kind: type[M],
        use: Callable[[Call, str, M], Awaitable[TenantRecord]],
    ) -> web.RouteDef:
        operation = Operation(name.partition(".")[0])

        async def answer(request: web.Request) -> web.Response:
            of, message = await asked.of_tenant(request, operation, kind)
            reason: str = message.model_dump(include={"reason"})["reason"]
            return answers.json(views.tenant(await use(call(request, reason), of, message)))

        return web.post(f"{TENANT}/{path}", answer, name=name)

    def root(
        path: str, name: str, kind: type[M], use: Callable[[Call, M], Awaitable[RootVersions]]
    ) -> web.RouteDef:
        operation = Operation(name.partition(".")[0])

        async def answer(request: web.Request) -> web.Response:
            message = await asked.message(request, operation, kind)
            reason: str = message.model_dump(include={"reason"})["reason"]
            return answers.json(views.versions(await use(call(request, reason), message)))

        return web.post(path, answer, name=name)

    async def tenant_root(request: web.Request) -> web.Response:
        of = await asked.tenant(request, Operation.TENANT_STATUS)
        return answers.json(views.versions(await cases.root_versions(call(request, "status"), of)))

    async def shared_root(request: web.Request) -> web.Response:
        return answers.json(views.versions(await shared.versions(call(request, "status"))))

    return [
        tenant(
            "kek/rotate",
            "rotate-kek",
            RotateKek,
            lambda c, t, m: cases.rotate_kek(c, t, m.expected),
        ),
        tenant(
            "kek/retire", "retire-kek", RetireKek, lambda c, t, m: cases.retire_kek(c, t, m.kek)
        ),
        tenant("root/rotate", "rotate-root", Because, lambda c, t, _: cases.rotate_root(c, t)),
        tenant(
            "root/rewrap", "rotate-root.rewrap", Because, lambda c, t, _: cases.rewrap_root(c, t)
        ),
        tenant(
            "root/destroy",
            "retire-root",
            DestroyRoot,
            lambda c, t, m: cases.destroy_root(c, t, m.name),
        ),
        tenant("move", "move", Move, lambda c, t, m: cases.move(c, t, m.tier, _root(m.root))),
        tenant("settings", "settings", Settings, lambda c, t, m: cases.settings(c, t, _wanted(m))),
        tenant("suspend", "suspend", Because, lambda c, t, _: cases.suspend(c, t)),
        tenant("resume", "resume", Because, lambda c, t, _: cases.resume(c, t)),
        tenant("mend", "mend", Mend, lambda c, t, m: cases.mend(c, t, m.revision)),
        web.get(f"{TENANT}/root", tenant_root, name="tenant-status.root"),
        web.get("/v1/root", shared_root, name="tenant-status.shared"),
        root(
            "/v1/root/rotate",
            "rotate-root.shared",
            RotateShared,
            lambda c, m: shared.rotate(c, m.expected),
        ),
        root(
            "/v1/root/retire",
            "retire-root.shared",
            RetireShared,
            lambda c, m: shared.retire(c, m.minimum),
        ),
    ]


def _root(view: RootView) -> RootRef:
    return RootRef(view.custody, view.name, view.imported)


def _wanted(message: Settings) -> Wanted:
    rate: RateView | None = message.rate
    allowance = Allowance(rate.per_second, rate.burst) if rate else None
    return Wanted(message.cache_ttl, allowance, message.unlimited)
