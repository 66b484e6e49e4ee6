"""A customer's Vault that lies: nothing rests on an answer of it that was not proven."""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from keyservice.errors import (
    Altered,
    CannotUnwrap,
    KeyServiceError,
    SuspendedByOwner,
    Unavailable,
    WrongState,
)
from keyservice.keys.roots import Roots
from keyservice.protocol.problems import to_problem
from keyservice.records import Custody, RootRef, Tier
from keyservice.vault.held import HeldRoot
from keyservice.vault.session import Answer, VaultSession
from keyservice.wire import WrappedKey
from tests.unit.keyservice.fakes import FakeRoot, FakeStore
from tests.unit.keyservice.lifecycle_bench import CALL, A, B, Instance, rotate

HELD = RootRef(Custody.HELD, "acme")
KEK = bytes(range(32))
WRAPPED = "vault:v1:AAAA"


@dataclass
class Vault:
    """A session whose every answer is made up."""

    plaintext: object = base64.b64encode(KEK).decode()
    ciphertext: object = WRAPPED
    status: int = 200
    key: Mapping[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def call(self, _method: str, path: str, *_: object, **__: object) -> Answer:
        self.asked.append(path)
        if "/keys/" in path:
            return Answer(200, {"data": self.key})
        data = {"plaintext": self.plaintext, "ciphertext": self.ciphertext}
        return Answer(self.status, {"data": data})


def root(vault: Vault) -> HeldRoot:
    return HeldRoot(lambda: cast("VaultSession", vault), mount="m", key="k")


async def test_what_does_not_come_back_is_not_relied_upon() -> None:
    honest = root(Vault())
    assert await honest.wrap(A, HELD, KEK) == WRAPPED
    liar = root(Vault(plaintext=base64.b64encode(secrets.token_bytes(32)).decode()))
    with pytest.raises(Unavailable, match="give back"):
        await liar.wrap(A, HELD, KEK)


async def test_a_rewrap_to_another_key_is_not_relied_upon() -> None:
    class Swapping(Vault):
        async def call(self, _method: str, path: str, *_: object, **__: object) -> Answer:
            if len(self.asked) == 2:
                self.plaintext = base64.b64encode(bytes(32)).decode()
            return await super().call(_method, path)

    with pytest.raises(Unavailable, match="give back"):
        await root(Swapping()).rewrap(A, HELD, WRAPPED)


@pytest.mark.parametrize(
    "text", [None, 7, "", "AAAA", "vault:v1:", "vault:v0:AAAA", "local:v1:AAAA", "vault:v1:AA\nAA"]
)
async def test_only_a_ciphertext_is_kept(text: object) -> None:
    with pytest.raises(Unavailable, match="no sense"):
        await root(Vault(ciphertext=text)).wrap(A, HELD, KEK)


@pytest.mark.parametrize("text", [None, 7, "%%", "AAA", "é", {"a": 1}])
async def test_a_plaintext_that_is_none_is_no_kek(text: object) -> None:
    with pytest.raises(Unavailable, match="no sense"):
        await root(Vault(plaintext=text)).unwrap(A, HELD, WRAPPED)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 4096])
async def test_a_key_of_another_size_is_no_kek(size: int) -> None:
    vault = Vault(plaintext=base64.b64encode(bytes(size)).decode())
    with pytest.raises(KeyServiceError):
        await root(vault).unwrap(A, HELD, WRAPPED)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ({}, CannotUnwrap),
        ({"min_decryption_version": 1}, CannotUnwrap),
        ({"min_decryption_version": 2}, SuspendedByOwner),
        ({"min_decryption_version": "2"}, CannotUnwrap),
        ({"soft_deleted": True}, SuspendedByOwner),
    ],
)
async def test_why_a_text_does_not_open(key: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        await root(Vault(status=400, key=key)).unwrap(A, HELD, WRAPPED)


@pytest.mark.parametrize("key", [{}, {"latest_version": "x"}, {"latest_version": 1}])
async def test_versions_that_make_no_sense(key: dict[str, object]) -> None:
    with pytest.raises(Unavailable, match="no sense"):
        await root(Vault(key=key)).versions(A, HELD)


async def test_a_key_that_does_not_derive_is_refused() -> None:
    with pytest.raises(WrongState, match="derived"):
        await root(Vault(key={"type": "aes256-gcm96", "derived": "yes"})).create(A, HELD)


async def test_nothing_is_connected_to_before_it_is_needed() -> None:
    def never() -> VaultSession:
        raise AssertionError("connected")

    held = HeldRoot(never, mount="m", key="k")
    with pytest.raises(CannotUnwrap):
        await held.unwrap(A, HELD, "junk")
    with pytest.raises(WrongState):
        await held.rotate(A, HELD)
    await held.close()


async def test_while_it_does_not_answer_one_call_at_a_time_waits_for_it() -> None:
    class Hanging(Vault):
        up = asyncio.Event()

        async def call(self, _method: str, path: str, *_: object, **__: object) -> Answer:
            self.asked.append(path)
            await asyncio.sleep(0)
            if not self.up.is_set():
                raise Unavailable("vault does not answer")
            return Answer(200, {"data": {"plaintext": self.plaintext}})

    vault = Hanging()
    held = root(vault)
    for _ in range(2):  # the first calls find it out, of the next ones a single one tries
        asked = await asyncio.gather(
            *(held.unwrap(A, HELD, WRAPPED) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(each, Unavailable) and each.args for each in asked)
    assert len(vault.asked) == 21
    vault.up.set()
    assert await held.unwrap(A, HELD, WRAPPED) == KEK
    assert await asyncio.gather(*(held.unwrap(A, HELD, WRAPPED) for _ in range(20))) == [KEK] * 20


class Liar(FakeRoot):
    """Opens every text to what `told` says, once that says anything."""

    told: bytes | None = None

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        return self.told or await super().unwrap(tenant, root, wrapped)


@pytest.fixture
def liar() -> Liar:
    return Liar()


@pytest.fixture
async def instance(liar: Liar) -> Instance:
    """Give an instance with a tenant whose owner's Vault has been honest so far."""
    found = Instance(Roots(FakeRoot(), {"acme": liar}, {"acme": {A}}), FakeStore())
    await found.create(A)
    await found.lifecycle.move(CALL, A, Tier.BUSINESS, HELD)
    return found


async def test_another_key_in_place_of_the_current_one_is_never_used(
    instance: Instance, liar: Liar
) -> None:
    before = await instance.key(A)
    instance.keyring.drop(A)
    liar.told = secrets.token_bytes(32)
    with pytest.raises(Altered):
        await instance.key(A)
    with pytest.raises(Altered):
        await instance.opens(A, before)
    with pytest.raises(Altered):
        await rotate(instance)
    liar.told = None
    instance.keyring.drop(A)  # as its time would
    assert await instance.opens(A, before, await instance.key(A))


async def test_an_old_key_in_place_of_the_current_one_is_never_used(
    instance: Instance, liar: Liar
) -> None:
    old = (await instance.record(A)).keks[0]
    kek = await liar.unwrap(A, HELD, old.wrapped)
    before = await instance.key(A)
    await rotate(instance)
    assert await instance.opens(A, before)
    instance.keyring.drop(A)
    liar.told = kek
    with pytest.raises(Altered):
        await instance.key(A)


async def test_another_key_in_place_of_a_retired_one_opens_nothing(
    instance: Instance, liar: Liar
) -> None:
    before = await instance.key(A)
    await rotate(instance)
    instance.keyring.drop(A)
    await instance.key(A)  # the current one is proven and kept
    liar.told = secrets.token_bytes(32)
    (found,) = (await instance.service.unwrap(CALL, A, [WrappedKey(before.wrapped, b"c")])).items
    assert isinstance(found, CannotUnwrap)


async def test_a_vault_that_is_configured_no_more_is_named(instance: Instance) -> None:
    without = Instance(Roots(FakeRoot(), {}, {}), instance.store)
    with pytest.raises(Unavailable, match="no vault named acme is configured here") as told:
        await without.key(A)
    assert to_problem(told.value).status == 503


async def test_no_other_tenants_keys_are_sent_to_an_owners_vault(liar: Liar) -> None:
    found = Instance(Roots(FakeRoot(), {"acme": liar}, {"acme": frozenset({B})}), FakeStore())
    record = await found.create(A)
    with pytest.raises(Unavailable, match="the vault named acme is for other tenants"):
        await found.lifecycle.move(CALL, A, Tier.BUSINESS, HELD)
    with pytest.raises(Unavailable, match="is for other tenants"):
        await Roots(FakeRoot(), {"acme": liar}, {"acme": frozenset({B})}).wrap(A, HELD, KEK)
    with pytest.raises(Unavailable, match="is for other tenants"):
        await Roots(FakeRoot(), {"acme": liar}, {}).create(A, HELD)  # nobody's, where none is named
    assert liar.calls == []
    assert await found.record(A) == record
    await found.create(B)
    assert (await found.lifecycle.move(CALL, B, Tier.BUSINESS, HELD)).root == HELD
