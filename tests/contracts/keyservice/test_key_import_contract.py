"""What every way in for root keys promises (keyservice.ports.KeyImport)."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyservice.errors import CannotUnwrap, Invalid, UnknownTenant, WrongState
from keyservice.local.importing import LocalImport
from keyservice.local.root import LocalRoot
from keyservice.parcel import pack
from keyservice.ports import KeyImport, Root
from keyservice.records import OWN, Custody, RootRef
from keyservice.vault.importing import VaultImport
from tests.contracts.keyservice.conftest import ADAPTERS
from tests.servers.prepared import PreparedVault, prepare

pytestmark = pytest.mark.parametrize("place", ADAPTERS, indirect=True)
SUPPLIED = RootRef(Custody.OWN, "5eed5eed", imported=True)
ROTATABLE = RootRef(Custody.OWN, "0ff0ff00")
BOTH = pytest.mark.parametrize("ref", [SUPPLIED, ROTATABLE], ids=["supplied", "rotatable"])


@dataclass(frozen=True, slots=True)
class Pair:
    """A root and the way in beside it."""

    root: Root
    imports: KeyImport


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreparedVault | Path:
    """Give mounts, or a folder, that all tests share: a wrapping key takes seconds to make."""
    folder = tmp_path_factory.mktemp("import")
    if request.param == "vault":
        return prepare(request.getfixturevalue("vault"), folder, wrapping_key=True)
    return folder / "root.key"


@pytest.fixture
async def again(place: PreparedVault | Path) -> AsyncIterator[Callable[[], Pair]]:
    """Give a function that opens the adapter under test, each time anew."""
    async with AsyncExitStack() as opened:

        def pair() -> Pair:
            if isinstance(place, Path):
                return Pair(LocalRoot(place), LocalImport(place))
            session = place.session()
            opened.push_async_callback(session.close)
            mount = place.setup.transit_mount
            return Pair(place.root(session), VaultImport(session, mount=mount))

        yield pair


@pytest.fixture
def pair(again: Callable[[], Pair]) -> Pair:
    return again()


def new_tenant() -> str:
    return secrets.token_hex(16)


async def parcel(imports: KeyImport, key: bytes | None = None) -> bytes:
    return pack(await imports.wrapping_key(), key or secrets.token_bytes(32))


@BOTH
async def test_a_key_that_was_brought_wraps(
    again: Callable[[], Pair], pair: Pair, ref: RootRef
) -> None:
    tenant, other, kek = new_tenant(), new_tenant(), secrets.token_bytes(32)
    packed = await parcel(pair.imports)
    for name in (tenant, other):
        await pair.imports.bring(name, ref, packed)
    wrapped = await pair.root.wrap(tenant, ref, kek)
    assert await again().root.unwrap(tenant, ref, wrapped) == kek
    with pytest.raises(CannotUnwrap):  # the same key, and still another tenant
        await pair.root.unwrap(other, ref, wrapped)


async def test_the_key_is_the_one_that_was_brought(pair: Pair) -> None:
    """What is lost in one place is there again in another that was given the same key."""
    tenant, kek, key = new_tenant(), secrets.token_bytes(32), secrets.token_bytes(32)
    await pair.imports.bring(tenant, SUPPLIED, await parcel(pair.imports, key))
    wrapped = await pair.root.wrap(tenant, SUPPLIED, kek)
    await pair.root.destroy(tenant, SUPPLIED)
    with pytest.raises(UnknownTenant):
        await pair.root.unwrap(tenant, SUPPLIED, wrapped)
    await pair.imports.bring(tenant, SUPPLIED, await parcel(pair.imports, key))
    assert await pair.root.unwrap(tenant, SUPPLIED, wrapped) == kek


@BOTH
async def test_to_bring_it_again_changes_nothing(pair: Pair, ref: RootRef) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    packed = await parcel(pair.imports)
    await asyncio.gather(*(pair.imports.bring(tenant, ref, packed) for _ in range(4)))
    wrapped, before = await pair.root.wrap(tenant, ref, kek), await pair.root.versions(tenant, ref)
    await pair.imports.bring(tenant, ref, packed)
    await pair.imports.bring(tenant, ref, await parcel(pair.imports))
    assert await pair.root.unwrap(tenant, ref, wrapped) == kek
    assert await pair.root.versions(tenant, ref) == before


async def test_the_tenant_supplies_the_next_version(pair: Pair) -> None:
    tenant, kek = new_tenant(), secrets.token_bytes(32)
    await pair.imports.bring(tenant, SUPPLIED, await parcel(pair.imports))
    old = await pair.root.wrap(tenant, SUPPLIED, kek)
    assert await pair.imports.bring_version(tenant, SUPPLIED, await parcel(pair.imports)) == 2
    new = await pair.root.rewrap(tenant, SUPPLIED, old)
    await pair.root.retire(tenant, SUPPLIED, 2)
    assert await pair.root.unwrap(tenant, SUPPLIED, new) == kek
    with pytest.raises(CannotUnwrap):
        await pair.root.unwrap(tenant, SUPPLIED, old)


async def test_who_supplies_the_versions_lets_nobody_rotate(pair: Pair) -> None:
    tenant = new_tenant()
    await pair.imports.bring(tenant, SUPPLIED, await parcel(pair.imports))
    with pytest.raises(WrongState, match="supplies"):
        await pair.root.rotate(tenant, SUPPLIED)
    assert (await pair.root.versions(tenant, SUPPLIED)).latest == 1


@pytest.mark.parametrize("ref", [ROTATABLE, OWN], ids=["brought", "made here"])
async def test_who_lets_us_rotate_supplies_no_version(pair: Pair, ref: RootRef) -> None:
    tenant = new_tenant()
    if ref is OWN:
        await pair.root.create(tenant, ref)
    else:
        await pair.imports.bring(tenant, ref, await parcel(pair.imports))
    for _ in range(2):
        with pytest.raises(WrongState, match="rotate it"):
            await pair.imports.bring_version(tenant, ref, await parcel(pair.imports))
        await pair.root.rotate(tenant, ref)


async def test_a_version_needs_a_key_to_be_one_of(pair: Pair) -> None:
    with pytest.raises(UnknownTenant):
        await pair.imports.bring_version(new_tenant(), SUPPLIED, await parcel(pair.imports))


@pytest.mark.parametrize("fault", ["empty", "short", "rsa", "kwp", "foreign"])
async def test_a_parcel_that_does_not_open_makes_no_key(pair: Pair, fault: str) -> None:
    tenant, good = new_tenant(), await parcel(pair.imports)
    bad = {
        "empty": b"",
        "short": good[:100],
        "rsa": bytes([good[0] ^ 1]) + good[1:],
        "kwp": good[:-1] + bytes([good[-1] ^ 1]),
        "foreign": secrets.token_bytes(len(good)),
    }[fault]
    with pytest.raises(Invalid, match="pack it again"):
        await pair.imports.bring(tenant, SUPPLIED, bad)
    with pytest.raises(UnknownTenant):
        await pair.root.versions(tenant, SUPPLIED)
    await pair.imports.bring(tenant, SUPPLIED, good)
    with pytest.raises(Invalid, match="pack it again"):
        await pair.imports.bring_version(tenant, SUPPLIED, bad)


@pytest.mark.parametrize("tenant", ["", "../standard", "A" * 32, "0" * 32 + "/x"])
async def test_what_is_no_tenant_brings_nothing(pair: Pair, tenant: str) -> None:
    with pytest.raises(UnknownTenant):
        await pair.imports.bring(tenant, SUPPLIED, b"")
    with pytest.raises(UnknownTenant):
        await pair.imports.bring_version(tenant, SUPPLIED, b"")
