"""A key service that knows orders and keeps a true shred ledger, without keys and without a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyservice.records import SHARED, Tier
from keyservice.shredding.ledger import Destruction, Entry
from keyservice.shredding.ledger_file import LedgerFile
from keyservice.shredding.receipts import receipt
from keyservice.wire import (
    LedgerEntry,
    LedgerPage,
    ShredOrder,
    SignedReceipt,
    TenantKeys,
    Unavailable,
    UnknownTenant,
    WrongState,
)

AT_ONCE = 3  # entries in a page


@dataclass
class LedgerKeys:
    """Satisfies `gateway.shredding.keys.ShredKeys`. `orders`: of its tenants; `time`: its clock."""

    ledger_file: LedgerFile
    orders: dict[str, ShredOrder | None] = field(default_factory=dict)
    time: int = 0
    down: bool = False
    executed: list[str] = field(default_factory=list)

    async def kill(self, tenant: str, at: int = 1) -> Entry:
        """Put a tenant into the ledger."""
        told = Destruction(
            tenant, Tier.STANDARD, SHARED, (f"{tenant}/1",), at, 0, 0, "dns:a", "end"
        )
        return await self.ledger_file.add(told)

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        del request_id
        self._up()
        if self.ledger_file.of(tenant) is not None:
            return TenantKeys("standard", "shredded")
        if tenant not in self.orders:
            raise UnknownTenant("no such tenant")
        order = self.orders[tenant]
        return TenantKeys("standard", "shredding" if order else "active", order=order)

    async def execute_shred(
        self, tenant: str, *, reason: str, request_id: str = ""
    ) -> SignedReceipt:
        del reason, request_id
        self._up()
        self.executed.append(tenant)
        order = self.orders.get(tenant)
        if self.ledger_file.of(tenant) is None and (order is None or order.due > self.time):
            raise WrongState("nothing is due")
        return SignedReceipt(self.ledger_file.sign(receipt(await self.kill(tenant))))

    async def ledger(self, after: str = "", *, request_id: str = "") -> LedgerPage:
        del request_id
        self._up()
        found = self.ledger_file.page(after, AT_ONCE)
        return LedgerPage(self.ledger_file.public, tuple(map(_shown, found)))

    async def add_to_ledger(
        self, texts: Sequence[str], *, request_id: str = ""
    ) -> Sequence[LedgerEntry]:
        del request_id
        self._up()
        return [_shown(entry) for entry in await self.ledger_file.take(texts)]

    def _up(self) -> None:
        if self.down:
            raise Unavailable("the key service is down")


def ledger_keys(folder: Path, *trusted: str) -> LedgerKeys:
    """Open the ledger of a folder."""
    return LedgerKeys(LedgerFile(folder / "shred.ledger", folder / "shred.key", trusted))


def _shown(entry: Entry) -> LedgerEntry:
    told = entry.destruction
    return LedgerEntry(entry.hash, told.tenant, entry.ledger, entry.index, entry.text)
