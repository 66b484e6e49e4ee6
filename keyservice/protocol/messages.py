"""The JSON messages between the key service and its client, checked field by field.

Unknown fields, wrong types, lax base64 and anything beyond the limits of `wire` are refused, and a
refusal never repeats the input. Bytes travel as standard base64 with padding.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from keyservice.errors import Invalid
from keyservice.records import (
    MAX_KEK_ID,
    MAX_RATE,
    TENANT,
    Custody,
    KekState,
    TenantState,
    Tier,
)
from keyservice.wire import (
    MAX_BATCH,
    MAX_CONTEXT,
    MAX_ENTRY,
    MAX_REASON,
    MAX_WRAPPED,
    REQUEST_ID,
)

M = TypeVar("M", bound=BaseModel)
MAX_PARCEL = 1200
MAX_PEM = 4096


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
Parcel = Annotated[Base64, Field(min_length=1, max_length=MAX_PARCEL)]
Secret = Annotated[Base64, Field(min_length=32, max_length=32)]
Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON, pattern=r"^[\x20-\x7e]+$")]
Revision = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Field(ge=0, le=86400)]
KekId = Annotated[str, Field(min_length=1, max_length=MAX_KEK_ID, pattern=r"^[\x21-\x7e]+$")]
RootName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9-]*$")]
Tenant = Annotated[str, Field(pattern=f"^{TENANT.pattern}$")]
RequestId = Annotated[str, Field(pattern=f"^{REQUEST_ID.pattern}$")]


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
    at_least: Revision = 0


class Key(Message):
    """One wrapped key of a batch; `request` is the id of the request it is for, if not the batch's."""

    wrapped: Wrapped
    context: Context
    request: RequestId | None = None


class UseKeys(Message):
    """Body of `POST /v1/tenants/{tenant}/unwrap` and `…/rewrap`."""

    reason: Reason
    keys: Annotated[tuple[Key, ...], Field(min_length=1, max_length=MAX_BATCH)]
    at_least: Revision = 0


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
    """The answer to a batch, in its order.

    `revision` is that of the tenant's record which was acted upon; `fresh` is for how many seconds what
    it tells may be kept.
    """

    items: Annotated[tuple[Item, ...], Field(max_length=MAX_BATCH)]
    revision: Revision
    fresh: Annotated[float, Field(ge=0)]


class KekView(Message):
    """What is told about a KEK; `last_used` is None where nobody knows of a use.

    `retirable` is None for one that was not replaced, or is gone.
    """

    id: str
    state: KekState
    created: int
    root_version: int
    last_used: int | None = None
    retirable: int | None = None


class RootView(Message):
    """Which root wraps a tenant's KEKs."""

    custody: Custody
    name: RootName = ""
    imported: bool = False


class RateView(Message):
    """Keys a second, and how many at once after a rest."""

    per_second: Annotated[float, Field(gt=0, le=MAX_RATE)]
    burst: Annotated[float, Field(ge=1, le=MAX_RATE)]


class OrderView(Message):
    """An order to destroy a tenant's keys; times in microseconds since the epoch, 0 for not yet."""

    ordered: int
    due: int
    by: str
    reason: str
    approved: str
    began: int
    ended: int


class TenantView(Message):
    """A tenant without its keys; times in microseconds since the epoch, UTC.

    The answer of `GET /v1/tenants/{tenant}` and of whatever changes a tenant.
    """

    tenant: Tenant
    tier: Tier
    state: TenantState
    root: RootView
    left: tuple[RootView, ...] = ()
    revision: Revision
    cache_ttl: float
    rate: RateView | None = None
    order: OrderView | None = None
    keks: tuple[KekView, ...]


class Usable(Message):
    """Answer of `GET /v1/tenants/{tenant}/usable`: they are, and for `fresh` seconds that may be kept."""

    revision: Revision
    fresh: Annotated[float, Field(ge=0)]


class JournalView(Message):
    """Answer of `GET /v1/tenants/{tenant}/journal`: lines as they were written, and the newest's number."""

    tenant: Tenant
    head: int
    entries: tuple[str, ...]


class VersionsView(Message):
    """A root key's newest version, made when `created` says, and the oldest that still unwraps."""

    latest: int
    minimum: int
    created: int


class Because(Message):
    """Body of what needs a reason only, such as `suspend` and `shred/undo`."""

    reason: Reason


class OrderShred(Message):
    """Body of `shred`: in how many days; left out, as the service is set."""

    reason: Reason
    days: Annotated[int, Field(ge=0, le=3650)] | None = None


class ReceiptView(Message):
    """Answer of `shred/execute` and `shred/receipt`: a signed report."""

    receipt: dict[str, Any]


class EntryView(Message):
    """An entry of the shred ledger; `text` is the signed line, and all the rest stands in it."""

    hash: str
    tenant: Tenant
    ledger: str
    index: int
    text: str


class LedgerView(Message):
    """Answer of `GET /v1/ledger`: a page in order of hash, empty behind the last one."""

    public_key: str
    entries: tuple[EntryView, ...]


class AddToLedger(Message):
    """Body of `POST /v1/ledger`: signed lines of other instances, or from copies."""

    reason: Reason
    entries: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_ENTRY)], ...], Field(max_length=MAX_BATCH)
    ]


class Taken(Message):
    """Answer of `POST /v1/ledger`: those that were new."""

    entries: tuple[EntryView, ...]


class RotateKek(Message):
    """Body of `kek/rotate`: `expected` is the id of the KEK that is to be replaced."""

    reason: Reason
    expected: KekId


class RetireKek(Message):
    """Body of `kek/retire`."""

    reason: Reason
    kek: KekId


class Move(Message):
    """Body of `move`."""

    reason: Reason
    tier: Tier
    root: RootView


class Settings(Message):
    """Body of `settings`; what is left out stays, `unlimited` takes the tenant's own rate away."""

    reason: Reason
    cache_ttl: Seconds | None = None
    rate: RateView | None = None
    unlimited: bool = False


class ImportRoot(Message):
    """Body of `root/import`: `parcel` is the root key, packed for the wrapping key."""

    reason: Reason
    parcel: Parcel
    rotatable: bool = False
    new_version: bool = False


class WrappingKey(Message):
    """Answer of `GET /v1/import-key`: a public key in PEM."""

    public_key: Annotated[str, Field(max_length=MAX_PEM)]


class DestroyRoot(Message):
    """Body of `root/destroy`: which of the tenant's own roots."""

    reason: Reason
    name: RootName


class Mend(Message):
    """Body of `mend`: the revision of the newest genuine record, as the key journal tells it."""

    reason: Reason
    revision: Annotated[int, Field(ge=1, lt=1 << 53)]


class RotateShared(Message):
    """Body of `POST /v1/root/rotate`: `expected` is the version that is to be replaced."""

    reason: Reason
    expected: Annotated[int, Field(ge=1)]


class RetireShared(Message):
    """Body of `POST /v1/root/retire`: versions before `minimum` are put out of use."""

    reason: Reason
    minimum: Annotated[int, Field(ge=1)]


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
