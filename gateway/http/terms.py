"""The route by which a tenant's terms are changed, and how they are shown."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aiohttp import web

from gateway.attachments.tenants import shown
from gateway.attachments.terms import Terms
from gateway.attachments.trash import retained
from gateway.errors import Invalid
from gateway.http.paging import FRESH, json_of
from gateway.http.requests import authorize, tenant_of
from gateway.http.services import services
from gateway.http.values import moment, number
from gateway.model import Retention, Right, Tenant
from gateway.ports import Rotation

_RETENTION = frozenset({"trash_days", "keep_versions", "keep_days", "hold_until"})
_ROTATION = frozenset({"kek_every_seconds", "root_every_seconds"})


async def show(request: web.Request) -> web.StreamResponse:
    """Describe a tenant, and what holds for it."""
    serving, tenant = services(request), tenant_of(request)
    await authorize(request, serving.tokens, Right.ADMIN, tenant)
    return web.json_response(_shown(*await serving.agreements.of(tenant)), headers=FRESH)


async def change(request: web.Request) -> web.StreamResponse:
    """Change what holds for a tenant; what is not named stays."""
    serving, tenant = services(request), tenant_of(request)
    # A tenant's own administrator must not change what an operator set for the tenant.
    await authorize(request, serving.tokens, Right.ADMIN, None)
    body = await json_of(request, frozenset({"quorum", "retention", "rotation"}))
    changes = [_CHANGES[name](body[name]) for name in sorted(body)]

    def changed(now: Terms) -> Terms:
        for each in changes:
            now = each(now)
        return now

    return web.json_response(
        _shown(*await serving.agreements.change(tenant, changed)), headers=FRESH
    )


Change = Callable[[Terms], Terms]


def _quorum(value: object) -> Change:
    if value is not None and not isinstance(value, str):
        raise Invalid("quorum is a policy such as primary+1, or null: the configured one")
    return lambda now: replace(now, quorum=value)


def _retention(value: object) -> Change:
    given = _object("retention", value, _RETENTION)
    days, age = number(given, "trash_days"), number(given, "keep_days")
    wanted: dict[str, Any] = {
        "trash_days": ("trash", Retention().trash if days is None else timedelta(days=days)),
        "keep_versions": ("versions", number(given, "keep_versions")),
        "keep_days": ("age", None if age is None else timedelta(days=age)),
        "hold_until": ("hold", moment(given, "hold_until")),
    }
    fields = dict(wanted[name] for name in given)
    return lambda now: replace(now, retention=replace(now.retention, **fields))


def _rotation(value: object) -> Change:
    given = _object("rotation", value, _ROTATION)
    fields = {name.removesuffix("_every_seconds"): _span(given, name) for name in given}
    return lambda now: replace(now, rotation=replace(now.rotation, **fields))


_CHANGES = {"quorum": _quorum, "retention": _retention, "rotation": _rotation}


def _object(name: str, value: object, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= known:
        raise Invalid(f"{name} is an object with fields of: {', '.join(sorted(known))}")
    return value


def _span(given: dict[str, Any], name: str) -> timedelta | None:
    seconds = number(given, name, most=10**10)
    return None if seconds is None else timedelta(seconds=seconds)


def _shown(tenant: Tenant, terms: Terms) -> dict[str, Any]:
    return {
        **shown(tenant),
        "quorum": terms.quorum,
        "retention": retained(terms.retention),
        "rotation": _rotated(terms.rotation),
    }


def _rotated(rotation: Rotation) -> dict[str, int | None]:
    spans = {"kek_every_seconds": rotation.kek, "root_every_seconds": rotation.root}
    return {
        name: None if span is None else int(span.total_seconds()) for name, span in spans.items()
    }
