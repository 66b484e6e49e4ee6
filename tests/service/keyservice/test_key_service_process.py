"""The command, as an operator and `sealgate dev` use it: in a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keyservice.cli.main import cli
from keyservice.wire import DataKey
from tests.service.keyservice.conftest import Site

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "keyservice"]
CALL = {"reason": "test", "request_id": "r-1"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended that only looks, and so needs no process of its own."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str | Path) -> Ended:
    """Run the command with no setting in its environment; it must let no error escape."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith("SEALGATE_"))
    ended = CliRunner().invoke(cli, [*map(str, arguments)], env=unset)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def program(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, for what blocks a loop that it has for itself."""
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=110, cwd=ROOT, check=False)


class Process:
    """A running `sealgate-keyservice serve` and its log."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.popen = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stderr=file)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of that event, of those that are whole."""
        text = self.log.read_text()
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in found if line["event"] == event]

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the first log line of that event, once it is there."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if found := self.events(event):
                return found[0]
            assert self.popen.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise TimeoutError(event)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Give a function that starts the command, ended after the test."""
    started: list[Process] = []

    def start(*arguments: str | Path) -> Process:
        log = tmp_path / f"log-{len(started)}"
        process = Process(["serve", *map(str, arguments)], log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def config(site: Site) -> Path:
    """Give a configuration file of the site."""
    path = site.folder / "keyservice.toml"
    path.write_text(
        f"""
policy_file = "{site.folder}/policy.toml"
[listen]
port = 0
[development]
token_file = "{site.folder}/token"
[root.local]
key_file = "{site.folder}/root.key"
records = "{site.folder}/records"
[audit]
file = "{site.folder}/audit.jsonl"
"""
    )
    policy = site.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("dns:gateway.sealgate.internal", "token:*"))
    return path


def test_it_serves_says_what_it_is_and_drains(
    site: Site, tenant: str, config: Path, serve: Callable[..., Process]
) -> None:
    process = serve("--config", config)
    url = process.wait_for("serving")["url"]
    loud = [line for line in process.log.read_text().splitlines() if '"warning"' in line]
    assert "LOCAL FILE" in loud[0]
    assert "DEVELOPMENT" in loud[1]

    async def use() -> None:
        async with site.client(url) as client:
            await client.create_tenant(tenant)
            assert isinstance((await client.data_keys(tenant, [b"c"], **CALL))[0], DataKey)

    asyncio.run(use())
    found = program("status", "--url", url, "--token-file", site.folder / "token")
    assert (found.returncode, found.stdout.startswith("root local is healthy")) == (0, True)
    found = program("status", "--url", url, "--token-file", site.folder / "token", "--json")
    assert json.loads(found.stdout)["root"] == "local"
    process.popen.send_signal(signal.SIGHUP)
    while len(process.events("policy loaded")) < 2:
        time.sleep(0.02)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(60) == 0
    assert process.events("draining")
    text = process.log.read_text()
    assert site.token not in text
    assert tenant not in text


def test_a_killed_service_loses_no_record_it_answered(
    site: Site, tenant: str, config: Path, serve: Callable[..., Process]
) -> None:
    process = serve("-c", config)
    url = process.wait_for("serving")["url"]
    answered: list[str] = []

    async def hammer() -> None:
        async with site.client(url, attempts=1) as client:
            await client.create_tenant(tenant)
            for number in range(200):
                call = {"reason": "test", "request_id": f"r-{number}"}
                await client.data_keys(tenant, [b"c"], **call)
                answered.append(f"r-{number}")
                if number == 50:
                    process.popen.kill()

    with pytest.raises(Exception, match="key service"):
        asyncio.run(hammer())
    process.popen.wait()
    lines = (site.folder / "audit.jsonl").read_text().splitlines()
    recorded = {json.loads(line)["request_id"] for line in lines}
    assert set(answered) <= recorded
    assert len(answered) >= 51
    second = serve("-c", config)
    second.wait_for("serving")


def test_a_second_service_on_one_audit_file_does_not_start(
    config: Path, serve: Callable[..., Process]
) -> None:
    serve("-c", config).wait_for("serving")
    found = run("serve", "-c", config)
    assert found.returncode == 1
    assert "another process" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("port = 0", "prot = 0"), "listen.prot"),
        (("token_file", "token_fil"), "token_fil"),
        (("policy.toml", "none.toml"), "policy_file"),
        (("/token", "/none"), "token_file"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(
    config: Path, change: tuple[str, str], fault: str
) -> None:
    config.write_text(config.read_text().replace(*change))
    for command in ("check-config", "serve"):
        found = run(command, "--config", config)
        assert found.returncode == 2
        (line,) = [line for line in found.stderr.splitlines() if line[0] != "{"]
        assert fault in line


def test_a_token_that_others_may_read_is_refused(site: Site, config: Path) -> None:
    (site.folder / "token").chmod(0o644)
    found = run("check-config", "--config", config)
    assert found.returncode == 2
    assert "0600" in found.stderr
    assert site.token not in found.stderr


def test_a_root_key_that_others_may_read_is_refused(site: Site, config: Path) -> None:
    (site.folder / "root.key").write_bytes(bytes(32))
    (site.folder / "root.key").chmod(0o640)
    found = run("check-config", "--config", config)
    assert found.returncode == 2
    assert "0600" in found.stderr


def test_files_of_vault_that_are_missing_are_named(site: Site, config: Path) -> None:
    head, _, rest = config.read_text().partition("[root.local]")
    vault = f"""[root.vault]
url = "https://127.0.0.1:8200"
ca_file = "{site.folder}/no-ca"
[root.vault.approle]
role_id_file = "{site.folder}/token"
secret_id_file = "{site.folder}/no-secret"
[audit]
"""
    config.write_text(head + vault + rest.partition("[audit]")[2])
    found = run("check-config", "--config", config)
    assert found.returncode == 2
    assert "no-ca" in found.stderr
    assert "no-secret" in found.stderr
    assert "token" not in found.stderr


def test_check_config_starts_and_makes_nothing(site: Site, config: Path) -> None:
    before = sorted(path.name for path in site.folder.iterdir())
    found = run("check-config", "--config", config)
    assert (found.returncode, "local" in found.stdout) == (0, True)
    found = run("check-config", "--config", config, "--json")
    assert json.loads(found.stdout) == {"usable": True, "root": "local"}
    assert sorted(path.name for path in site.folder.iterdir()) == before


def test_certs_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    found = run("certs", folder, "--server-name", "keys.internal", "--days", "2")
    assert (found.returncode, len(found.stdout.split())) == (0, 6)
    found = run("certs", folder)
    assert found.returncode == 1
    assert "--force" in found.stderr
    found = run("certs", folder, "--force", "--json")
    assert found.returncode == 0
    assert {Path(path) for path in json.loads(found.stdout)["written"]} == {*folder.iterdir()}


def test_status_of_nobody_is_a_failure(site: Site) -> None:
    found = program("status", "--url", "http://127.0.0.1:9", "--token-file", site.folder / "token")
    assert found.returncode == 1
    assert "Traceback" not in found.stderr


def test_setup_vault_prints_what_it_would_do() -> None:
    found = run("setup-vault", "--transit-mount", "my-transit")
    assert found.returncode == 0
    assert "my-transit" in found.stdout
    assert run("setup-vault", "--apply").returncode == 2


@pytest.mark.parametrize("command", ["serve", "certs", "check-config", "setup-vault", "status"])
def test_help_is_there(command: str) -> None:
    found = run(command, "--help")
    assert found.returncode == 0
    assert "Usage" in found.stdout
