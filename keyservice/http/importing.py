"""The routes of those who bring their own root key (docs/keyservice-api.md, "A root key of one's own")."""

from __future__ import annotations

from aiohttp import web

from keyservice.access.policy import Operation
from keyservice.desk.importing import Importing
from keyservice.errors import Invalid
from keyservice.http import answers, views
from keyservice.http.asked import TENANT, Asked, call
from keyservice.protocol.messages import ImportRoot, WrappingKey


def routes(asked: Asked, cases: Importing) -> list[web.RouteDef]:
    """Return the routes; each is named for its operation (see `asked.operation_of`)."""

    async def wrapping_key(request: web.Request) -> web.Response:
        found = await cases.wrapping_key(call(request, "import key"))
        return answers.json(WrappingKey(public_key=found))

    async def bring(request: web.Request) -> web.Response:
        tenant, message = await asked.of_tenant(request, Operation.IMPORT_ROOT, ImportRoot)
        who = call(request, message.reason)
        if message.new_version and message.rotatable:
            error = Invalid(
                "a further version is one that the tenant supplies: it is not rotatable"
            )
            await asked.refuse(request, Operation.IMPORT_ROOT, error, tenant)
            raise error
        if message.new_version:
            record = await cases.bring_version(who, tenant, message.parcel)
        else:
            record = await cases.bring(who, tenant, message.parcel, rotatable=message.rotatable)
        return answers.json(views.tenant(record))

    return [
        web.get("/v1/import-key", wrapping_key, name="import_root.key"),
        web.post(f"{TENANT}/root/import", bring, name="import_root"),
    ]
