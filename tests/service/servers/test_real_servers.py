"""The servers that the tests stand on do start, answer, break on demand and stop."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers import binary, certificates
from tests.servers.daemon import Daemon, ServerFailed
from tests.servers.vault import NewVault, Vault
from tests.servers.versitygw import Versitygw


def test_vault_answers(vault: Vault) -> None:
    with vault.client() as client:
        assert client.is_authenticated()
        client.sys.enable_secrets_engine("transit", path="probe")
        client.sys.disable_secrets_engine("probe")


def test_vault_survives_seal_and_restart(new_vault: NewVault, tmp_path: Path) -> None:
    server = new_vault(certificates.issue(tmp_path))
    server.open()
    with server.client() as client:
        client.sys.enable_secrets_engine("kv", path="kv", options={"version": "1"})
        client.write_data("kv/probe", data={"kept": "yes"})
    server.seal()
    server.open()
    server.restart()
    server.open()
    with server.client() as client:
        assert client.read("kv/probe")["data"] == {"kept": "yes"}


async def test_s3_answers_and_refuses_to_overwrite(s3: Versitygw) -> None:
    name = s3.new_bucket()
    async with get_session().create_client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    ) as client:
        await client.put_object(Bucket=name, Key="a/b", Body=b"sealed", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            await client.put_object(Bucket=name, Key="a/b", Body=b"other", IfNoneMatch="*")
        assert (s3.bucket_folder(name) / "a" / "b").read_bytes() == b"sealed"


def test_s3_comes_back_at_its_address(new_s3: Callable[[], Versitygw]) -> None:
    server = new_s3()
    name = server.new_bucket()
    server.pause()
    server.resume()
    server.kill()
    assert not server.running
    server.start()
    assert server.bucket_folder(name).is_dir()


async def test_each_database_is_empty(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute("CREATE TABLE only_here (id int)")
        assert await connection.fetchval("SELECT count(*) FROM only_here") == 0
    finally:
        await connection.close()


def test_a_server_that_ends_shows_its_log(tmp_path: Path) -> None:
    server = Daemon(
        ["/bin/sh", "-c", "echo no room; exit 3"], log=tmp_path / "log", ready=lambda: False
    )
    with pytest.raises(ServerFailed, match="no room"):
        server.start()


def test_cache_is_outside_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binary.find(binary.VAULT) is None
    made = binary.cache() / f"vault-{binary.VAULT.version}"
    made.parent.mkdir(parents=True)
    made.touch(mode=0o700)
    assert binary.find(binary.VAULT) == made
