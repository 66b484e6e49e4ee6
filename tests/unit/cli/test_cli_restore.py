"""`sealgate restore` on folders: what makes no sense is refused before anything is touched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.root import cli

Invoke = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("primary", "backup"):
        (tmp_path / name).mkdir()
    (tmp_path / "sealgate.toml").write_text(
        f"""
[keyservice]
url = "unix://{tmp_path}/nobody.sock"
timeout = 0.2
[catalog]
url = "sqlite:///{tmp_path}/catalog.sqlite"
[[targets]]
name = "primary"
role = "primary"
kind = "folder"
path = "{tmp_path}/primary"
[[targets]]
name = "backup"
role = "backup"
kind = "folder"
path = "{tmp_path}/backup"
"""
    )
    return tmp_path


@pytest.fixture
def invoke(home: Path) -> Invoke:
    def call(*arguments: str) -> Result:
        settings = {"SEALGATE_CONFIG": str(home / "sealgate.toml")}
        return CliRunner().invoke(cli, list(arguments), env=settings)

    assert call("migrate").exit_code == 0
    return call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name one of --attachment"),
        (("--all", "--tenant", "x"), "name one of --attachment"),
        (("--all", "--version", "x"), "--version needs --attachment"),
        (("--attachment", "x/y"), "32 lower-case hex"),
        (("--tenant", "x"), "32 lower-case hex"),
        (("--attachment", "x"), "a slash, and its reference"),
        (("--all", "--to", "nowhere"), "no target nowhere: there are primary, backup"),
        (("--all", "--from", "primary"), "cannot be restored from itself"),
        (("--all", "--to", "east", "--open-into", "x"), "one of --to and --open-into"),
        (("--all", "--open-into", "x"), "name its file with --token-file"),
        (("--all", "--open-into", "x", "--verify-only"), "goes with neither"),
        (("--all", "--open-into", "x", "--without-key-service"), "goes with neither"),
        (("--all", "--token-file", "x"), "goes with --open-into"),
        (("--all", "--verify-only", "--dry-run"), "goes with neither"),
        (("--all", "--since", "yesterday"), "takes a time"),
        (("--all", "--open-into", "x", "--token-file", "/nowhere"), "cannot read the token"),
    ],
)
def test_what_makes_no_sense_is_refused(
    invoke: Invoke, home: Path, words: tuple[str, ...], said: str
) -> None:
    refused = invoke("restore", *words)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert not refused.stdout
    assert not list(home.glob("*.journal"))


def test_nothing_to_restore_is_all_good(invoke: Invoke, home: Path) -> None:
    done = invoke("restore", "--all")
    assert done.exit_code == 0
    assert "nothing is in this scope" in done.stdout
    assert "made a key for signing reports" in done.stderr
    assert len(list(home.glob("restore-*.report.json"))) == 1
    assert not list(home.glob("*.journal"))
    assert (home / "report.key").stat().st_mode & 0o777 == 0o600


def test_where_journal_and_report_go_can_be_said(invoke: Invoke, home: Path) -> None:
    words = ("--journal", str(home / "j" / "my.journal"), "--report", str(home / "my.json"))
    assert invoke("restore", "--all", *words).exit_code == 0
    assert (home / "my.json").exists()
    assert len(list((home / "j").glob("my.*.items.jsonl"))) == 1


def test_a_tenant_or_attachment_that_is_not_there_is_said(invoke: Invoke) -> None:
    unknown = invoke("restore", "--tenant", "a" * 32, "--without-key-service")
    assert (unknown.exit_code, unknown.stderr.splitlines()[-1]) == (1, "sealgate: no such tenant")
    words = ("--attachment", f"{'a' * 32}/report", "--without-key-service")
    assert invoke("restore", *words).exit_code == 1


def test_a_destination_that_is_not_there_is_said(invoke: Invoke, home: Path) -> None:
    (home / "primary").rmdir()
    assert invoke("restore", "--all").exit_code == 1
