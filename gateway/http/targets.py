"""Refuses request targets of which a part would be lost without a word.

An id with a `#` or `?` that was not escaped ends there, and the rest would be taken for a fragment or a
query: what was meant for one attachment would land in another. So a fragment is refused, and so is a
query parameter that the route does not know.
"""

from functools import cache

from aiohttp import web

from gateway.errors import Invalid
from gateway.http.openapi_parts import PARAMETERS
from gateway.http.openapi_routes import OPERATIONS


def refuse_lost_parts(request: web.Request) -> None:
    """Raise Invalid for a target of which a part means nothing here."""
    if "#" in request.raw_path:
        raise Invalid("a request has no fragment: write # in an id as %23")
    resource = request.match_info.route.resource
    if resource is None or not resource.canonical.startswith("/v1/"):
        return  # a probe may be asked with anything
    if not request.query.keys() <= _known(request.method, resource.canonical):
        raise Invalid("the query holds what this route does not know: write ? in an id as %3F")


@cache
def _known(method: str, path: str) -> frozenset[str]:
    operation = OPERATIONS.get((method, path)) or OPERATIONS["GET", path]
    return frozenset(name for name in operation.parameters if PARAMETERS[name]["in"] == "query")
