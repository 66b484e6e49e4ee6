"""A root key in a customer's own Vault: what the owner does is told from what happens to us."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from keyservice.errors import CannotUnwrap, SuspendedByOwner, Unavailable, WrongState
from keyservice.records import Custody, RootRef
from keyservice.vault.held import HeldRoot
from keyservice.vault.login import Refused
from tests.servers import certificates
from tests.servers.owner import Owner, customer
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.vault import SealableVault

TENANT = "00ff" * 8
OTHER = "ff00" * 8
HELD = RootRef(Custody.HELD, "customer")
KEK = b"k" * 32


@pytest.fixture(scope="module")
def owner(owners_vault: SealableVault, tmp_path_factory: pytest.TempPathFactory) -> Owner:
    """One customer for the tests that leave everything as it was."""
    return customer(owners_vault, tmp_path_factory.mktemp("customer"))


@pytest.fixture
async def held(owner: Owner) -> AsyncIterator[HeldRoot]:
    root = owner.root()
    yield root
    await root.close()


async def refused(held: HeldRoot, wrapped: str, why: str) -> None:
    for call in (held.unwrap(TENANT, HELD, wrapped), held.wrap(TENANT, HELD, KEK)):
        with pytest.raises(SuspendedByOwner, match=why) as told:
            await call
        assert str(told.value).startswith("suspended by the key's owner")


async def test_it_wraps_for_each_tenant_apart(held: HeldRoot) -> None:
    await held.create(TENANT, HELD)
    wrapped = await held.wrap(TENANT, HELD, KEK)
    assert await held.unwrap(TENANT, HELD, wrapped) == KEK
    with pytest.raises(CannotUnwrap):
        await held.unwrap(OTHER, HELD, wrapped)
    assert (await held.status()).healthy


@pytest.mark.parametrize("text", ["", "junk", "vault:v1:", "vault:v0:AAAA", "vault:v9:AAAA"])
async def test_damage_is_nobodys_suspension(held: HeldRoot, text: str) -> None:
    with pytest.raises(CannotUnwrap):
        await held.unwrap(TENANT, HELD, text)


async def test_a_right_withdrawn_and_given_back(owner: Owner, held: HeldRoot) -> None:
    wrapped = await held.wrap(TENANT, HELD, KEK)
    await asyncio.to_thread(owner.withdraw_policy)
    await refused(held, wrapped, "refuses us")
    assert not (await held.status()).healthy
    await asyncio.to_thread(owner.return_policy)
    assert await held.unwrap(TENANT, HELD, wrapped) == KEK


async def test_a_version_disabled_and_enabled(owner: Owner, held: HeldRoot) -> None:
    wrapped = await held.wrap(TENANT, HELD, KEK)
    newest = await asyncio.to_thread(owner.rotate)
    assert await held.unwrap(TENANT, HELD, wrapped) == KEK
    await asyncio.to_thread(owner.disable_below, newest)
    with pytest.raises(SuspendedByOwner, match="disabled"):
        await held.unwrap(TENANT, HELD, wrapped)
    await asyncio.to_thread(owner.disable_below, 1)
    assert await held.unwrap(TENANT, HELD, wrapped) == KEK


async def test_the_vault_sealed_and_opened(
    owner: Owner, owners_vault: SealableVault, held: HeldRoot
) -> None:
    wrapped = await held.wrap(TENANT, HELD, KEK)
    await asyncio.to_thread(owners_vault.seal)
    try:
        await refused(held, wrapped, "sealed")
        newcomer = owner.root()  # which cannot even log in
        await refused(newcomer, wrapped, "sealed")
        await newcomer.close()
    finally:
        await asyncio.to_thread(owners_vault.open)
    assert await held.unwrap(TENANT, HELD, wrapped) == KEK


async def test_the_log_in_revoked_and_given_back(
    owners_vault: SealableVault, tmp_path: Path
) -> None:
    owner = await asyncio.to_thread(customer, owners_vault, tmp_path)
    held = owner.root()
    try:
        wrapped = await held.wrap(TENANT, HELD, KEK)
        await asyncio.to_thread(owner.revoke_login)
        for _ in range(5):
            await refused(held, wrapped, "refuses us")
        await asyncio.to_thread(owner.return_login)  # other credentials are tried at once
        assert await held.unwrap(TENANT, HELD, wrapped) == KEK
    finally:
        await held.close()


@pytest.mark.parametrize("act", ["key", "mount", "login mount"])
async def test_what_was_deleted(owners_vault: SealableVault, tmp_path: Path, act: str) -> None:
    owner = await asyncio.to_thread(customer, owners_vault, tmp_path)
    held = owner.root()
    deletions: dict[str, Callable[[], object]] = {
        "key": owner.delete_key,
        "mount": lambda: owner.do("delete", f"sys/mounts/{owner.setup.transit_mount}"),
        "login mount": lambda: owner.do("delete", f"sys/auth/{owner.setup.approle_mount}"),
    }
    try:
        wrapped = await held.wrap(TENANT, HELD, KEK)
        await asyncio.to_thread(deletions[act])
        with pytest.raises(SuspendedByOwner):
            await held.unwrap(TENANT, HELD, wrapped)
        with pytest.raises(SuspendedByOwner):
            await held.wrap(TENANT, HELD, KEK)
    finally:
        await held.close()


async def test_a_network_failure_is_not_the_owners_act(owner: Owner) -> None:
    nowhere = f"https://{LOOPBACK}:{free_port()}"
    held = owner.root(address=nowhere)
    try:
        with pytest.raises(Unavailable, match="does not answer") as told:
            await held.wrap(TENANT, HELD, KEK)
        assert told.value.retry_after
        assert not isinstance(told.value, Refused)
        assert not (await held.status()).healthy
    finally:
        await held.close()


async def test_a_stranger_with_its_address_is_not_believed(owner: Owner, tmp_path: Path) -> None:
    stranger = certificates.issue(tmp_path / "stranger")
    held = owner.root(ca_file=stranger.ca)
    try:
        with pytest.raises(Unavailable, match="not trusted"):
            await held.wrap(TENANT, HELD, KEK)
    finally:
        await held.close()


async def test_a_vault_that_hangs_is_not_the_owners_act(
    owner: Owner, owners_vault: SealableVault, held: HeldRoot
) -> None:
    hasty = owner.root(timeout=0.5)
    try:
        wrapped = await held.wrap(TENANT, HELD, KEK)
        assert await in_the_end(hasty, wrapped) == KEK
        owners_vault.pause()
        try:
            with pytest.raises(Unavailable):
                await hasty.unwrap(TENANT, HELD, wrapped)
        finally:
            owners_vault.resume()
        assert await held.unwrap(TENANT, HELD, wrapped) == KEK
        assert await in_the_end(hasty, wrapped) == KEK
    finally:
        await hasty.close()


async def in_the_end(held: HeldRoot, wrapped: str) -> bytes:
    """Open it, on a machine that may be too busy for so little time."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                return await held.unwrap(TENANT, HELD, wrapped)


@pytest.mark.parametrize(
    "body", [{"type": "aes256-gcm96"}, {"type": "rsa-4096"}], ids=["not derived", "another kind"]
)
async def test_a_key_that_would_not_keep_tenants_apart_is_refused(
    owner: Owner, body: dict[str, str]
) -> None:
    name = f"other-{secrets.token_hex(4)}"
    path = f"{owner.setup.transit_mount}/keys/{name}"
    grant = f'path "{path}" {{ capabilities = ["read"] }}'

    def make() -> None:
        owner.do("post", path, body)
        owner.do("post", f"sys/policies/acl/{name}", {"policy": grant})
        owner.do("post", owner.role, {"token_policies": [owner.setup.role, name]})

    await asyncio.to_thread(make)
    held = HeldRoot(owner.session, mount=owner.setup.transit_mount, key=name)
    try:
        with pytest.raises(WrongState, match="derived"):
            await held.create(TENANT, HELD)
    finally:
        await held.close()


FORBIDDEN: tuple[tuple[str, str, dict[str, object] | None], ...] = (
    ("get", "M/export/encryption-key/K", None),
    ("get", "M/backup/K", None),
    ("delete", "M/keys/K", None),
    ("post", "M/keys/K/config", {"deletion_allowed": True}),
    ("post", "M/keys/K/rotate", {}),
    ("post", "M/keys/K/trim", {"min_available_version": 1}),
    ("post", "M/keys/other", {"type": "aes256-gcm96"}),
    ("post", "M/encrypt/other", {"plaintext": ""}),
    ("list", "M/keys", None),
    ("get", "sys/mounts", None),
    ("post", "auth/token/create", {}),
)


async def test_the_customer_grants_no_more_than_is_needed(owner: Owner, held: HeldRoot) -> None:
    await held.create(TENANT, HELD)
    session = owner.session()
    names = {"M": owner.setup.transit_mount, "K": owner.setup.transit_key}
    allowed = []
    try:
        for method, path, body in FORBIDDEN:
            real = "/".join(names.get(part, part) for part in path.split("/"))
            try:
                await session.call(method, real, body)
            except Refused:
                continue
            allowed.append(path)
    finally:
        await session.close()
    assert not allowed
