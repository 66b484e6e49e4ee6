"""The route that shows a tenant's key journal (docs/keyservice-api.md)."""

from __future__ import annotations

from aiohttp import web

from keyservice.access.policy import Operation
from keyservice.desk.desk import Desk, Outcome
from keyservice.errors import Invalid
from keyservice.http import answers
from keyservice.http.asked import TENANT, Asked, call
from keyservice.journal.entry import JournalPage
from keyservice.journal.journal import Journal
from keyservice.protocol.messages import JournalView

MAX_DIGITS = 10
JOURNAL_PAGE = 200


def routes(asked: Asked, desk: Desk, journal: Journal) -> list[web.RouteDef]:
    """Return the route; it is named for its operation."""

    async def answer(request: web.Request) -> web.Response:
        """Return lines of the tenant's key journal after a number."""
        tenant = await asked.tenant(request, Operation.JOURNAL)
        try:
            after = _number(request, "after", 0)
            limit = _number(request, "limit", JOURNAL_PAGE)
        except Invalid as error:
            await asked.refuse(request, Operation.JOURNAL, error, tenant)
            raise

        async def read() -> Outcome[JournalPage]:
            return Outcome("", await journal.page(tenant, after, limit))

        page = await desk.one(call(request, "journal"), tenant, Operation.JOURNAL, read)
        return answers.json(JournalView(tenant=tenant, head=page.head, entries=tuple(page.lines)))

    return [web.get(f"{TENANT}/journal", answer, name=Operation.JOURNAL)]


def _number(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise Invalid(f"{name} must be a number of at most {MAX_DIGITS} digits")
    return int(given)
