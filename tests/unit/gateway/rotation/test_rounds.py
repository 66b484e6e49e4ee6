"""Rounds: what is due is rotated, what is not is left, and what was missed is counted and told."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.duties.duty import Ledger
from gateway.errors import DutyFailed
from gateway.model import SYSTEM, Tenant, new_id
from gateway.ports import Rotation as Every
from gateway.rotation.due import Schedules
from gateway.rotation.keks import Rotated, Rotation, Wish
from gateway.rotation.renewal import Renewed
from gateway.rotation.roots import OwnRoot, Roots, SharedRoot
from gateway.rotation.rounds import KEYS, Rounds
from gateway.rotation.tiers import Tiers
from keyservice.wire import Altered, Denied, KeyServiceError, Unavailable
from tests.contracts.catalog.samples import put
from tests.doubles.control import MemoryControl

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = {"business": Every(10 * DAY, 20 * DAY), "standard": Every(30 * DAY)}


@dataclass
class Told:
    """The watch."""

    ends: list[tuple[str, bool]] = field(default_factory=list)

    def rotated(self, of: str, *, well: bool) -> None:
        self.ends.append((of, well))


class Rotates:
    """Stands for `rotation` and `roots`: has the control do it, and refuses on demand."""

    def __init__(self, control: MemoryControl) -> None:
        self.control = control
        self.wishes: list[tuple[str, bool]] = []
        self.refuse: KeyServiceError | None = None

    async def keks(
        self, tenants: AsyncIterator[str], wish: Wish, told: Callable[[Rotated], None]
    ) -> None:
        async for tenant in tenants:
            self.wishes.append((tenant, wish.fresh))
            if self.refuse is None and wish.fresh:
                current = self.control.tenants[tenant].current
                assert current is not None
                await self.control.rotate_kek(tenant, current.id, reason="")
            told(Rotated(Renewed(tenant), self.refuse))

    async def own(self, tenants: AsyncIterator[str], told: Callable[[OwnRoot], None]) -> None:
        async for tenant in tenants:
            if self.refuse is None:
                await self.control.rotate_root(tenant, reason="")
            told(OwnRoot(tenant, "rotated", self.refuse))

    async def shared(self) -> SharedRoot:
        if self.refuse is not None:
            raise self.refuse
        made = await self.control.rotate_shared(self.control.shared.latest, reason="")
        made = await self.control.retire_shared(made.latest, reason="")
        return SharedRoot(made.latest, made.minimum)


class Site:
    """Two tenants, one of each tier, and a clock."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self.now = START
        self.catalog = catalog
        self.control = MemoryControl(lambda: self.now)
        self.rotates, self.told = Rotates(self.control), Told()
        self.business, self.standard = sorted((new_id(), new_id()))

    async def open(self) -> None:
        for tenant, tier in ((self.business, "business"), (self.standard, "standard")):
            await self.catalog.add_tenant(Tenant(tenant, tier, START))
            self.control.add(tenant, tier=tier)
        self.control.add(SYSTEM)

    async def go(self, days: float = 0, *, only_look: bool = False) -> dict[str, object]:
        self.now += days * DAY
        rounds = Rounds(
            self.catalog,
            self.catalog.wraps,
            self.control,
            Schedules(self.catalog.wraps, EVERY, grace=DAY, clock=lambda: self.now),
            tiers=Tiers(self.catalog, self.control),
            rotation=cast("Rotation", self.rotates),
            roots=cast("Roots", self.rotates),
            shared_every=40 * DAY,
            watch=self.told,
            only_look=only_look,
        )
        return dict(await rounds.go(cast("Ledger", None)))

    @property
    def fresh(self) -> list[str]:
        return [tenant for tenant, fresh in self.rotates.wishes if fresh]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url)
    made = Site(catalog)
    await made.open()
    yield made
    await catalog.close()


async def test_each_is_rotated_when_its_time_comes_and_not_before(site: Site) -> None:
    assert (await site.go(9.9))["rotated_kek"] == 0
    assert (await site.go(0.2))["rotated_kek"] == 1
    assert site.fresh == [site.business]
    await site.go(1)
    assert site.fresh == [site.business]
    found = await site.go(10)  # the root of the one tenant too
    assert (found["rotated_kek"], found["rotated_root"]) == (1, 1)
    assert site.control.called("rotate_root") == [site.business]
    found = await site.go(20)  # all of it, and the shared root, whose 40 days are over
    assert set(site.fresh) == {site.business, site.standard, SYSTEM}
    assert found["rotated_shared-root"] == 1
    assert site.control.shared.latest == 2
    assert {found[f"overdue_{of}"] for of in KEYS} == {0}
    assert all(well for _, well in site.told.ends)


async def test_a_schedule_of_its_own_and_never_hold(site: Site) -> None:
    await site.catalog.wraps.set_schedule(site.standard, Every(kek=2 * DAY))
    await site.catalog.wraps.set_schedule(site.business, Every(timedelta(), timedelta()))
    await site.go(25)
    assert site.fresh == [site.standard]
    assert not site.control.called("rotate_root")


async def test_what_fails_is_overdue_after_the_grace_and_is_tried_again(site: Site) -> None:
    site.rotates.refuse = Denied("the policy does not let it")
    with pytest.raises(DutyFailed) as failed:
        await site.go(10)
    assert failed.value.outcome["failed_kek"] == 1
    assert {failed.value.outcome[f"overdue_{of}"] for of in KEYS} == {0}

    with pytest.raises(DutyFailed) as failed:
        await site.go(1)
    assert failed.value.outcome["overdue_kek"] == 1

    site.rotates.refuse = None
    assert (await site.go())["overdue_kek"] == 0
    assert site.told.ends == [("kek", False), ("kek", False), ("kek", True)]


async def test_where_rotation_is_off_it_only_tells(site: Site) -> None:
    found = await site.go(45, only_look=True)
    assert not site.rotates.wishes
    assert (found["overdue_kek"], found["overdue_root"], found["overdue_shared-root"]) == (3, 1, 1)


async def test_a_rotation_that_made_a_kek_and_no_more_is_gone_on_with(site: Site) -> None:
    version = await put(site.catalog, site.standard, "a")
    current = site.control.tenants[site.standard].current
    assert current is not None
    assert version.kek == current.id
    await site.control.rotate_kek(site.standard, current.id, reason="")

    await site.go(1)

    assert site.rotates.wishes == [(site.standard, False)]
    assert not site.told.ends


async def test_tenants_whose_keys_may_not_be_used_are_left_alone(site: Site) -> None:
    await site.control.suspend(site.business, reason="")
    site.control.refuse[site.standard] = Altered("no")
    await site.go(60)
    assert site.fresh == [SYSTEM]


async def test_without_the_key_service_the_round_fails_whole(site: Site) -> None:
    site.control.refuse[site.standard] = Unavailable("down")
    with pytest.raises(Unavailable):
        await site.go(60)
    assert not site.rotates.wishes


async def test_a_tier_that_a_crash_left_behind_is_noted(site: Site) -> None:
    site.control.add(site.standard, tier="business")
    await site.go(1)
    assert (await site.catalog.tenant(site.standard)).tier == "business"


async def test_a_root_that_is_not_ours_has_no_turn(site: Site) -> None:
    keys = site.control.tenants[site.business]
    await site.control.move(site.business, "business", type(keys.root)("held", "acme"), reason="")
    found = await site.go(25)
    assert not site.control.called("rotate_root")
    assert found["overdue_root"] == 0
