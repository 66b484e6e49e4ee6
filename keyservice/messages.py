"""The JSON messages between the key service and its client, checked field by field.

Unknown fields, wrong types, lax base64 and anything beyond the limits of `wire` are refused, and a
refusal never repeats the input. Bytes travel as standard base64 with padding.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from keyservice.errors import Invalid
from keyservice.records import TENANT, KekState, TenantState, Tier
from keyservice.wire import MAX_BATCH, MAX_CONTEXT, MAX_REASON, MAX_WRAPPED

M = TypeVar("M", bound=BaseModel)


def _decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be base64 text")  # noqa: TRY004 - pydantic reports only ValueError
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64 text") from None


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else _decode(value)


Base64 = Annotated[bytes, BeforeValidator(_bytes), PlainSerializer(_encode, when_used="json")]
Context = Annotated[Base64, Field(min_length=1, max_length=MAX_CONTEXT)]
Wrapped = Annotated[Base64, Field(min_length=1, max_length=MAX_WRAPPED)]
Secret = Annotated[Base64, Field(min_length=32, max_length=32)]
Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON, pattern=r"^[\x20-\x7e]+$")]
Tenant = Annotated[str, Field(pattern=f"^{TENANT.pattern}$")]


class Message(BaseModel):
    """A message whose every field is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CreateTenant(Message):
    """Body of `POST /v1/tenants`."""

    tenant: Tenant
    tier: Tier = Tier.STANDARD
    reason: Reason = "create tenant"


class Created(Message):
    """Answer of `POST /v1/tenants`."""

    tenant: Tenant


class MakeDataKeys(Message):
    """Body of `POST /v1/tenants/{tenant}/data-keys`."""

    reason: Reason
    contexts: Annotated[tuple[Context, ...], Field(min_length=1, max_length=MAX_BATCH)]


class Key(Message):
    """One wrapped key of a batch."""

    wrapped: Wrapped
    context: Context


class UseKeys(Message):
    """Body of `POST /v1/tenants/{tenant}/unwrap` and `…/rewrap`."""

    reason: Reason
    keys: Annotated[tuple[Key, ...], Field(min_length=1, max_length=MAX_BATCH)]


class Problem(Message):
    """A refusal, of a request or of one item; `type` is stable, `detail` is for people."""

    type: str
    status: int
    detail: str
    retry_after: float | None = None


class Item(Message):
    """One answer of a batch: what was asked for, or `error` alone."""

    dek: Secret | None = Field(default=None, repr=False)
    wrapped: Wrapped | None = None
    kek: str | None = None
    error: Problem | None = None


class Items(Message):
    """The answer to a batch, in its order; `fresh` is for how many seconds what it tells may be kept."""

    fresh: Annotated[float, Field(ge=0)] = 0.0
    items: Annotated[tuple[Item, ...], Field(max_length=MAX_BATCH)]


class KekView(Message):
    """What is told about a KEK."""

    id: str
    state: KekState
    created: int


class TenantView(Message):
    """Answer of `GET /v1/tenants/{tenant}`; times in microseconds since the epoch, UTC."""

    tenant: Tenant
    tier: Tier
    state: TenantState
    cache_ttl: float
    keks: tuple[KekView, ...]


class Usable(Message):
    """Answer of `GET /v1/tenants/{tenant}/usable`: they are, and for `fresh` seconds that may be kept."""

    fresh: Annotated[float, Field(ge=0)]


class JournalView(Message):
    """Answer of `GET /v1/tenants/{tenant}/journal`: lines as they were written, and the newest's number."""

    tenant: Tenant
    head: int
    entries: tuple[str, ...]


class StatusView(Message):
    """Answer of `GET /v1/status`."""

    root: str
    healthy: bool
    detail: str


def parse(kind: type[M], body: bytes | str) -> M:
    """Return the message of a JSON body; raise Invalid with the fields that are wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['type']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        shown = "; ".join(faults[:3])[:300]
        raise Invalid(f"request does not have the right form: {shown}") from None
