"""A prepared Vault, and a session as the key service, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyservice.vault.root import VaultRoot
from keyservice.vault.session import VaultSession
from keyservice.vault.store import VaultKeyStore
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import Vault


@pytest.fixture
def prepared(vault: Vault, tmp_path: Path) -> PreparedVault:
    return prepare(vault, tmp_path)


@pytest.fixture
async def session(prepared: PreparedVault) -> AsyncIterator[VaultSession]:
    session = prepared.session()
    yield session
    await session.close()


@pytest.fixture
def root(prepared: PreparedVault, session: VaultSession) -> VaultRoot:
    return prepared.root(session)


@pytest.fixture
def store(prepared: PreparedVault, session: VaultSession) -> VaultKeyStore:
    return prepared.store(session)
