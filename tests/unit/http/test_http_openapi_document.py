"""The OpenAPI document is valid, and says exactly what the routes are."""

import json
import re
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.http import openapi
from gateway.http.openapi_parts import HEADERS, PARAMETERS, SCHEMAS
from gateway.http.openapi_routes import OPERATIONS
from gateway.http.server import ATTACHMENT, ROUTES, router

DOCUMENT = openapi.build(ROUTES)


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid() -> None:
    errors = list(OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).iter_errors())

    assert not errors


def test_every_route_is_described_and_nothing_else() -> None:
    app = web.Application()
    router(app)
    served = {
        (route.method, openapi.template(route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None
    }
    described = {(method, path) for method, path, _ in _operations()}

    # Every GET answers HEAD too, which the document says once.
    implied = {("HEAD", path) for method, path in described if method == "GET"}
    assert described <= served
    assert served == described | implied
    assert set(OPERATIONS) == described


def test_the_first_route_that_is_tried_is_the_one_of_the_content() -> None:
    app = web.Application()
    router(app)

    first = next(iter(app.router.resources()))

    assert first.canonical == openapi.template(ATTACHMENT)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    _operations(),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_an_operation_is_complete(method: str, path: str, operation: dict[str, Any]) -> None:
    names = {item["$ref"].rpartition("/")[2] for item in operation["parameters"]}
    in_path = {name for name in names if PARAMETERS[name]["in"] == "path"}

    assert in_path == set(re.findall(r"\{(\w+)\}", path))
    assert operation["summary"].endswith(".")
    assert any(int(status) < 400 for status in operation["responses"])
    if operation["security"]:
        assert {"401", "403", "500", "503"} <= operation["responses"].keys()
    if method in {"PUT", "POST"} and not path.endswith("/undelete"):
        assert "requestBody" in operation


def test_no_operation_is_named_twice() -> None:
    names = [operation["operationId"] for _, _, operation in _operations()]

    assert len(set(names)) == len(names)


def test_nothing_is_defined_in_vain() -> None:
    text = json.dumps(DOCUMENT)

    for kind, parts in (("schemas", SCHEMAS), ("parameters", PARAMETERS), ("headers", HEADERS)):
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, name


def test_every_problem_is_somewhere_in_the_document() -> None:
    text = json.dumps(DOCUMENT)
    general = {"store-unavailable"}  # what a store answers ends as quorum-lost or unreadable

    for slug in openapi.BY_SLUG.keys() - general:
        assert f"`{slug}`" in text, slug
