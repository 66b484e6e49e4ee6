"""What is asked, by whom, for which tenant: read from a request, or refused and put on record.

Guarantees: every field is checked before anything is done, bodies are bounded in size and time, and a
request that cannot be understood is on record like any other refusal.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from keyservice.access.policy import NOBODY, Caller, Operation
from keyservice.desk.desk import Call, Desk
from keyservice.errors import Invalid, KeyServiceError, TooLarge
from keyservice.protocol.messages import parse
from keyservice.records import is_tenant
from keyservice.wire import REQUEST_ID

MAX_BODY = 2 * 1024 * 1024
BODY_TIMEOUT = 10.0
TENANT = "/v1/tenants/{tenant}"
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
REQUEST_ID_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)

M = TypeVar("M", bound=BaseModel)


class Asked:
    """Reads requests for one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def of_tenant(
        self, request: web.Request, operation: Operation, kind: type[M]
    ) -> tuple[str, M]:
        """Return the tenant in the path and the message in the body."""
        tenant = await self.tenant(request, operation)
        return tenant, await self.message(request, operation, kind, tenant)

    async def message(
        self, request: web.Request, operation: Operation, kind: type[M], tenant: str = ""
    ) -> M:
        """Return the message in the body."""
        try:
            return parse(kind, await _body(request))
        except Invalid as error:
            await self.refuse(request, operation, error, tenant)
            raise

    async def tenant(self, request: web.Request, operation: Operation) -> str:
        """Return the tenant in the path."""
        tenant = request.match_info["tenant"]
        if not is_tenant(tenant):
            error = Invalid("tenant id must be 32 lower-case hex characters")
            await self.refuse(request, operation, error)
            raise error
        return tenant

    async def turn_away(self, request: web.Request, error: KeyServiceError) -> None:
        """Put on record who was refused at the door, as far as they are known, and at which one."""
        tenant = request.match_info.get("tenant", "")
        name = request.match_info.route.name
        await self._desk.refuse(
            Call(request.get(CALLER, NOBODY), request[REQUEST_ID_KEY], ""),
            tenant if is_tenant(tenant) else "",
            operation_of(name) if name else None,
            error,
        )

    async def refuse(
        self, request: web.Request, operation: Operation, error: KeyServiceError, tenant: str = ""
    ) -> None:
        """Put on record that a request of a known caller could not be understood."""
        await self._desk.refuse(call(request, ""), tenant, operation, error)


def operation_of(route: str) -> Operation:
    """Return the operation that a route is named for; `_` stands for `-` where Python has a keyword."""
    return Operation(route.partition(".")[0].replace("_", "-"))


def call(request: web.Request, reason: str) -> Call:
    """Return who asks and why, of a request whose caller is known."""
    return Call(request[CALLER], request[REQUEST_ID_KEY], reason)


def request_id(given: str) -> str:
    """Return the id that the caller gave the request; raise Invalid."""
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
