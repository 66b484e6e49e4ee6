"""The seal of a tenant's record: proof that it is as the key service wrote it, and when.

An HMAC-SHA-256 of everything that the record says, under a key that is derived from the tenant's
current KEK. So whoever can write to the key store, and cannot have Vault open a KEK, alters nothing
unseen: no field, no order of KEKs, no state. `sealed` is the revision at which the seal was made; a
record that acts must have been sealed at its own, which an older one that is written back was not.

It needs no input or output, and does not say when a record must be proven: `keyring` and `change` do.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyservice.records import TenantRecord, TenantState, to_document

SIZE = 32
DIGITS = 2 * SIZE


def seal(kek: bytes, record: TenantRecord) -> TenantRecord:
    """Return the record sealed at its own revision under the KEK that is current in it."""
    dated = replace(record, sealed=record.revision)
    return replace(dated, seal=_text(kek, dated))


def proves(kek: bytes, record: TenantRecord) -> bool:
    """Say whether the record is, in every field, what was sealed at its own revision."""
    return record.sealed == record.revision and _matches(kek, record)


def proves_keys(kek: bytes, record: TenantRecord) -> bool:
    """Say the same of all but the state and the order, which may have changed since it was sealed.

    A suspension and an order to destroy are written without a seal where the root does not answer; so is
    what becomes of an order that was sealed, which is why its seal has a code without it.
    """
    if record.sealed > record.revision:
        return False
    if record.state is TenantState.SHREDDING and _same(record.seal[DIGITS:], _keys(kek, record)):
        return True
    before = (
        record,
        replace(record, state=TenantState.ACTIVE, order=None),
        replace(record, state=TenantState.SUSPENDED, order=None),
    )
    return any(_matches(kek, candidate) for candidate in before)


def _matches(kek: bytes, record: TenantRecord) -> bool:
    return _same(record.seal, _text(kek, record))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _text(kek: bytes, record: TenantRecord) -> str:
    """Return the seal: of everything, and where there is an order of all but the state and the order."""
    whole = _code(kek, record)
    return whole + _keys(kek, record) if record.state is TenantState.SHREDDING else whole


def _keys(kek: bytes, record: TenantRecord) -> str:
    """Return the code without state and order, which under a key of its own passes for no other."""
    return _code(kek, replace(record, state=TenantState.ACTIVE, order=None), "keys seal")


def _code(kek: bytes, record: TenantRecord, purpose: str = "seal") -> str:
    document = to_document(record)
    del document["seal"], document["revision"]  # the latter is `sealed`, at the time
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    info = f"sealgate tenant record {purpose}|{record.tenant}".encode()
    key = HKDF(algorithm=hashes.SHA256(), length=SIZE, salt=None, info=info).derive(kek)
    return hmac.digest(key, content.encode(), "sha256").hex()
