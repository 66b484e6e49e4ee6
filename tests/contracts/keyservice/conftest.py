"""The adapters that every root and key store test runs on.

A new adapter is one more name in `ADAPTERS` and one more branch in `pair`. `again` opens the same
place a second time, as another instance of the service would.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyservice.keys.roots import Roots
from keyservice.local.journal import FolderJournal
from keyservice.local.key_file import ensure as ensure_root_key
from keyservice.local.root import LocalRoot
from keyservice.local.store import FolderKeyStore
from keyservice.ports import JournalStore, KeyStore, Root
from tests.servers.owner import Owner, customer
from tests.servers.prepared import prepare
from tests.servers.vault import SealableVault

ADAPTERS = ("local", "vault")


@dataclass(frozen=True, slots=True)
class Pair:
    """A root, and the key store and the journals beside it."""

    root: Root
    store: KeyStore
    journal: JournalStore


@pytest.fixture(scope="session")
def holder(owners_vault: SealableVault, tmp_path_factory: pytest.TempPathFactory) -> Owner:
    """Give a customer who holds the root key that tests call `customer`."""
    return customer(owners_vault, tmp_path_factory.mktemp("holder"))


class Everybody:
    """The tenants of a customer who has all of them."""

    def __contains__(self, tenant: object) -> bool:
        return True


@pytest.fixture(params=ADAPTERS)
async def again(
    request: pytest.FixtureRequest, tmp_path: Path, holder: Owner
) -> AsyncIterator[Callable[[], Pair]]:
    """Give a function that opens the adapter under test, each time anew."""
    prepared = None
    if request.param == "vault":
        prepared = await asyncio.to_thread(prepare, request.getfixturevalue("vault"), tmp_path)
    else:
        await asyncio.to_thread(ensure_root_key, tmp_path / "root.key")
    async with AsyncExitStack() as opened:

        def pair() -> Pair:
            if prepared is not None:
                session = prepared.session()
                ours: Root = prepared.root(session)
                records: KeyStore = prepared.store(session)
                journal: JournalStore = prepared.journal(session)
            else:
                ours, records, journal = (
                    LocalRoot(tmp_path / "root.key"),
                    FolderKeyStore(tmp_path / "records"),
                    FolderJournal(tmp_path / "records" / "journal"),
                )
            held = {"customer": holder.root()}
            found = Pair(Roots(ours, held, {"customer": Everybody()}), records, journal)
            opened.push_async_callback(found.root.close)
            opened.push_async_callback(found.store.close)
            opened.push_async_callback(found.journal.close)
            return found

        yield pair


@pytest.fixture
def root(again: Callable[[], Pair]) -> Root:
    """Give the root under test."""
    return again().root


@pytest.fixture
def store(again: Callable[[], Pair]) -> KeyStore:
    """Give the key store under test."""
    return again().store
