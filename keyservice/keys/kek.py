"""A fresh KEK, and the ids that KEKs bear: `tenant/number-chance`.

The number tells which of two is later. The chance at the end is why a key store that was restored never
gives one id to two KEKs.
"""

from __future__ import annotations

import re
import secrets
import time

from keyservice.ports import Root
from keyservice.records import KekState, KekVersion, RootRef, TenantRecord

KEY_SIZE = 32
_ID = re.compile(r"([0-9a-f]{32})/([1-9][0-9]{0,8})(-[0-9a-f]*)?")


async def draw(root: Root, tenant: str, ref: RootRef, number: int) -> tuple[bytes, KekVersion]:
    """Return a fresh KEK, open and as a record keeps it; raises as `Root.wrap`."""
    key = secrets.token_bytes(KEY_SIZE)
    wrapped = await root.wrap(tenant, ref, key)
    kek_id = f"{tenant}/{number}-{secrets.token_hex(4)}"
    return key, KekVersion(kek_id, wrapped, time.time_ns() // 1000, KekState.CURRENT)


def last_number(record: TenantRecord) -> int:
    """Return the number of the tenant's last KEK, 0 for none."""
    found = (_ID.fullmatch(kek.id) for kek in record.keks)
    return max((int(match[2]) for match in found if match), default=0)


def is_newer(kek_id: str, record: TenantRecord) -> bool:
    """Say whether a KEK of that id could have been made after the record was written."""
    found = _ID.fullmatch(kek_id)
    return found is not None and found[1] == record.tenant and int(found[2]) > last_number(record)
