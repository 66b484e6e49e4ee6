"""A root key of one's own, over the wire: on a local root and on a real Vault."""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyservice.client.client import KeyServiceClient
from keyservice.errors import Denied, Invalid, WrongState
from keyservice.parcel import pack
from keyservice.wire import DataKey, TenantRoot, WrappedKey
from keyservice.wiring.app import running
from tests.servers.prepared import PreparedVault, prepare
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_on_vault import vault_root

CALL = {"reason": "test", "request_id": "r-1"}
WHY = "contract 12"


@dataclass(frozen=True, slots=True)
class Place:
    """A running key service and a client of it."""

    site: Site
    client: KeyServiceClient


@pytest.fixture(scope="module", params=["local", "vault"])
def mounts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreparedVault | None:
    """Give one set of mounts to all tests here: each would make a wrapping key, which takes seconds."""
    if request.param == "local":
        return None
    folder = tmp_path_factory.mktemp("mounts")
    return prepare(request.getfixturevalue("vault"), folder, wrapping_key=True)


@pytest.fixture
async def place(mounts: PreparedVault | None, site: Site) -> AsyncIterator[Place]:
    root: dict[str, Any] = {} if mounts is None else {"root": vault_root(mounts)}
    settings = site.settings(cache={"business_ttl": 0.0}, **root)
    async with running(settings) as service, site.client(service.url, cache_size=0) as client:
        yield Place(site, client)


async def made(client: KeyServiceClient, tenant: str) -> DataKey:
    (key,) = await client.data_keys(tenant, [b"c"], **CALL)
    assert isinstance(key, DataKey)
    return key


async def opens(client: KeyServiceClient, tenant: str, *keys: DataKey) -> bool:
    wrapped = [WrappedKey(key.wrapped, b"c") for key in keys]
    return await client.unwrap(tenant, wrapped, **CALL) == [key.dek for key in keys]


async def test_a_tenant_supplies_its_root_and_the_next_version(place: Place, tenant: str) -> None:
    client, control = place.client, place.client.control
    await client.create_tenant(tenant, tier="business")
    before = await made(client, tenant)
    found = await control.import_root(tenant, secrets.token_bytes(32), reason=WHY)
    assert (found.root.custody, found.root.imported, found.tier) == ("own", True, "business")
    assert len(found.root.name) == 8
    assert [root.name for root in found.left] == [""]
    between = await made(client, tenant)
    assert await opens(client, tenant, before, between)
    with pytest.raises(WrongState, match="import the next one"):
        await control.rotate_root(tenant, reason=WHY)
    newer = await control.import_root(tenant, secrets.token_bytes(32), new_version=True, reason=WHY)
    assert newer.root == found.root
    assert {kek.root_version for kek in newer.keks} == {2}
    versions = await control.root(tenant)
    assert (versions.latest, versions.minimum) == (2, 2)
    assert await opens(client, tenant, before, between, await made(client, tenant))


async def test_who_lets_us_rotate_supplies_no_version(place: Place, tenant: str) -> None:
    client, control = place.client, place.client.control
    await client.create_tenant(tenant, tier="business")
    before = await made(client, tenant)
    found = await control.import_root(tenant, secrets.token_bytes(32), rotatable=True, reason=WHY)
    assert not found.root.imported
    for _ in range(2):
        with pytest.raises(WrongState, match="rotate it, or import a new root"):
            await control.import_root(tenant, secrets.token_bytes(32), new_version=True, reason=WHY)
        rotated = await control.rotate_root(tenant, reason=WHY)
        assert rotated.root == found.root
    assert await opens(client, tenant, before)
    # It may give up the one and take up the other, with a root that is new.
    supplied = await control.import_root(tenant, secrets.token_bytes(32), reason=WHY)
    assert supplied.root.imported
    assert await opens(client, tenant, before)


async def test_a_parcel_may_be_sent_again(place: Place, tenant: str) -> None:
    client, control = place.client, place.client.control
    await client.create_tenant(tenant, tier="business")
    before = await made(client, tenant)
    packed = pack(await control.wrapping_key(), secrets.token_bytes(32))
    first = await control.import_parcel(tenant, packed, reason=WHY)
    assert await control.import_parcel(tenant, packed, reason=WHY) == first
    with pytest.raises(WrongState, match="other terms"):
        await control.import_parcel(tenant, packed, rotatable=True, reason=WHY)
    await control.move(tenant, "business", TenantRoot("own", secrets.token_hex(4)), reason=WHY)
    with pytest.raises(WrongState, match="pack the key again"):
        await control.import_parcel(tenant, packed, reason=WHY)
    assert await opens(client, tenant, before)


async def test_what_cannot_be_is_refused_and_changes_nothing(place: Place, tenant: str) -> None:
    client, control = place.client, place.client.control
    await client.create_tenant(tenant)
    key = secrets.token_bytes(32)
    with pytest.raises(WrongState, match="move it to business"):
        await control.import_root(tenant, key, reason=WHY)
    with pytest.raises(WrongState, match="made here"):
        await control.import_root(tenant, key, new_version=True, reason=WHY)
    with pytest.raises(Invalid, match="not rotatable"):
        await control.import_root(tenant, key, new_version=True, rotatable=True, reason=WHY)
    with pytest.raises(Invalid, match="exactly 32 bytes"):
        await control.import_root(tenant, key[:16], reason=WHY)
    await control.move(tenant, "business", TenantRoot("own"), reason=WHY)
    before = await client.tenant(tenant)
    with pytest.raises(Invalid, match="does not open"):
        await control.import_parcel(tenant, secrets.token_bytes(552), reason=WHY)
    assert await client.tenant(tenant) == before
    await control.suspend(tenant, reason=WHY)
    with pytest.raises(Exception, match="suspended"):
        await control.import_root(tenant, key, reason=WHY)


async def test_the_key_shows_nowhere(
    place: Place, tenant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    key = secrets.token_bytes(32)
    await place.client.create_tenant(tenant, tier="business")
    await place.client.control.import_root(tenant, key, reason=WHY)
    shown = capfd.readouterr()
    kept = await asyncio.to_thread(contents, place.site.folder)
    kept += (shown.out + shown.err).encode()
    assert b"import-root" in kept
    for form in (key, key.hex().encode(), base64.b64encode(key)):
        assert form not in kept


def contents(folder: Path) -> bytes:
    """Return all that is kept there, but for the root keys of a local root."""
    kept = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # written anew while this looks
            kept += [path.read_bytes()] if path.is_file() and path.suffix != ".key" else []
    return b"\n".join(kept)


async def test_it_is_on_the_journal_and_needs_its_own_right(site: Site, tenant: str) -> None:
    rule = (site.folder / "policy.toml").read_text()
    refusal = rule.replace('name = "gateways"\neffect = "allow"', 'name = "no"\neffect = "deny"')
    denied = rule + refusal.replace('["*"]\n', '["import-root"]\n', 2).replace(
        'tenants = ["import-root"]', 'tenants = ["*"]'
    )
    assert denied.count('"import-root"') == 1
    async with (
        running(site.settings()) as service,
        site.client(service.url) as client,
    ):
        await client.create_tenant(tenant, tier="business")
        await client.control.import_root(tenant, secrets.token_bytes(32), reason=WHY)
        journal = await client.control.journal(tenant)
        assert any("root-imported" in line for line in journal.lines)
    (site.folder / "policy.toml").write_text(denied)
    async with (
        running(site.tls_settings()) as service,
        site.tls_client(service.url) as client,
    ):
        with pytest.raises(Denied):
            await client.control.wrapping_key()
