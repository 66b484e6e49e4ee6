"""A key service on fakes that keeps a journal."""

import dataclasses
import datetime as dt
from typing import Any

from keyservice.access.audit import Auditor
from keyservice.access.policy import Caller, Gate, Operation, allow_all
from keyservice.desk.desk import Call, Desk, Outcome
from keyservice.desk.service import KeyService
from keyservice.journal.entry import REMOVED, Chain, Fault
from keyservice.journal.journal import Journal
from keyservice.journal.journalled import JournalledRoot, JournalledStore
from keyservice.keys.keyring import Keyring
from keyservice.metrics import Metrics
from keyservice.records import (
    TenantRecord,
    Tier,
)
from tests.unit.keyservice.fakes import (
    FakeJournal,
    FakeRoot,
    FakeSink,
    FakeStore,
    tenant_id,
)

A, B = tenant_id("a"), tenant_id("b")
CALL = Call(Caller(("dns:g",)), "request-1", "because")


class Bench:
    """A key service on fakes, with a journal, and a clock that ticks a second a look."""

    def __init__(self, lines: FakeJournal | None = None) -> None:
        self.lines = lines or FakeJournal()
        self.seconds = 0
        self.journal = self.instance("here")
        self.inner, self.kept, self.sink = FakeRoot(), FakeStore(), FakeSink()
        self.root = JournalledRoot(self.inner, self.journal)
        self.store = JournalledStore(self.kept, self.journal)
        self.desk = Desk(
            Gate(allow_all("dns:g")), Auditor(self.sink, timeout=0.2), Metrics(), self.journal
        )
        self.service = KeyService(
            root=self.root,
            store=self.store,
            keyring=Keyring(self.root, self.store),
            desk=self.desk,
            cache_ttl={Tier.STANDARD: 300, Tier.BUSINESS: 60},
        )

    def instance(self, name: str) -> Journal:
        return Journal(self.lines, instance=name, clock=self.clock)

    def clock(self) -> dt.datetime:
        self.seconds += 1
        return dt.datetime(2030, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)

    async def change(self, record: TenantRecord, **fields: Any) -> None:
        """Write a record with other fields, as a use case would."""

        async def work() -> Outcome[None]:
            held = await self.store.read(record.tenant)
            await self.store.write(dataclasses.replace(held.record, **fields), held.version)
            return Outcome("", None)

        await self.desk.one(CALL, record.tenant, Operation.SETTINGS, work)

    def kinds(self, tenant: str = A) -> list[str]:
        return [entry["kind"] for entry in self.lines.of(tenant)]


def faults(lines: FakeJournal, tenant: str = A, *, head: int = 0) -> list[Fault]:
    chain = Chain(tenant)
    last = head or max(number for place, number in lines.lines if place == tenant)
    found = [
        chain.take(lines.lines.get((tenant, number), REMOVED)) for number in range(1, last + 1)
    ]
    return [fault for fault in found if fault is not None]
