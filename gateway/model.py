"""The nouns of the gateway as frozen values, without behaviour that needs the outside world.

Ids are 16 random bytes, written as 32 lower-case hex characters. Times are aware `datetime`s in UTC.
What a person could read meaning into (names, types, metadata) is never here: it is sealed inside
`Version.envelope`. The one exception is `Attachment.reference`, the id the caller chose, which the
catalog must know in order to find it.
"""

import enum
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

SYSTEM: Final = "0" * 32
"""The reserved tenant, whose blobs are the gateway's own: it has keys, and no row in any catalog."""


_DRAWN = 64
_ids: list[str] = []  # each is given out once; a child of this process begins with none
os.register_at_fork(after_in_child=_ids.clear)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id() -> str:
    """Return a fresh random id: 128 bits as 32 lower-case hex characters.

    Drawn from the kernel many at a time: each call to it may cost this thread its turn.
    """
    try:
        return _ids.pop()
    except IndexError:
        drawn = secrets.token_hex(16 * _DRAWN)
        _ids.extend(drawn[start : start + 32] for start in range(32, 32 * _DRAWN, 32))
        return drawn[:32]


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """Return a time as the format has it: microseconds since the epoch."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """Return the time that the format gives in microseconds."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Right(enum.StrEnum):
    """What a token may do within its scope."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"
    PURGE = "purge"  # what is in the trash, before its time


class ReplicaState(enum.StrEnum):
    """What the catalog knows of one blob on one target."""

    STORED = "stored"
    MISSING = "missing"
    DAMAGED = "damaged"  # there, but not what it was
    DELETING = "deleting"  # being purged


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer whose attachments share one line of KEKs."""

    id: str
    tier: str
    created: datetime
    quorum: str | None = None  # a policy of `gateway.targets.quorum`; None: the configured one


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what a tenant deleted or replaced can come back.

    A deleted attachment is kept for `trash`. A replaced version is kept while it is one of the newest
    `versions` replaced ones, or was replaced less than `age` ago, and for `trash` at least; for ever
    where both are None. Before `hold` nothing is purged, whatever the rest says.
    """

    trash: timedelta = timedelta(days=30)
    versions: int | None = None
    age: timedelta | None = None
    hold: datetime | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as the catalog keeps it: never the secret, only its SHA-256."""

    id: str
    secret_hash: bytes = field(repr=False)
    tenant: str | None  # None: every tenant
    rights: frozenset[Right]
    created: datetime
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """What users see: a line of versions under the id the caller chose."""

    id: str
    tenant: str
    reference: str = field(repr=False)
    created: datetime
    deleted: datetime | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable content of an attachment, with the envelope that makes it openable."""

    id: str
    attachment: str
    tenant: str
    blob: str
    created: datetime
    size: int  # plaintext bytes
    body_size: int  # ciphertext bytes of the body object; 0 when the body travels in the envelope
    envelope: bytes = field(repr=False)  # as in the stores, but without a body
    kek: str  # the id of the KEK that the newest wrap in the envelope needs
    inline: bytes | None = field(default=None, repr=False)  # that body, sealed; never in a listing


@dataclass(frozen=True, slots=True)
class Found:
    """A readable version with its attachment and what is known of its replicas (target: state)."""

    attachment: Attachment
    version: Version
    replicas: Mapping[str, ReplicaState]
    current: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """The durable intent of one upload. `id` becomes the version id when it commits.

    `touched` is the catalog's to tell: what `begin` is given there does not count.
    """

    id: str
    tenant: str
    attachment: str
    blob: str
    started: datetime
    touched: datetime


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold of the current version when an upload commits or an attachment is deleted.

    `must_exist` None means no demand, False is `If-None-Match: *`, True is `If-Match: *`.
    `versions`, when not None, lists the version ids of `If-Match`, one of which must be current.
    """

    must_exist: bool | None = None
    versions: frozenset[str] | None = None

    def holds(self, current: str | None) -> bool:
        """Tell whether it holds of the current version's id, None where there is none."""
        if self.must_exist is not None and self.must_exist != (current is not None):
            return False
        return self.versions is None or current in self.versions


@dataclass(frozen=True, slots=True)
class Operation:
    """An idempotent request: running while `version` is None, done once it names the outcome."""

    tenant: str
    key_hash: bytes
    fingerprint: bytes
    upload: str
    version: str | None = None


def body_key(tenant: str, blob: str) -> str:
    """Name of the body object of a blob in every store."""
    return f"t/{tenant}/{blob}/body"


def envelope_key(tenant: str, blob: str) -> str:
    """Name of the envelope object of a blob in every store. It is written last."""
    return f"t/{tenant}/{blob}/envelope"
