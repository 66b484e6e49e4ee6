"""The use cases of a tenant's end: order it, undo that, approve it, carry it out, and prove it.

Guarantees: an order alone destroys nothing before its time, and can be undone until it begins; only somebody
else than who ordered lets it happen at once, by identity; from the moment the destruction begins nothing
undoes it, on any instance; and its entry is in the shred ledger, on the disk, before the first key goes.
Every call may be repeated, by a client that lost the answer or after a crash. `destruction` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from keyservice.access.policy import Operation
from keyservice.desk.change import Changes, Decide
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.errors import (
    Altered,
    Denied,
    Invalid,
    KeyServiceError,
    Shredded,
    Unavailable,
    WrongState,
)
from keyservice.records import ShredOrder, TenantRecord, TenantState
from keyservice.shredding.destruction import Destroyer, now
from keyservice.shredding.ledger import Destruction, Entry, Ledger
from keyservice.shredding.receipts import moment, receipt

MAX_DAYS = 3650
PAGE = 200
PAGE_BYTES = 1 << 20
SKEW = 600_000_000  # microseconds by which the clocks of instances may differ


@dataclass(frozen=True, slots=True)
class Notice:
    """How many days an order waits: what is usual, and what one administrator may not fall short of."""

    usual: int = 30
    least: int = 7


class Shreddings:
    """One for an instance; all methods may run any number of times at once."""

    def __init__(
        self,
        *,
        changes: Changes,
        ledger: Ledger,
        destroyer: Destroyer,
        wake: Callable[[str], None],
        desk: Desk,
        notice: Notice | None = None,
        clock: Callable[[], int] = now,
    ) -> None:
        self._changes = changes
        self._ledger = ledger
        self._destroyer = destroyer
        self._wake = wake
        self._desk = desk
        self._notice = notice or Notice()
        self._clock = clock

    async def order(self, call: Call, tenant: str, days: int | None = None) -> TenantRecord:
        """Order the destruction of a tenant's keys; no key is used from now on."""
        wait = self._notice.usual if days is None else days

        async def order() -> Outcome[TenantRecord]:
            if not self._notice.least <= wait <= MAX_DAYS:
                raise Invalid(
                    f"days must be {self._notice.least} to {MAX_DAYS}: for less, a second "
                    "administrator approves the order"
                )
            return Outcome(
                "", await self._changes.make(tenant, self._ordered(call, wait), proven=False)
            )

        return await self._desk.one(call, tenant, Operation.SHRED, order)

    async def undo(self, call: Call, tenant: str) -> TenantRecord:
        """Undo an order: the tenant is what it was before."""

        async def undo() -> Outcome[TenantRecord]:
            return Outcome("", await self._changes.make(tenant, self._undone))

        return await self._desk.one(call, tenant, Operation.UNDO_SHRED, undo)

    async def approve(self, call: Call, tenant: str) -> TenantRecord:
        """Let an order be carried out at once; only somebody else than who gave it can."""

        async def approve() -> Outcome[TenantRecord]:
            return Outcome("", await self._changes.make(tenant, self._approved(call), proven=False))

        return await self._desk.one(call, tenant, Operation.APPROVE_SHRED, approve)

    async def execute(self, call: Call, tenant: str) -> dict[str, Any]:
        """Carry out an order that is due or approved, or finish that; return the signed receipt."""

        async def execute() -> list[Outcome[dict[str, Any]]]:
            entry = self._ledger.of(tenant)
            if entry is None:
                record = await self._changes.make(tenant, self._beginning(call), proven=False)
                entry = await self._ledger.add(_destruction(record))
            await self._destroyer.carry_out(entry)
            signed = self._ledger.sign(receipt(entry))
            return [Outcome(kek, signed) for kek in entry.destruction.keks] or [Outcome("", signed)]

        answers = await self._desk.answer(call, tenant, Operation.EXECUTE_SHRED, 1, execute)
        if isinstance(answers[0], KeyServiceError):
            raise answers[0]
        return answers[0]

    async def receipt(self, call: Call, tenant: str) -> dict[str, Any]:
        """Return the signed receipt of a destruction that has ended."""

        async def show() -> Outcome[dict[str, Any]]:
            entry = self._ledger.of(tenant)
            if entry is None:
                raise WrongState("tenant is not in this instance's shred ledger")
            if not await self._destroyer.finished(entry):
                raise WrongState("tenant's destruction has begun and not ended: execute it again")
            return Outcome("", self._ledger.sign(receipt(entry)))

        return await self._desk.one(call, tenant, Operation.TENANT_STATUS, show)

    async def entries(self, call: Call, after: str) -> tuple[str, Sequence[Entry]]:
        """Return a page of the ledger in order of hash behind `after`, and the key it is signed with."""

        async def read() -> Outcome[Sequence[Entry]]:
            found: list[Entry] = []
            size = 0
            for entry in self._ledger.page(after, PAGE):
                size += len(entry.text)
                if found and size > PAGE_BYTES:
                    break
                found.append(entry)
            return Outcome("", found)

        return self._ledger.public, await self._desk.one(call, "", Operation.LEDGER, read)

    async def take(self, call: Call, texts: Sequence[str]) -> Sequence[Entry]:
        """Take entries that trusted keys signed into the ledger; return those that were new."""

        async def take() -> Outcome[Sequence[Entry]]:
            new = await self._ledger.take(texts)
            for entry in new:
                self._wake(entry.destruction.tenant)
            return Outcome("", new)

        return await self._desk.one(call, "", Operation.LEDGER, take)

    def _ordered(self, call: Call, days: int) -> Decide:
        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_alive(record)
            if record.state is TenantState.SHREDDING and record.order is not None:
                if (record.order.by, record.order.reason) == (call.caller.name, call.reason):
                    return record  # asked again, after an answer that was lost
                raise WrongState(f"{_told(record.order)}: undo that to order it anew")
            at = self._clock()
            due = at + int(timedelta(days=days) / timedelta(microseconds=1))
            order = ShredOrder(
                at, due, call.caller.name, call.reason, call.caller.names, record.state
            )
            vouched = self._ledger.vouch(record.tenant, order)
            return replace(record, state=TenantState.SHREDDING, order=vouched)

        return decide

    async def _undone(self, record: TenantRecord) -> TenantRecord:
        _demand_alive(record)
        order = record.order
        if record.state is not TenantState.SHREDDING or order is None:
            return record
        if not self._ledger.vouched(record.tenant, order):
            # Nobody gave it, and what it says the tenant was must not end a suspension.
            return replace(record, state=TenantState.SUSPENDED, order=None)
        if order.began:
            raise WrongState("tenant's destruction has begun: nothing undoes it")
        return replace(record, state=order.was, order=None)

    def _beginning(self, call: Call) -> Decide:
        """Return the decision to begin, which believes a record only as far as it proves itself.

        Whoever can write to the key store must not have keys destroyed by a schedule. An order that
        was written while the root did not answer is carried out by an administrator.
        """

        async def decide(record: TenantRecord) -> TenantRecord:
            begun = await self._begun(record)
            if await self._changes.proven(record):
                return begun
            if not self._desk.allows(call, record.tenant, Operation.APPROVE_SHRED):
                raise Denied(
                    "nothing proves the order now: who may approve one has to carry it out"
                )
            return begun

        return decide

    async def _begun(self, record: TenantRecord) -> TenantRecord:
        if record.state is TenantState.SHREDDED and record.order is None:
            raise Altered  # we leave the order in the record of whom we destroyed
        order = record.order
        if order is None or record.state not in {TenantState.SHREDDING, TenantState.SHREDDED}:
            _demand_alive(record)
            raise WrongState("nobody ordered the destruction of this tenant's keys")
        self._demand_vouched(record.tenant, order)
        at = self._clock()
        # Begun here or on another instance: to be finished. But a mark alone proves no time.
        if not order.approved and min(order.began or at, at + SKEW) < order.due:
            raise WrongState(
                f"{_told(order)}: before that only with a second administrator's approval"
            )
        return record if order.began else replace(record, order=replace(order, began=at))

    def _approved(self, call: Call) -> Decide:
        async def decide(record: TenantRecord) -> TenantRecord:
            _demand_alive(record)
            order = record.order
            if record.state is not TenantState.SHREDDING or order is None:
                raise WrongState("nobody ordered the destruction of this tenant's keys")
            self._demand_vouched(record.tenant, order)
            if {order.by, *order.names} & set(call.caller.names):
                raise Denied("who ordered it cannot approve it: that is for a second administrator")
            if order.approved or order.began:
                return record
            approved = replace(order, approved=call.caller.name)
            return replace(record, order=self._ledger.vouch(record.tenant, approved))

        return decide

    def _demand_vouched(self, tenant: str, order: ShredOrder) -> None:
        if not self._ledger.vouched(tenant, order):
            raise WrongState(
                "no key service that is trusted here gave this order: undo it, and order it anew"
            )


def _demand_alive(record: TenantRecord) -> None:
    if record.state is TenantState.SHREDDED:
        raise Shredded("tenant's keys are destroyed")


def _told(order: ShredOrder) -> str:
    return f"destruction is ordered for {moment(order.due)}"


def _destruction(record: TenantRecord) -> Destruction:
    """Return what goes into the ledger; the same again, whichever instance asks."""
    order = record.order
    if order is None:
        raise Unavailable("tenant record lost its order meanwhile: try again")
    return Destruction(
        tenant=record.tenant,
        tier=record.tier,
        root=record.root,
        keks=tuple(kek.id for kek in record.keks),
        at=order.began,
        ordered=order.ordered,
        due=order.due,
        by=order.by,
        reason=order.reason,
        approved=order.approved,
    )
