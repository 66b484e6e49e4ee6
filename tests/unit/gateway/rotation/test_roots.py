"""Rotating roots over a key service in memory that knows versions and refuses what it must."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from gateway.model import SYSTEM, Tenant, new_id, now
from gateway.pacing.patience import Patience
from gateway.ports import RunState
from gateway.rotation.roots import KIND, OwnRoot, Roots
from keyservice.wire import (
    Denied,
    Kek,
    RootVersions,
    Suspended,
    TenantKeys,
    TenantRoot,
    Unavailable,
    UnknownTenant,
    WrongState,
)
from tests.doubles.rotating import each
from tests.unit.gateway.conftest import Bench


@dataclass
class Control:
    """Records of tenants, and versions of roots."""

    tenants: dict[str, TenantKeys] = field(default_factory=dict)
    versions: RootVersions = field(default_factory=lambda: RootVersions(1, 1))
    calls: list[str] = field(default_factory=list)
    fail: dict[str, Exception] = field(default_factory=dict)  # by call or tenant, once

    def add(self, custody: str = "shared", *, imported: bool = False, state: str = "active") -> str:
        """Add a tenant with one KEK."""
        tenant = new_id()
        root = TenantRoot(custody, imported=imported)
        kek = Kek(f"{tenant}/1", "current", 0, 1)
        self.tenants[tenant] = TenantKeys("standard", state, root, keks=(kek,))
        return tenant

    async def tenant(self, tenant: str, *, request_id: str = "") -> TenantKeys:
        del request_id
        if tenant not in self.tenants:
            raise UnknownTenant
        return self.tenants[tenant]

    async def rotate_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        return self._wrap("rotate_root", tenant, 2, reason + request_id)

    async def rewrap_root(self, tenant: str, *, reason: str, request_id: str = "") -> TenantKeys:
        return self._wrap("rewrap_root", tenant, self.versions.latest, reason + request_id)

    async def shared_root(self, *, request_id: str = "") -> RootVersions:
        del request_id
        return self.versions

    async def rotate_shared(
        self, expected: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        del reason, request_id
        if self.versions.latest == expected:
            self.versions = replace(self.versions, latest=expected + 1)
        self._step("rotate_shared")
        return self.versions

    async def retire_shared(
        self, minimum: int, *, reason: str, request_id: str = ""
    ) -> RootVersions:
        del reason, request_id
        self._step("retire_shared")
        behind = [
            keys
            for keys in self.tenants.values()
            if keys.root.custody == "shared" and keys.keks[0].root_version < minimum
        ]
        if behind:
            raise WrongState(f"KEKs of {len(behind)} tenants are under older versions")
        self.versions = replace(self.versions, minimum=minimum)
        return self.versions

    def _wrap(self, call: str, tenant: str, version: int, given: str) -> TenantKeys:
        assert given
        self._step(call)
        self._step(tenant)
        keys = self.tenants[tenant]
        if keys.state == "suspended":
            raise Suspended("tenant is suspended: resume it first")
        self.tenants[tenant] = replace(keys, keks=(replace(keys.keks[0], root_version=version),))
        return self.tenants[tenant]

    def _step(self, what: str) -> None:
        self.calls.append(what)
        if error := self.fail.pop(what, None):
            raise error


@pytest.fixture
async def control(bench: Bench) -> Control:
    """Give a key service that knows the catalog's tenants."""
    made = Control()
    for _ in range(6):
        await bench.catalog.add_tenant(Tenant(made.add(), "standard", now()))
    made.tenants[SYSTEM] = made.tenants.pop(made.add())
    return made


def roots(bench: Bench, control: Control) -> Roots:
    patience = Patience(0.0)
    return Roots(
        bench.catalog,
        bench.catalog.runs,
        control,
        patience=patience,
        lease=timedelta(seconds=60),
    )


def under(control: Control) -> set[int]:
    """Return the versions that KEKs are under."""
    return {kek.root_version for keys in control.tenants.values() for kek in keys.keks}


async def test_the_shared_root_is_rotated_for_all_who_share_it(
    bench: Bench, control: Control
) -> None:
    business, strange = control.add("own"), new_id()
    for tenant in (business, strange):
        await bench.catalog.add_tenant(Tenant(tenant, "business", now()))
    told: list[int] = []
    found = await roots(bench, control).shared(told.append)
    assert (found.complete, found.latest, found.minimum) == (True, 2, 2)
    assert (found.rewrapped, len(told)) == (7, 10)  # the reserved one, too
    assert control.tenants.pop(business).keks[0].root_version == 1
    assert under(control) == {2}
    (run,) = await bench.catalog.runs.history(KIND)
    assert run.state is RunState.DONE


async def test_a_tenant_that_the_catalog_does_not_know_is_in_the_way(
    bench: Bench, control: Control
) -> None:
    control.add()
    found = await roots(bench, control).shared()
    assert (found.complete, found.rewrapped) == (False, 7)
    assert "1 tenants" in found.in_use


async def test_a_suspended_tenant_is_in_the_way_and_no_version_is_made_until_it_is_not(
    bench: Bench, control: Control
) -> None:
    stuck = next(tenant for tenant in control.tenants if tenant != SYSTEM)
    control.tenants[stuck] = replace(control.tenants[stuck], state="suspended")
    for _ in range(2):
        found = await roots(bench, control).shared()
        assert (found.complete, found.latest, found.minimum) == (False, 2, 1)
        assert list(found.refused) == [stuck]
        assert "1 tenants" in found.in_use
    control.tenants[stuck] = replace(control.tenants[stuck], state="active")
    found = await roots(bench, control).shared()
    assert (found.complete, found.latest, found.minimum) == (True, 2, 2)


@pytest.mark.parametrize("at", ["rotate_shared", "rewrap_root", "retire_shared"])
async def test_what_was_interrupted_is_finished_without_another_version(
    bench: Bench, control: Control, at: str
) -> None:
    control.fail[at] = Unavailable("away")
    if at == "rewrap_root":
        assert not (await roots(bench, control).shared()).complete
    else:
        with pytest.raises(Unavailable):
            await roots(bench, control).shared()
    found = await roots(bench, control).shared()
    assert (found.complete, found.latest) == (True, 2)


async def test_whoever_may_not_retire_is_told(bench: Bench, control: Control) -> None:
    control.fail["retire_shared"] = Denied("not allowed")
    found = await roots(bench, control).shared()
    assert (found.complete, found.in_use) == (False, "not allowed")


async def test_own_roots_are_rotated_and_those_of_their_owners_followed(
    bench: Bench, control: Control
) -> None:
    own, held, imported = control.add("own"), control.add("held"), control.add("own", imported=True)
    shared = control.add()
    stuck = control.add("own", state="suspended")
    told: list[OwnRoot] = []
    asked = each([own, held, imported, shared, stuck])
    await roots(bench, control).own(asked, told.append)
    found = {each.tenant: each for each in told}
    assert {tenant: found[tenant].done for tenant in (own, held, imported, shared)} == {
        own: "rotated",
        held: "rewrapped",
        imported: "rewrapped",
        shared: "shared",
    }
    assert isinstance(found[stuck].error, Suspended)
    assert control.calls.count("rotate_root") == 2
