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


def seal(kek: bytes, record: TenantRecord) -> TenantRecord:
    """Return the record sealed at its own revision under the KEK that is current in it."""
    dated = replace(record, sealed=record.revision)
    return replace(dated, seal=_code(kek, dated))


def proves(kek: bytes, record: TenantRecord) -> bool:
    """Say whether the record is, in every field, what was sealed at its own revision."""
    return record.sealed == record.revision and _matches(kek, record)


def proves_keys(kek: bytes, record: TenantRecord) -> bool:
    """Say the same of all but the state and the order, which may have changed since it was sealed.

    A suspension and an order to destroy are written without a seal where the root does not answer.
    """
    if record.sealed > record.revision:
        return False
    before = (
        record,
        replace(record, state=TenantState.ACTIVE, order=None),
        replace(record, state=TenantState.SUSPENDED, order=None),
    )
    return any(_matches(kek, candidate) for candidate in before)


def _matches(kek: bytes, record: TenantRecord) -> bool:
    return hmac.compare_digest(_code(kek, record).encode(), record.seal.encode())


def _code(kek: bytes, record: TenantRecord) -> str:
    document = to_document(record)
    del document["seal"], document["revision"]  # the latter is `sealed`, at the time
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    info = f"sealgate tenant record seal|{record.tenant}".encode()
    key = HKDF(algorithm=hashes.SHA256(), length=SIZE, salt=None, info=info).derive(kek)
    return hmac.digest(key, content.encode(), "sha256").hex()
