"""docs/api.md names the routes, rights, fields and limits that the code has."""

import re
from pathlib import Path

import pytest

from gateway.flow.digests import SUPPORTED
from gateway.http import disposition, fields, openapi, paging, ranges, requests, tokens
from gateway.http.connection import KEEPALIVE
from gateway.http.openapi_parts import HEADERS, PARAMETERS
from gateway.http.openapi_routes import OPERATIONS
from gateway.http.paging import MAX_JSON
from gateway.http.server import ROUTES
from gateway.model import Right

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()
_ROUTE = re.compile(r"^\| ([A-Z]+) \| `(/[^`]*)` \| ([a-z]*) ?\|", re.MULTILINE)


def test_the_routes_are_these() -> None:
    documented = {(method, path): right for method, path, right in _ROUTE.findall(TEXT)}

    assert documented == {
        key: operation.right.value if operation.right else ""
        for key, operation in OPERATIONS.items()
    }
    assert {(method, openapi.template(path)) for method, path, _ in ROUTES} == set(documented)


@pytest.mark.parametrize("name", [*PARAMETERS, *HEADERS])
def test_every_field_and_parameter_is_mentioned(name: str) -> None:
    general = {"WWW-Authenticate", "token", "tenant", "attachment", "Content-Range"}

    assert name in TEXT or name in general, name


@pytest.mark.parametrize(
    "said",
    [
        f"1 to {requests.MAX_REFERENCE} bytes of UTF-8",
        f"up to {disposition.MAX_NAME} bytes, no controls",
        f"up to {fields.MAX_META} fields of {fields.MAX_VALUE} bytes, {fields.MAX_TOTAL} together",
        f"up to {ranges.MOST} of them",
        f"| ranges in one request | {ranges.MOST} |",
        f"1 to {paging.MAX_PAGE} rows, {paging.DEFAULT_PAGE} unless said",
        f"({tokens.DEFAULT_DAYS} unless said; {tokens.MAX_DAYS} at most)",
        f"| a JSON body | {MAX_JSON // 1024} KiB |",
        f"closed after {KEEPALIVE:.0f} s",
        *(f"`{name}`" for name in SUPPORTED),
        *(f"`{right.value}`" for right in Right),
    ],
)
def test_limits_are_those_of_the_code(said: str) -> None:
    assert said in TEXT
