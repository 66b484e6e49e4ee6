"""When the key service asks Vault for a token, renews it, and gives it up; time is a number."""

import itertools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keyservice.errors import Unavailable
from keyservice.vault.login import (
    HOLD,
    LONGEST_HOLD,
    AppRoleLogin,
    KubernetesLogin,
    Login,
    Refused,
    Tokens,
)

TTL = 90.0


@dataclass
class FakeVault:
    """Grants numbered tokens and keeps what it was asked."""

    now: float = 0.0
    renewed_ttl: float = TTL
    failure: Unavailable | None = None
    asked: list[tuple[str, str, Mapping[str, Any] | None, str]] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str
    ) -> Mapping[str, Any]:
        self.asked.append((method, path, body, token))
        if self.failure is not None:
            raise self.failure
        value, ttl = f"s.token-{len(self.asked)}", TTL
        if path == "auth/token/renew-self":
            value, ttl = token, self.renewed_ttl
        return {"auth": {"client_token": value, "lease_duration": ttl, "renewable": True}}

    @property
    def paths(self) -> list[str]:
        return [path.rpartition("/")[2] for _, path, _, _ in self.asked]


@pytest.fixture
def vault() -> FakeVault:
    return FakeVault()


@pytest.fixture
def approle(tmp_path: Path) -> AppRoleLogin:
    (tmp_path / "role").write_text("the-role\n")
    (tmp_path / "secret").write_text("the-secret\n")
    return AppRoleLogin(tmp_path / "role", tmp_path / "secret")


@pytest.fixture
def tokens(vault: FakeVault, approle: AppRoleLogin) -> Tokens:
    return Tokens(approle, vault.request, clock=lambda: vault.now)


def test_one_log_in_serves_until_two_thirds(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    vault.now = TTL * 2 / 3 - 0.01
    assert tokens.current() == first
    assert vault.paths == ["login"]


def test_a_token_is_renewed_at_two_thirds(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    vault.now = TTL * 2 / 3
    assert tokens.current() == first
    assert vault.asked[-1][3] == first
    vault.now = TTL  # past the first life, within the second
    assert tokens.current() == first
    assert vault.paths == ["login", "renew-self"]


def test_a_renewal_that_wins_little_becomes_a_log_in(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    vault.renewed_ttl = TTL / 3
    vault.now = TTL * 2 / 3
    assert tokens.current() != first
    assert vault.paths == ["login", "renew-self", "login"]


def test_an_expired_token_is_replaced_without_asking_it(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    vault.now = TTL
    assert tokens.current() != first
    assert vault.paths == ["login", "login"]


def test_a_valid_token_survives_a_failed_renewal(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    vault.now = TTL * 2 / 3
    vault.failure = Unavailable("vault is sealed")
    assert tokens.current() == first
    assert tokens.current() == first
    assert vault.paths == ["login", "renew-self"]  # not asked at every call
    vault.now = TTL * 5 / 6
    vault.failure = None
    assert tokens.current() == first
    assert vault.paths[-1] == "renew-self"


def test_a_refused_renewal_becomes_a_log_in(vault: FakeVault, approle: AppRoleLogin) -> None:
    def request(
        method: str, path: str, body: Mapping[str, Any] | None, token: str
    ) -> Mapping[str, Any]:
        if path.endswith("renew-self"):
            raise Refused("no")
        return vault.request(method, path, body, token)

    tokens = Tokens(approle, request, clock=lambda: vault.now)
    first = tokens.current()
    vault.now = TTL * 2 / 3
    assert tokens.current() != first


def test_a_lost_token_is_replaced_once(vault: FakeVault, tokens: Tokens) -> None:
    first = tokens.current()
    tokens.lost(first)
    second = tokens.current()
    tokens.lost(first)  # a slower thread, which used the first one too
    assert tokens.current() == second
    assert vault.paths == ["login", "login"]


def test_a_refused_log_in_is_not_repeated_at_once(vault: FakeVault, tokens: Tokens) -> None:
    vault.failure = Refused("no")
    for _ in range(5):
        with pytest.raises(Refused) as refused:
            tokens.current()
        assert refused.value.retry_after
    assert vault.paths == ["login"]
    vault.now = HOLD
    vault.failure = None
    assert tokens.current()


def test_credentials_refused_again_and_again_are_tried_ever_more_rarely(
    vault: FakeVault, tokens: Tokens
) -> None:
    vault.failure = Refused("no")
    tried = []
    while vault.now < 600:
        before = len(vault.asked)
        with pytest.raises(Refused):
            tokens.current()
        tried += [vault.now] * (len(vault.asked) - before)
        vault.now += 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses[:5] == [HOLD, 2 * HOLD, 4 * HOLD, 8 * HOLD, LONGEST_HOLD]
    assert set(pauses[5:]) == {LONGEST_HOLD}
    vault.failure = None
    vault.now += LONGEST_HOLD
    assert tokens.current()


def test_other_credentials_help_a_token_that_was_refused_its_path(
    tokens: Tokens, approle: AppRoleLogin
) -> None:
    first = tokens.current()
    tokens.forbidden()
    assert not tokens.lost(first)
    approle.secret_id_file.write_text("another-secret")
    assert tokens.lost(first)
    assert tokens.current() != first


def test_other_credentials_are_tried_at_once(
    vault: FakeVault, tokens: Tokens, approle: AppRoleLogin
) -> None:
    vault.failure = Refused("no")
    with pytest.raises(Refused):
        tokens.current()
    vault.failure = None
    approle.secret_id_file.write_text("another-secret")
    assert tokens.current()
    assert vault.paths == ["login", "login"]


def test_an_unanswered_log_in_may_be_repeated_at_once(vault: FakeVault, tokens: Tokens) -> None:
    vault.failure = Unavailable("vault does not answer")
    with pytest.raises(Unavailable):
        tokens.current()
    vault.failure = None
    assert tokens.current()


def test_files_are_read_at_each_log_in(
    vault: FakeVault, tokens: Tokens, approle: AppRoleLogin
) -> None:
    tokens.lost(tokens.current())
    approle.secret_id_file.write_text("another-secret")
    tokens.current()
    bodies = [body for _, _, body, _ in vault.asked]
    assert bodies == [
        {"role_id": "the-role", "secret_id": "the-secret"},
        {"role_id": "the-role", "secret_id": "another-secret"},
    ]


def test_kubernetes_sends_the_projected_token(vault: FakeVault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.b.c")
    Tokens(KubernetesLogin("keyservice", file), vault.request).current()
    path, body = "auth/kubernetes/login", {"role": "keyservice", "jwt": "a.b.c"}
    assert vault.asked == [("post", path, body, "")]


def test_a_token_that_never_expires_is_never_renewed(
    vault: FakeVault, approle: AppRoleLogin
) -> None:
    auth = {"client_token": "s.lasting", "lease_duration": 0, "renewable": False}
    asked: list[str] = []

    def request(_method: str, path: str, _body: object, _token: str) -> Mapping[str, Any]:
        asked.append(path)
        return {"auth": auth}

    tokens = Tokens(approle, request, clock=lambda: vault.now)
    assert tokens.current() == "s.lasting"
    vault.now = 1e9
    assert tokens.current() == "s.lasting"
    assert asked == ["auth/approle/login"]


def test_a_forbidden_path_costs_one_log_in_a_while(vault: FakeVault, tokens: Tokens) -> None:
    assert tokens.lost(tokens.current())
    fresh = tokens.current()
    tokens.forbidden()
    for _ in range(5):
        assert not tokens.lost(fresh)
        assert tokens.current() == fresh
    assert vault.paths == ["login", "login"]
    vault.now = HOLD
    assert tokens.lost(fresh)
    assert tokens.current() != fresh


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_missing_or_empty_file_is_named(
    vault: FakeVault, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "hidden-name"
    if content is not None:
        file.write_text(content)
    logins: list[Login] = [KubernetesLogin("r", file), AppRoleLogin(file, file)]
    for login in logins:
        with pytest.raises(Unavailable, match=r"file (cannot be read|is empty)") as failed:
            Tokens(login, vault.request).current()
        assert "hidden-name" not in str(failed.value)


@pytest.mark.parametrize(
    "answer",
    [{}, {"auth": None}, {"auth": {"client_token": "s.x"}}, {"auth": {"lease_duration": 5}}],
)
def test_nonsense_is_unavailable(answer: Mapping[str, Any], approle: AppRoleLogin) -> None:
    with pytest.raises(Unavailable):
        Tokens(approle, lambda *_: answer).current()


def test_nothing_secret_is_shown(vault: FakeVault, tokens: Tokens, approle: AppRoleLogin) -> None:
    token = tokens.current()
    tokens.lost(token)
    vault.failure = Refused("no")
    with pytest.raises(Refused) as refused:
        tokens.current()
    shown = "".join(traceback.format_exception(refused.value)) + repr(tokens) + repr(approle)
    assert token not in shown
    assert "the-secret" not in shown
