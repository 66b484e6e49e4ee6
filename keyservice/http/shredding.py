"""The routes of a tenant's end and of the shred ledger (docs/keyservice-api.md, "Shredding")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from keyservice.access.policy import Operation
from keyservice.desk.desk import Call
from keyservice.http import answers, views
from keyservice.http.asked import TENANT, Asked, call
from keyservice.protocol.messages import (
    AddToLedger,
    Because,
    EntryView,
    LedgerView,
    OrderShred,
    ReceiptView,
    Taken,
)
from keyservice.records import TenantRecord
from keyservice.shredding.ledger import Entry
from keyservice.shredding.shredding import Shreddings

Change = Callable[[Call, str], Awaitable[TenantRecord]]


def routes(asked: Asked, cases: Shreddings) -> list[web.RouteDef]:
    """Return the routes; each is named for its operation, and what follows a dot tells them apart."""

    async def order(request: web.Request) -> web.Response:
        tenant, message = await asked.of_tenant(request, Operation.SHRED, OrderShred)
        record = await cases.order(call(request, message.reason), tenant, message.days)
        return answers.json(views.tenant(record))

    def change(path: str, operation: Operation, use: Change) -> web.RouteDef:
        async def answer(request: web.Request) -> web.Response:
            tenant, message = await asked.of_tenant(request, operation, Because)
            return answers.json(views.tenant(await use(call(request, message.reason), tenant)))

        return web.post(f"{TENANT}/shred/{path}", answer, name=operation)

    async def execute(request: web.Request) -> web.Response:
        tenant, message = await asked.of_tenant(request, Operation.EXECUTE_SHRED, Because)
        signed = await cases.execute(call(request, message.reason), tenant)
        return answers.json(ReceiptView(receipt=signed))

    async def receipt(request: web.Request) -> web.Response:
        tenant = await asked.tenant(request, Operation.TENANT_STATUS)
        signed = await cases.receipt(call(request, "receipt"), tenant)
        return answers.json(ReceiptView(receipt=signed))

    async def ledger(request: web.Request) -> web.Response:
        after = request.query.get("after", "")[:64]
        public, found = await cases.entries(call(request, "ledger"), after)
        return answers.json(LedgerView(public_key=public, entries=tuple(map(_entry, found))))

    async def add(request: web.Request) -> web.Response:
        message = await asked.message(request, Operation.LEDGER, AddToLedger)
        new = await cases.take(call(request, message.reason), message.entries)
        return answers.json(Taken(entries=tuple(map(_entry, new))))

    return [
        web.post(f"{TENANT}/shred", order, name=Operation.SHRED),
        change("undo", Operation.UNDO_SHRED, cases.undo),
        change("approve", Operation.APPROVE_SHRED, cases.approve),
        web.post(f"{TENANT}/shred/execute", execute, name=Operation.EXECUTE_SHRED),
        web.get(f"{TENANT}/shred/receipt", receipt, name="tenant-status.receipt"),
        web.get("/v1/ledger", ledger, name=Operation.LEDGER),
        web.post("/v1/ledger", add, name="ledger.add"),
    ]


def _entry(found: Entry) -> EntryView:
    return EntryView(
        hash=found.hash,
        tenant=found.destruction.tenant,
        ledger=found.ledger,
        index=found.index,
        text=found.text,
    )
