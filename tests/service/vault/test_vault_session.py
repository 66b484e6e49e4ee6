"""Log-in, loss and failure of a real Vault, as the key service lives through them."""

import asyncio
import base64
import json
import secrets
import time
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from keyservice.errors import Unavailable
from keyservice.records import SHARED, TenantRecord, TenantState, Tier
from keyservice.vault.login import AppRoleLogin, KubernetesLogin, Refused
from keyservice.vault.root import VaultRoot
from keyservice.vault.session import VaultSession
from tests.servers import certificates
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import NewVault, SealableVault, Vault

TENANT = "fedcba9876543210" * 2
LONG = 30.0  # seconds, on a machine that is busy: less than a session here waits for an answer


async def timed(call: Awaitable[Any]) -> float:
    started = time.monotonic()
    with pytest.raises(Unavailable) as failed:
        await call
    assert failed.value.retry_after
    return time.monotonic() - started


def revoke_all(prepared: PreparedVault) -> None:
    with prepared.server.client() as client:
        prefix = f"auth/{prepared.setup.approle_mount}/login"
        client.sys.revoke_prefix(prefix)


async def test_a_revoked_token_costs_nobody_an_answer(
    prepared: PreparedVault, root: VaultRoot
) -> None:
    wrapped = await root.wrap(TENANT, SHARED, bytes(32))
    await asyncio.to_thread(revoke_all, prepared)
    answers = await asyncio.gather(*(root.unwrap(TENANT, SHARED, wrapped) for _ in range(30)))
    assert answers == [bytes(32)] * 30


async def test_short_tokens_are_renewed_and_replaced(
    prepared: PreparedVault, session: VaultSession, root: VaultRoot
) -> None:
    """Long enough that no token runs out twice on its way to Vault, on a machine that is busy."""
    role = f"auth/{prepared.setup.approle_mount}/role/{prepared.setup.role}"

    def shorten() -> None:
        with prepared.server.client() as client:
            client.write_data(
                role,
                data={"token_period": "0", "token_ttl": "6s", "token_max_ttl": "8s"},
            )

    await asyncio.to_thread(shorten)
    wrapped = await root.wrap(TENANT, SHARED, bytes(32))
    first = await asyncio.to_thread(session._tokens.current)
    async with asyncio.timeout(LONG):
        while await asyncio.to_thread(session._tokens.current) == first:
            assert await root.unwrap(TENANT, SHARED, wrapped) == bytes(32)
            await asyncio.sleep(0.1)
    assert await root.unwrap(TENANT, SHARED, wrapped) == bytes(32)


async def test_a_wrong_secret_is_refused_and_not_insisted_on(
    prepared: PreparedVault, tmp_path: Path
) -> None:
    wrong = AppRoleLogin(
        prepared.login.role_id_file, tmp_path / "wrong", prepared.setup.approle_mount
    )
    wrong.secret_id_file.write_text("not-the-secret")
    session = prepared.session(wrong)
    try:
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                await prepared.root(session).wrap(TENANT, SHARED, b"k" * 32)
            shown = "".join(traceback.format_exception(refused.value))
            assert "not-the-secret" not in shown
            assert base64.b64encode(b"k" * 32).decode() not in shown
        assert "log-in" in (await prepared.root(session).status()).detail
    finally:
        await session.close()


async def test_a_service_account_logs_in(prepared: PreparedVault, tmp_path: Path) -> None:
    """The JWT method at the mount of Kubernetes takes the same request as Kubernetes does."""
    key = rsa.generate_private_key(65537, 2048)
    mount = "kubernetes-" + secrets.token_hex(4)

    def enable() -> None:
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with prepared.server.client() as client:
            client.sys.enable_auth_method("jwt", path=mount)
            client.write_data(
                f"auth/{mount}/config", data={"jwt_validation_pubkeys": [public.decode()]}
            )
            client.write_data(
                f"auth/{mount}/role/keyservice",
                data={
                    "role_type": "jwt",
                    "user_claim": "sub",
                    "bound_subject": "system:serviceaccount:sealgate:keyservice",
                    "bound_audiences": ["vault"],
                    "token_policies": [prepared.setup.policy],
                    "token_ttl": "60s",
                },
            )

    await asyncio.to_thread(enable)
    file = tmp_path / "token"
    file.write_text(_jwt(key, "system:serviceaccount:sealgate:keyservice"))
    session = prepared.session(KubernetesLogin("keyservice", file, mount))
    try:
        assert (await prepared.root(session).status()).healthy
    finally:
        await session.close()


async def test_throttling_is_unavailable_with_a_time(
    prepared: PreparedVault, root: VaultRoot
) -> None:
    quota = f"sys/quotas/rate-limit/{prepared.setup.transit_mount}"
    wrapped = await root.wrap(TENANT, SHARED, bytes(32))

    def throttle() -> None:
        with prepared.server.client() as client:
            path = f"{prepared.setup.transit_mount}/"
            client.write_data(quota, data={"path": path, "rate": 0.001, "interval": "60s"})

    await asyncio.to_thread(throttle)
    failures = await asyncio.gather(
        *(root.unwrap(TENANT, SHARED, wrapped) for _ in range(5)), return_exceptions=True
    )
    throttled = [failure for failure in failures if isinstance(failure, Unavailable)]
    assert throttled
    assert all("throttling" in str(failure) for failure in throttled)
    assert all(failure.retry_after for failure in throttled)


async def test_sealed_restarted_and_open_again(new_vault: NewVault, tmp_path: Path) -> None:
    """One server lives through it all: TLS, a wrong authority, sealing, a restart, a freeze."""
    pair = certificates.issue(tmp_path / "tls")
    server, prepared = await asyncio.to_thread(_opened, new_vault, pair, tmp_path)
    session, hasty = prepared.session(), prepared.session(timeout=1.0, deadline=2.0)
    root, store = prepared.root(session), prepared.store(session)
    record = TenantRecord(TENANT, Tier.STANDARD, TenantState.ACTIVE, 60.0, (), SHARED)
    try:
        wrapped = await root.wrap(TENANT, SHARED, b"k" * 32)
        assert await store.write(record, 0) == 1

        await _a_stranger_is_not_trusted(prepared, tmp_path)

        await asyncio.to_thread(server.seal)
        assert await timed(root.unwrap(TENANT, SHARED, wrapped)) < LONG
        assert await timed(store.read(TENANT)) < LONG
        assert (await root.status()).detail == "vault is sealed"
        await asyncio.to_thread(server.open)
        assert await root.unwrap(TENANT, SHARED, wrapped) == b"k" * 32

        await asyncio.to_thread(server.kill)
        assert await timed(root.unwrap(TENANT, SHARED, wrapped)) < LONG
        assert not (await store.status()).healthy
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.open)
        assert await root.unwrap(TENANT, SHARED, wrapped) == b"k" * 32
        assert (await store.read(TENANT)).version == 1

        server.pause()
        assert await timed(prepared.root(hasty).unwrap(TENANT, SHARED, wrapped)) < LONG
        assert await timed(prepared.store(hasty).write(record, 1)) < LONG
        server.resume()
        assert await root.unwrap(TENANT, SHARED, wrapped) == b"k" * 32
    finally:
        await session.close()
        await hasty.close()
    await session.close()
    with pytest.raises(Unavailable):
        await root.unwrap(TENANT, SHARED, wrapped)


async def _a_stranger_is_not_trusted(prepared: PreparedVault, folder: Path) -> None:
    stranger = certificates.issue(folder / "stranger")
    session = prepared.session(ca_file=stranger.ca)
    try:
        with pytest.raises(Unavailable, match="not trusted"):
            await prepared.root(session).wrap(TENANT, SHARED, bytes(32))
        assert not (await prepared.store(session).status()).healthy
    finally:
        await session.close()


def _opened(
    new_vault: NewVault, pair: certificates.Certificates, folder: Path
) -> tuple[SealableVault, PreparedVault]:
    server = new_vault(pair)
    server.open()
    return server, prepare(server, folder)


async def test_the_environment_changes_nothing(
    vault: Vault, prepared: PreparedVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "somebody-else")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing"))
    session = VaultSession(vault.address, prepared.login)
    try:
        assert (await prepared.root(session).status()).healthy
    finally:
        await session.close()


def _jwt(key: rsa.RSAPrivateKey, subject: str) -> str:
    now = int(time.time())
    claims = {"sub": subject, "aud": "vault", "iat": now, "nbf": now, "exp": now + 600}
    parts = [_part({"alg": "RS256", "typ": "JWT"}), _part(claims)]
    signed = ".".join(parts).encode()
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def _part(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
