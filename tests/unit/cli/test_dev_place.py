"""The folder of `sealgate dev`: private, ours, and emptied only when somebody means it."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.root import cli
from gateway.settings.config import load
from gateway.wiring.dev.errors import PlaceRefused
from gateway.wiring.dev.place import Place
from gateway.wiring.dev.stack import Stack, environment
from keyservice.config import load as load_keyservice


def test_it_is_private_and_may_be_taken_up_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "dev")
    assert place.make() is True
    assert place.make() is False
    assert place.root.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PlaceRefused, match="name another folder with --data"):
        Place(tmp_path).make()
    with pytest.raises(PlaceRefused, match="it stays as it is"):
        Place(tmp_path).empty()
    done = CliRunner().invoke(cli, ["dev", "--data", str(tmp_path), "--reset", "--yes", "--once"])
    assert done.exit_code == 2
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_emptying_removes_everything_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    place = Place(tmp_path / "dev")
    place.make()
    place.configure(port=1, keyservice_port=None)
    (place.root / "link").symlink_to(outside)
    place.empty()
    assert list(place.root.iterdir()) == []
    assert (outside / "kept").exists()


def test_emptying_is_asked_for_first(tmp_path: Path) -> None:
    place = Place(tmp_path / "dev")
    place.make()
    done = CliRunner().invoke(cli, ["dev", "--data", str(place.root), "--reset"], input="n\n")
    assert done.exit_code == 1
    assert "Remove everything in" in done.output
    assert "all keys and attachments" in done.output
    assert place.store("primary").is_dir()


def test_one_stack_at_a_time(tmp_path: Path) -> None:
    place = Place(tmp_path / "dev")
    with (
        place.claimed(),
        pytest.raises(PlaceRefused, match="another `sealgate dev`"),
        place.claimed(),
    ):
        pass
    with place.claimed():
        pass


@pytest.mark.parametrize("port", [None, 9999])
def test_both_configurations_load_whatever_the_path_is_called(
    tmp_path: Path, port: int | None
) -> None:
    place = Place(tmp_path / 'a "quoted" \\ näme')
    place.make()
    place.configure(port=8081, keyservice_port=port)
    settings = load(place.gateway_config, environment=False)
    assert settings.listen.port == 8081
    assert [target.name for target in settings.targets] == ["primary", "backup-1", "backup-2"]
    keys = load_keyservice(place.keyservice_config)
    assert keys.development is not None
    assert keys.listen.port == (port or 8443)
    assert tomllib.loads(place.keyservice_config.read_text())["root"]["local"]


def test_the_shared_secret_stays_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path / "dev")
    place.make()
    place.configure(port=1, keyservice_port=None)
    secret = place.token_file.read_text()
    place.configure(port=2, keyservice_port=None)
    assert place.token_file.read_text() == secret
    assert place.token_file.stat().st_mode & 0o777 == 0o600


def test_a_stack_does_not_show_its_token() -> None:
    stack = Stack("http://127.0.0.1:1", "0" * 32, "sgt_secret")
    assert "sgt_secret" not in repr(stack)
    assert "TOKEN=sgt_secret\n" in environment(stack)
