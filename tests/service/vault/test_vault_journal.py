"""Key journals on a real Vault: several instances, a lost token, and no log-in for a number that is taken."""

import asyncio
import secrets
from dataclasses import dataclass, field

import pytest

from keyservice.errors import Conflict
from keyservice.journal.entry import Chain
from keyservice.journal.journal import Journal
from keyservice.vault.login import AppRoleLogin, Token, TokenRequest
from keyservice.vault.session import VaultSession
from tests.servers.prepared import PreparedVault

TENANT = secrets.token_hex(16)


@dataclass
class Counted:
    """A log-in that counts, and keeps what it got."""

    login: AppRoleLogin
    tokens: list[str] = field(default_factory=list)

    def fingerprint(self) -> bytes:
        return self.login.fingerprint()

    def log_in(self, request: TokenRequest) -> Token:
        token = self.login.log_in(request)
        self.tokens.append(token.value)
        return token


async def test_a_number_that_is_taken_costs_no_log_in(
    prepared: PreparedVault, session: VaultSession
) -> None:
    await prepared.journal(session).add(TENANT, 1, "first")
    login = Counted(prepared.login)
    other = prepared.session(login)
    try:
        for _ in range(3):
            with pytest.raises(Conflict):
                await prepared.journal(other).add(TENANT, 1, "second")
        assert len(login.tokens) == 1
    finally:
        await other.close()


async def test_a_lost_token_is_replaced_and_the_line_written(prepared: PreparedVault) -> None:
    login = Counted(prepared.login)
    session = prepared.session(login)
    try:
        journal = prepared.journal(session)
        await journal.add(TENANT, 1, "first")

        def revoke() -> None:
            with prepared.server.client() as client:
                client.auth.token.revoke(login.tokens[0])

        await asyncio.to_thread(revoke)
        await journal.add(TENANT, 2, "second")
        assert await journal.read(TENANT, 2) == "second"
        assert len(login.tokens) == 2
    finally:
        await session.close()


async def test_two_instances_write_one_chain(prepared: PreparedVault) -> None:
    sessions = [prepared.session(), prepared.session()]
    stores = [prepared.journal(session) for session in sessions]
    journals = [Journal(store, instance=f"i{n}") for n, store in enumerate(stores)]
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                journal = journals[number % 2]
                draft = journal.draft(TENANT, "uses", {"n": number})
                group.create_task(journal.append(draft))
        page = await journals[0].page(TENANT, 0, 100)
        chain = Chain(TENANT)
        assert [fault for line in page.lines if (fault := chain.take(line))] == []
        assert (page.head, chain.sequence) == (20, 20)
    finally:
        for session in sessions:
            await session.close()
