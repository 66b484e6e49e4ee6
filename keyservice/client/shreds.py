"""The client's face for those who end tenants and keep the shred ledger. Every call may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from keyservice.client.control import LONG, KeyControl
from keyservice.client.transport import Transport, checked, demand_tenant
from keyservice.protocol.messages import (
    AddToLedger,
    Because,
    EntryView,
    LedgerView,
    OrderShred,
    ReceiptView,
    Taken,
)
from keyservice.shredding.ledger import faults as chain_faults
from keyservice.shredding.ledger import read_entry
from keyservice.wire import LedgerEntry, LedgerPage, SignedReceipt, TenantKeys


class ShredControl:
    """Operations over a transport that somebody else opens and closes; `changed` as in `KeyControl`."""

    def __init__(
        self, transport: Transport, control: KeyControl, changed: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._control = control
        self._changed = changed

    async def order_shred(
        self, tenant: str, *, reason: str, days: int | None = None, request_id: str = ""
    ) -> TenantKeys:
        """Order the destruction of a tenant's keys, in so many days (None: the usual number)."""
        message = checked(OrderShred, reason=reason, days=days)
        return await self._control.change(tenant, "shred", message, request_id=request_id)

    async def undo_shred(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Undo the order."""
        message = checked(Because, reason=reason)
        return await self._control.change(tenant, "shred/undo", message, request_id=request_id)

    async def approve_shred(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        """Let the order be carried out at once; as somebody else than who gave it."""
        message = checked(Because, reason=reason)
        return await self._control.change(tenant, "shred/approve", message, request_id=request_id)

    async def execute_shred(
        self, tenant: str, *, reason: str, request_id: str = ""
    ) -> SignedReceipt:
        """Carry out an order that is due or approved, or finish that."""
        demand_tenant(tenant)
        path, message = f"/v1/tenants/{tenant}/shred/execute", checked(Because, reason=reason)
        try:
            view = await self._transport.ask(
                "POST", path, message, ReceiptView, request_id=request_id, seconds=LONG
            )
        finally:
            self._changed(tenant)
        return SignedReceipt(view.receipt)

    async def shred_receipt(self, tenant: str, *, request_id: str = "") -> SignedReceipt:
        """Return the receipt of a destruction that has ended."""
        demand_tenant(tenant)
        path = f"/v1/tenants/{tenant}/shred/receipt"
        view = await self._transport.ask("GET", path, None, ReceiptView, request_id=request_id)
        return SignedReceipt(view.receipt)

    async def ledger(self, after: str = "", *, request_id: str = "") -> LedgerPage:
        """Return a page of the shred ledger, in order of hash behind `after`."""
        path = f"/v1/ledger?after={after}"
        view = await self._transport.ask("GET", path, None, LedgerView, request_id=request_id)
        return LedgerPage(view.public_key, _entries(view.entries))

    async def add_to_ledger(
        self, texts: Sequence[str], *, request_id: str = ""
    ) -> Sequence[LedgerEntry]:
        """Give the key service entries that it may lack; return those that were new to it."""
        message = checked(AddToLedger, reason="merge the shred ledger", entries=tuple(texts))
        view = await self._transport.ask(
            "POST", "/v1/ledger", message, Taken, request_id=request_id, seconds=LONG
        )
        return _entries(view.entries)

    @staticmethod
    def faults(entries: Iterable[LedgerEntry], trusted: Sequence[str]) -> list[str]:
        """Say what is wrong with these entries: signatures, entries that are missing or there twice."""
        found, read = list[str](), []
        for entry in entries:
            try:
                known = read_entry(entry.text, trusted)
            except ValueError as error:
                found.append(f"entry {entry.hash[:16]}: {error}")
                continue
            if (known.hash, known.destruction.tenant) != (entry.hash, entry.tenant):
                found.append(f"entry {entry.hash[:16]}: it is another one")
            read.append(known)
        return found + chain_faults(read)


def _entries(views: Sequence[EntryView]) -> tuple[LedgerEntry, ...]:
    return tuple(
        LedgerEntry(view.hash, view.tenant, view.ledger, view.index, view.text) for view in views
    )
