"""Settings that would defeat a promise are refused, with words that say which."""

from pathlib import Path

import pytest

from gateway.settings.config import load
from gateway.targets.quorum import Quorum
from keyservice.layered import ConfigError

BASE = """
[keyservice]
url = "https://127.0.0.1:1"
[catalog]
url = "sqlite:///catalog.db"
"""


def written(tmp_path: Path, top: str = "", *targets: str) -> Path:
    file = tmp_path / "sealgate.toml"
    file.write_text(top + BASE + "".join(f"\n[[targets]]\n{target}\n" for target in targets))
    return file


def folder(name: str, role: str, path: Path) -> str:
    return f'name = "{name}"\nrole = "{role}"\nkind = "folder"\npath = "{path}"'


def bucket(name: str, role: str, endpoint: str) -> str:
    return f'name = "{name}"\nrole = "{role}"\nkind = "s3"\nbucket = "one"\nendpoint = "{endpoint}"'


def test_two_targets_in_one_folder_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    targets = folder("x", "primary", tmp_path / "a"), folder("y", "backup", tmp_path / "b")

    with pytest.raises(ConfigError, match="a place of its own"):
        load(written(tmp_path, "", *targets), environment=False)


def test_two_targets_in_one_bucket(tmp_path: Path) -> None:
    targets = bucket("x", "primary", "http://h:1"), bucket("y", "backup", "http://H:1/")

    with pytest.raises(ConfigError, match="a place of its own"):
        load(written(tmp_path, "", *targets), environment=False)


def test_a_grace_that_would_cut_running_uploads(tmp_path: Path) -> None:
    file = written(tmp_path, "heartbeat = 60\n", folder("x", "primary", tmp_path))
    file.write_text(file.read_text() + "\n[reaper]\ngrace = 100\n")

    with pytest.raises(ConfigError, match="four times heartbeat"):
        load(file, environment=False)


@pytest.mark.parametrize(("backups", "required"), [(0, 0), (1, 1), (3, 1)])
def test_a_backup_is_required_where_there_are_backups(
    tmp_path: Path, backups: int, required: int
) -> None:
    targets = [folder(f"b{n}", "backup", tmp_path / str(n)) for n in range(backups)]
    file = written(tmp_path, "", folder("x", "primary", tmp_path), *targets)

    assert load(file, environment=False).required == Quorum(backups=required)


def test_more_backups_than_there_are(tmp_path: Path) -> None:
    file = written(tmp_path, "", folder("x", "primary", tmp_path))
    file.write_text(file.read_text() + '\n[quorum]\npolicy = "primary+1"\n')

    with pytest.raises(ConfigError, match="more backups than there are"):
        load(file, environment=False)


def test_variables_count_unless_nobody_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "heartbeat = 2.0\n", folder("a", "primary", tmp_path))
    monkeypatch.setenv("SEALGATE_HEARTBEAT", "3")
    monkeypatch.setenv("SEALGATE_KEYSERVICE_LISTEN__PORT", "1")
    assert load(file).heartbeat == 3
    assert load(file, {"heartbeat": 4.0}).heartbeat == 4
    assert load(file, environment=False).heartbeat == 2
    monkeypatch.setenv("SEALGATE_HARTBEAT", "3")
    assert load(file, environment=False).heartbeat == 2
    with pytest.raises(ConfigError, match="unknown environment variables: SEALGATE_HARTBEAT"):
        load(file)
