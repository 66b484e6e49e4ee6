"""The key service as those see it who carry out orders to destroy keys and keep the ledger of it."""

from collections.abc import Sequence
from typing import Protocol

from keyservice.wire import LedgerEntry, LedgerPage, SignedReceipt, TenantKeys


class Standings(Protocol):
    """Tells how a tenant stands. Raises KeyServiceErrors."""

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        """Return a tenant's state, and the order where there is one. Raises UnknownTenant."""


class ShredKeys(Protocol):
    """Raises KeyServiceErrors. Every call may be repeated."""

    async def execute_shred(
        self, tenant: str, *, reason: str, request_id: str = ""
    ) -> SignedReceipt:
        """Carry out an order that is due or approved, or finish that. Raises WrongState."""

    async def ledger(self, after: str = "", *, request_id: str = "") -> LedgerPage:
        """Return a page of the shred ledger, in order of hash behind `after`."""

    async def add_to_ledger(
        self, texts: Sequence[str], *, request_id: str = ""
    ) -> Sequence[LedgerEntry]:
        """Give the key service entries that it may lack; return those that were new to it.

        Raises Invalid, and takes none, if no key that it trusts signed one of them.
        """
