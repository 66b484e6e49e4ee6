"""Whatever is swapped between two tenants, neither's key ever opens what is the other's.

Rows of the catalog, objects in the stores, records in Vault's key store: each is swapped on real servers
by somebody who may write to all of one of them, and knows the format.
"""

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError

from envelope.envelope import decode
from gateway.keys.data_keys import wrapped_key
from keyservice.wire import CannotUnwrap, WrappedKey
from tests.faults.rotation.attachments import content, filled, get, opened
from tests.servers.prepared import prepare
from tests.servers.vault import Vault
from tests.stack.client import Client
from tests.stack.stack import Stack

TTL = 0.2
TIERS = ("business", "standard", "business")


@pytest.fixture(scope="module")
def site(vault: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack whose caches forget at once; the module shares it."""
    home = tmp_path_factory.mktemp("swapped")
    stack = Stack(
        home / "stack",
        targets={"primary": home / "primary", "east": home / "east"},
        catalog=f"sqlite:///{home / 'catalog.db'}",
        vault=prepare(vault, home),
        forget=TTL,
        extra={"keyservice": {"cache_ttl": TTL}, "repair": {"enabled": False}},
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
async def client(site: Stack) -> AsyncIterator[Client]:
    token = await asyncio.to_thread(site.admin_token)
    async with Client(site.url, token) as application:
        yield application


async def tenants(client: Client) -> dict[str, list[str]]:
    """Make a tenant of each tier, with attachments of the same names."""
    return dict([await filled(client, tier, 4) for tier in TIERS])


async def released(client: Client, tenant: str, name: str) -> tuple[int, bytes]:
    """Return a status, and every byte of content that was given away with it."""
    path = f"/v1/tenants/{tenant}/attachments/{name}"
    body = bytearray()
    async with client.request("GET", path) as answer:
        try:
            async for piece in answer.content.iter_any():
                body += piece
        except ClientError:  # it was cut off, which is right
            assert answer.status == 200
        return answer.status, bytes(body) if answer.status == 200 else b""


async def unlike(client: Client, tenant: str, names: list[str]) -> None:
    """Check that nothing is released."""
    await asyncio.sleep(2 * TTL)
    for status, body in await asyncio.gather(*(released(client, tenant, each) for each in names)):
        assert body == b"", status


async def like(client: Client, tenant: str, names: list[str]) -> None:
    """Check that everything is what it was."""
    await asyncio.sleep(2 * TTL)
    for name in names:
        assert await get(client, tenant, name) == content(name)


async def test_no_tenant_unwraps_a_key_of_another(client: Client, site: Stack) -> None:
    made = await tenants(client)
    async with opened(site) as core:
        keys: dict[str, WrappedKey] = {}
        for tenant, names in made.items():
            found = await core.catalog.find(tenant, names[0])
            keys[tenant] = wrapped_key(decode(found.version.envelope))
        for asked, owner in itertools.permutations(made, 2):
            theirs, ours = keys[owner], keys[asked]
            tries = [
                theirs,
                WrappedKey(theirs.wrapped, ours.context),
                WrappedKey(ours.wrapped, theirs.context),
                # Their message under the name of our KEK, and the other way round.
                WrappedKey(_named(ours, theirs), theirs.context),
                WrappedKey(_named(ours, theirs), ours.context),
            ]
            answers = await core.keys.unwrap(asked, tries, reason="test", request_id="t")
            assert [type(answer) for answer in answers] == [CannotUnwrap] * len(tries)
            rewrapped = await core.keys.rewrap(asked, tries, reason="test", request_id="t")
            assert [type(answer) for answer in rewrapped] == [CannotUnwrap] * len(tries)


def _named(namer: WrappedKey, sealed: WrappedKey) -> bytes:
    """Put the KEK id of one wrapped key before the message of another."""
    size = 2 + int.from_bytes(namer.wrapped[:2], "big")
    other = 2 + int.from_bytes(sealed.wrapped[:2], "big")
    return namer.wrapped[:size] + sealed.wrapped[other:]


async def _rows(site: Stack, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
    def write() -> None:
        path = site.catalog.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=60)) as database, database:
            for statement, values in statements:
                assert database.execute(statement, values).rowcount

    await asyncio.to_thread(write)


@pytest.mark.parametrize(
    "columns", [("envelope",), ("envelope", "inline", "kek"), ("blob",)], ids=str
)
async def test_rows_of_versions_are_swapped(
    client: Client, site: Stack, columns: tuple[str, ...]
) -> None:
    made = await tenants(client)
    (one, names), (other, _), *_rest = made.items()
    async with opened(site) as core:
        pairs = [
            (
                (await core.catalog.find(one, name)).version.id,
                (await core.catalog.find(other, name)).version.id,
            )
            for name in names
        ]

    def swap() -> list[tuple[str, tuple[Any, ...]]]:
        path = site.catalog.removeprefix("sqlite:///")
        statements: list[tuple[str, tuple[Any, ...]]] = []
        with closing(sqlite3.connect(path, timeout=60)) as database:
            query = f"SELECT {', '.join(columns)} FROM versions WHERE id = ?"
            rows = {v: database.execute(query, (v,)).fetchone() for pair in pairs for v in pair}
        sets = ", ".join(f"{column} = ?" for column in columns)
        update = f"UPDATE versions SET {sets} WHERE id = ?"
        if columns == ("blob",):  # which are unique
            statements += [(update, (f"x{v}"[:32], v)) for pair in pairs for v in pair]
        for here, there in pairs:
            statements += [(update, (*rows[there], here)), (update, (*rows[here], there))]
        return statements

    await _rows(site, await asyncio.to_thread(swap))
    for tenant in (one, other):
        if columns == ("blob",):  # what travels in the envelope does not need it
            named = [name for name in names if len(content(name)) > 1000]
            await unlike(client, tenant, named)
        else:
            await unlike(client, tenant, names)
    await _rows(site, await asyncio.to_thread(swap))
    for tenant in (one, other):
        await like(client, tenant, names)


async def test_attachments_change_hands_in_the_catalog(client: Client, site: Stack) -> None:
    made = await tenants(client)
    (one, names), (other, _), *_rest = made.items()
    nobody = "f" * 32

    update = "UPDATE attachments SET tenant = ? WHERE tenant = ?"
    hands = [(update, (nobody, one)), (update, (one, other)), (update, (other, nobody))]
    await _rows(site, hands)
    for tenant in (one, other):
        await unlike(client, tenant, names)
    await _rows(site, hands)
    for tenant in (one, other):
        await like(client, tenant, names)


@pytest.mark.parametrize("what", ["body", "envelope", "both"])
async def test_objects_are_swapped_in_every_store(client: Client, site: Stack, what: str) -> None:
    made = await tenants(client)
    (one, names), (other, _), *_rest = made.items()
    large = [name for name in names if len(content(name)) > 100_000]
    async with opened(site) as core:
        pairs = [
            (
                (await core.catalog.find(one, name)).version.blob,
                (await core.catalog.find(other, name)).version.blob,
            )
            for name in large
        ]

    def swap() -> None:
        for folder in site.targets.values():
            assert isinstance(folder, Path)
            for (here, there), kind in itertools.product(pairs, ("body", "envelope")):
                if what in {kind, "both"}:
                    first = folder / "t" / one / here / kind
                    second = folder / "t" / other / there / kind
                    spare = folder / "spare"
                    shutil.move(first, spare)
                    shutil.move(second, first)
                    shutil.move(spare, second)

    await asyncio.to_thread(swap)
    for tenant in (one, other):
        if what == "envelope":  # the catalog's is read
            await like(client, tenant, large)
        else:
            await unlike(client, tenant, large)
    await asyncio.to_thread(swap)
    for tenant in (one, other):
        await like(client, tenant, names)


def _as_it_is(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    del ours
    return theirs


def _under_our_name(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return theirs | {"tenant": ours["tenant"], "revision": ours["revision"] + 1}


def _their_keks(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return ours | {"keks": theirs["keks"], "revision": ours["revision"] + 1}


def _our_names_on_theirs(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    keks = [
        there | {"id": here["id"]} for here, there in zip(ours["keks"], theirs["keks"], strict=True)
    ]
    return ours | {"keks": keks, "revision": ours["revision"] + 1}


@pytest.mark.parametrize("forge", [_as_it_is, _under_our_name, _their_keks, _our_names_on_theirs])
@pytest.mark.parametrize("places", [(0, 1), (0, 2)], ids=str)
async def test_records_are_swapped_in_vault(
    client: Client,
    site: Stack,
    forge: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    places: tuple[int, int],
) -> None:
    made = await tenants(client)
    one, other = (list(made)[place] for place in places)
    names = made[one]
    prepared = site.vault
    assert prepared is not None
    mount = prepared.setup.kv_mount

    def write() -> None:
        with prepared.server.client() as vault:
            records = vault.secrets.kv.v2
            ours, theirs = (
                records.read_secret_version(
                    path=f"tenants/{tenant}", mount_point=mount, raise_on_deleted_version=True
                )["data"]
                for tenant in (one, other)
            )
            records.create_or_update_secret(
                path=f"tenants/{one}",
                secret=forge(ours["data"], theirs["data"]),
                cas=ours["metadata"]["version"],
                mount_point=mount,
            )

    await asyncio.to_thread(write)

    async def refused() -> None:
        path = f"/v1/tenants/{one}/attachments/new"
        async with client.request("PUT", path, data=b"never under a key of theirs") as answer:
            assert answer.status == 503

    await asyncio.sleep(2 * TTL)
    await asyncio.gather(unlike(client, one, names), refused())
    await like(client, other, names)
