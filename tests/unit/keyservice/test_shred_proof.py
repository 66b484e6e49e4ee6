"""An order to destroy keys that somebody wrote into the key store, past the key service."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyservice.access.audit import Auditor
from keyservice.access.policy import Caller, Gate, parse
from keyservice.desk.change import Changes
from keyservice.desk.desk import Call, Desk
from keyservice.errors import Altered, Denied, KeyServiceError, WrongState
from keyservice.keys.keyring import Keyring
from keyservice.records import OWN, KekState, ShredOrder, TenantRecord, TenantState
from keyservice.shredding.destruction import Destroyer
from keyservice.shredding.shredding import Shreddings
from tests.unit.keyservice.fakes import FakeSink
from tests.unit.keyservice.lifecycle_bench import METRICS, A, Site, journal
from tests.unit.keyservice.shred_site import MortalLedger, ledger_in

WORKER = Call(Caller(("dns:worker",)), "r-1", "due")
FIRST = Call(Caller(("email:first",)), "r-2", "closed")
SECOND = Call(Caller(("email:second",)), "r-3", "closed")
POLICY = """
[[rule]]
name = "worker"
effect = "allow"
callers = ["dns:worker"]
tenants = ["*"]
operations = ["execute-shred", "tenant-status"]

[[rule]]
name = "people"
effect = "allow"
callers = ["email:*"]
tenants = ["*"]
operations = ["*"]
"""
FORGED = ShredOrder(1, 2, "email:first", "closed", ("email:first",), approved="email:second")


@dataclasses.dataclass
class Ends:
    """A site, and what ends tenants on it."""

    site: Site
    ledger: MortalLedger
    shreddings: Shreddings


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    site, ledger = Site(), ledger_in(tmp_path)
    keyring = Keyring(site.root, site.store)
    desk = Desk(Gate(parse(POLICY)), Auditor(FakeSink(), timeout=5), METRICS, journal())
    shreddings = Shreddings(
        changes=Changes(site.root, site.store, keyring),
        ledger=ledger,
        destroyer=Destroyer(site.root, site.store, keyring.drop),
        wake=lambda _: None,
        desk=desk,
    )
    await site.one.create(A)
    yield Ends(site, ledger, shreddings)
    await ledger.close()


async def write(ends: Ends, record: TenantRecord) -> None:
    """Write a record past the key service, as its next version."""
    version = ends.site.store.held[A].version
    record = dataclasses.replace(record, revision=version + 1)
    await ends.site.store.write(record, version)


def buried(record: TenantRecord) -> TenantRecord:
    keks = tuple(
        dataclasses.replace(kek, wrapped="", state=KekState.DESTROYED) for kek in record.keks
    )
    return dataclasses.replace(
        record, state=TenantState.SHREDDED, keks=keks, seal="", sealed=0, order=FORGED
    )


def alive(ends: Ends) -> bool:
    """Say whether nothing was destroyed."""
    root = ends.site.root
    return ends.ledger.of(A) is None and "destroy" not in root.calls and OWN not in root.generations


@pytest.mark.parametrize("began", [0, 5])
@pytest.mark.parametrize("down", [False, True])
async def test_a_forged_order_is_not_carried_out_by_a_schedule(
    ends: Ends, *, down: bool, began: int
) -> None:
    genuine = ends.site.store.held[A].record
    order = ends.ledger.vouch(A, dataclasses.replace(FORGED, began=began))
    await write(ends, dataclasses.replace(genuine, state=TenantState.SHREDDING, order=order))
    ends.site.root.down = down
    for _ in range(2):
        with pytest.raises(Denied, match="proves"):
            await ends.shreddings.execute(WORKER, A)
    assert alive(ends)
    assert len(ends.site.store.history[A]) == 2  # what was genuine is still there


@pytest.mark.parametrize("began", [0, 5])
async def test_an_order_that_no_key_service_gave_is_carried_out_by_nobody(
    ends: Ends, began: int
) -> None:
    genuine = ends.site.store.held[A].record
    order = dataclasses.replace(FORGED, began=began)
    await write(ends, dataclasses.replace(genuine, state=TenantState.SHREDDING, order=order))
    for call in (WORKER, FIRST, SECOND):
        with pytest.raises(WrongState, match="no key service"):
            await ends.shreddings.execute(call, A)
    assert alive(ends)


async def test_an_order_over_other_keys_is_not_carried_out_by_anybody(ends: Ends) -> None:
    genuine = ends.site.store.held[A].record
    order = ends.ledger.vouch(A, FORGED)
    forged = dataclasses.replace(
        genuine, state=TenantState.SHREDDING, order=order, cache_ttl=genuine.cache_ttl + 1
    )
    await write(ends, forged)
    for call in (WORKER, FIRST):
        with pytest.raises(Altered):
            await ends.shreddings.execute(call, A)
    assert alive(ends)


@pytest.mark.parametrize(("order", "error"), [(FORGED, Denied), (None, Altered)])
async def test_a_forged_end_is_not_made_true_by_a_schedule(
    ends: Ends, order: ShredOrder | None, error: type[KeyServiceError]
) -> None:
    vouched = ends.ledger.vouch(A, order) if order else None
    forged = dataclasses.replace(buried(ends.site.store.held[A].record), order=vouched)
    await write(ends, forged)
    with pytest.raises(error):  # not Shredded: the gateway would let go of what the tenant has
        await ends.shreddings.execute(WORKER, A)
    assert alive(ends)


async def test_a_genuine_order_is_carried_out_by_a_schedule(ends: Ends) -> None:
    await ends.shreddings.order(FIRST, A)
    await ends.shreddings.approve(SECOND, A)
    await ends.shreddings.execute(WORKER, A)
    assert ends.ledger.of(A) is not None
    assert "destroy" in ends.site.root.calls


async def test_an_order_given_while_the_root_was_away_waits_for_an_administrator(
    ends: Ends,
) -> None:
    ends.site.root.down = True
    await ends.shreddings.order(FIRST, A)
    await ends.shreddings.approve(SECOND, A)
    with pytest.raises(Denied):
        await ends.shreddings.execute(WORKER, A)
    ends.site.root.down = False
    with pytest.raises(Denied):
        await ends.shreddings.execute(WORKER, A)
    await ends.shreddings.execute(SECOND, A)
    assert ends.ledger.of(A) is not None
    assert await ends.shreddings.execute(WORKER, A) is not None  # the ledger says so now


async def test_approved_while_the_root_is_away_it_can_still_be_undone_or_carried_out(
    ends: Ends,
) -> None:
    key = await ends.site.one.key(A)
    for end in ("undone", "carried out"):
        await ends.shreddings.order(FIRST, A)
        ends.site.root.down = True
        await ends.shreddings.approve(SECOND, A)
        ends.site.root.down = False
        if end == "undone":
            await ends.shreddings.undo(FIRST, A)
            ends.site.one.keyring.drop(A)
            assert await ends.site.one.opens(A, key)
    await ends.shreddings.execute(SECOND, A)
    assert ends.ledger.tenants() == [A]
