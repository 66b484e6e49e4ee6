"""Tokens: one refusal for every reason, believed for a moment, never shown again."""

from datetime import timedelta

import pytest

from gateway.attachments.tokens import Tokens
from gateway.errors import CatalogUnavailable, Unauthorized
from gateway.model import Right, Token
from tests.unit.gateway.conftest import Bench


class Clock:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


async def test_a_token_that_was_revoked_elsewhere_is_refused_after_a_moment(bench: Bench) -> None:
    clock = Clock()
    here, elsewhere = Tokens(bench.catalog, fresh=5, clock=clock), Tokens(bench.catalog)
    grant = await here.create(bench.tenant, [Right.READ], lifetime=None)
    await here.check(grant.text)

    await elsewhere.revoke(grant.token.id, bench.tenant)

    clock.now = 4.9
    await here.check(grant.text)
    clock.now = 5.0
    with pytest.raises(Unauthorized):
        await here.check(grant.text)


async def test_a_token_that_was_revoked_here_is_refused_at_once(bench: Bench) -> None:
    tokens = Tokens(bench.catalog)
    grant = await tokens.create(bench.tenant, [Right.READ], lifetime=None)
    await tokens.check(grant.text)

    await tokens.revoke(grant.token.id, bench.tenant)

    with pytest.raises(Unauthorized):
        await tokens.check(grant.text)


async def test_a_token_that_is_read_while_it_is_revoked_is_not_believed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, read = Tokens(bench.catalog), bench.catalog.token
    grant = await tokens.create(bench.tenant, [Right.READ], lifetime=None)

    async def slowly(token: str) -> Token:
        found = await read(token)
        with monkeypatch.context() as patch:
            patch.setattr(bench.catalog, "token", read)
            await tokens.revoke(token, bench.tenant)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(bench.catalog, "token", slowly)
        await tokens.check(grant.text)  # which began before

    with pytest.raises(Unauthorized):
        await tokens.check(grant.text)


async def test_a_token_whose_revocation_was_not_answered_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, remove = Tokens(bench.catalog), bench.catalog.remove_token
    grant = await tokens.create(bench.tenant, [Right.READ], lifetime=None)
    await tokens.check(grant.text)

    async def lost(token: str) -> None:
        await remove(token)
        raise CatalogUnavailable("gone")

    monkeypatch.setattr(bench.catalog, "remove_token", lost)
    with pytest.raises(CatalogUnavailable):
        await tokens.revoke(grant.token.id, bench.tenant)
    with pytest.raises(Unauthorized):
        await tokens.check(grant.text)


async def test_a_token_that_is_believed_expires_all_the_same(bench: Bench) -> None:
    tokens = Tokens(bench.catalog, fresh=60)
    grant = await tokens.create(bench.tenant, [Right.READ], lifetime=timedelta(seconds=-1))

    with pytest.raises(Unauthorized):
        await tokens.check(grant.text)


async def test_a_believed_token_does_not_make_another_secret_right(bench: Bench) -> None:
    tokens = Tokens(bench.catalog)
    grant = await tokens.create(bench.tenant, [Right.READ], lifetime=None)
    await tokens.check(grant.text)

    with pytest.raises(Unauthorized):
        await tokens.check(grant.text[:-1] + ("A" if grant.text[-1] != "A" else "B"))
    assert grant.text.split("_", 2)[2] not in repr(grant)
