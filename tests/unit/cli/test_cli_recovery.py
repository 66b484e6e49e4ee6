"""The commands around a lost catalog say what is wrong before they do anything."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.root import cli
from gateway.cli.status import nights_of

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """Give a function that runs a command over two folders, and a key service that is not there."""
    targets = ""
    for name in ("primary", "backup"):
        (tmp_path / name).mkdir()
        targets += f'[[targets]]\nname = "{name}"\nrole = "{name}"\nkind = "folder"\n'
        targets += f'path = "{tmp_path / name}"\n'
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\ntimeout = 0.5\n'
        f'[catalog]\nurl = "sqlite:///{tmp_path}/catalog.sqlite"\n{targets}'
    )

    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words), env={"SEALGATE_CONFIG": str(path)})

    assert call("migrate").exit_code == 0
    return call


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("rebuild-catalog", "--from", "nowhere"), "no target nowhere: there are primary, backup"),
        (("backup", "catalog", "--to", "nowhere"), "no target nowhere"),
        (("backup", "list", "--target", "nowhere"), "no target nowhere"),
        (("backup", "restore-catalog", "--from", "nowhere"), "no target nowhere"),
        (("backup", "restore-catalog", "--from", "backup", "--at", "noon"), "--at takes a time"),
        (("drill", "--from", "nowhere"), "no target nowhere"),
        (("drill", "--all", "--sample", "3"), "name one of --all and --sample"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2(
    invoke: Invoke, words: tuple[str, ...], text: str
) -> None:
    done = invoke(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert text in done.stderr


def test_without_the_key_service_nothing_is_begun(invoke: Invoke) -> None:
    done = invoke("backup", "catalog")
    assert done.exit_code == 1
    assert "key service cannot be reached" in done.stderr


def test_where_there_is_nothing_it_says_so(invoke: Invoke) -> None:
    assert "no copies yet" in invoke("backup", "list").stderr
    assert "no drill on record yet" in invoke("drill", "--history").stderr
    missing = invoke("backup", "restore-catalog", "--from", "backup")
    assert missing.exit_code == 1
    assert "holds no copy of the catalog" in missing.stderr
    rebuilt = invoke("rebuild-catalog", "--from", "backup", "--json")
    assert rebuilt.exit_code == 0
    assert '"envelopes": 0' in rebuilt.stdout
    looked = invoke("rebuild-catalog", "--from", "backup", "--dry-run")
    assert "could be added" in looked.stdout
    assert "What this target cannot know" in looked.stdout


def test_the_folder_for_drills_is_checked(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALGATE_DRILL__FOLDER", str(tmp_path / "nowhere"))
    done = invoke("check-config")
    assert done.exit_code == 2
    assert "drill.folder: no such folder" in done.stderr
    monkeypatch.setenv("SEALGATE_DRILL__FOLDER", str(tmp_path))
    assert invoke("check-config").exit_code == 0


def test_status_tells_which_nightly_work_is_overdue() -> None:
    name = "sealgate_run_last_success_timestamp_seconds"
    figures = f"""# TYPE {name} gauge
{name}{{kind="drill",subject="east"}} 1000.0
{name}{{kind="drill",subject="west"}} 0.0
{name}{{kind="catalog-backup",subject=""}} 90000.0
{name}{{kind="reap",subject=""}} 0.0
"""
    assert nights_of(figures, 100_000.0) == {
        "catalog-backup": {"seconds": 10_000.0, "overdue": False},
        "drill east": {"seconds": 99_000.0, "overdue": True},
        "drill west": {"seconds": None, "overdue": True},
    }
