"""Holds answers to the OpenAPI document: status, problem type, media type and schema."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from gateway.http import openapi
from gateway.http.server import ROUTES

DOCUMENT = openapi.build(ROUTES)
EVERYWHERE = {"no-route", "method-not-allowed", "malformed", "fields-too-large"}
_PREFIX = "urn:sealgate:problem:"


def described(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the document describes this answer."""
    kind = headers.get("Content-Type", "").partition(";")[0]
    slug = (
        str(json.loads(body)["type"]).removeprefix(_PREFIX)
        if kind.endswith("problem+json") and body
        else ""
    )
    if slug in EVERYWHERE:
        return
    place = _place(path.partition("?")[0])
    methods = DOCUMENT["paths"][place]
    operation = methods.get(method.lower()) or methods["get"]
    assert str(status) in operation["responses"], f"{method} {place} answered {status}"
    answer = operation["responses"][str(status)]
    if slug:
        assert f"`{slug}`" in answer["description"], f"{method} {place} answered {slug}"
    for name in headers:
        shown = name.title()
        assert not shown.startswith("Sealgate-") or shown in {h.title() for h in answer["headers"]}
    if not body:
        return
    content = answer["content"]
    media = content[kind] if kind in content else content["*/*"]
    if "$ref" in media.get("schema", {}):
        _validator(media["schema"]["$ref"]).validate(json.loads(body))


@cache
def _validator(reference: str) -> Any:
    return Draft202012Validator({"$ref": reference, "components": DOCUMENT["components"]})


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    def pattern(place: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{\w+\}", "[^/]+", place))

    return [(pattern(place), place) for place in DOCUMENT["paths"]]


def _place(path: str) -> str:
    return next(place for pattern, place in _patterns() if pattern.fullmatch(path))
