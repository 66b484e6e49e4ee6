"""The commented example loads as it stands, whole and uncommented, and leaves no setting out."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.settings.config import FolderTarget, S3Target, Settings, Tls, load

EXAMPLE = Path(__file__).resolve().parents[3] / "deploy" / "sealgate.example.toml"
_COMMENTED = re.compile(r"^# (\w+ = .*|\[\w+\])$", re.MULTILINE)


def _settings(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    for name, field in model.model_fields.items():
        inner = [
            each
            for each in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        yield model, name
        for section in inner:
            yield from _settings(section)


ALL = [*_settings(Settings), *_settings(S3Target), *_settings(FolderTarget), *_settings(Tls)]


def test_it_loads_as_it_stands() -> None:
    settings = load(EXAMPLE, environment=False)
    assert [target.name for target in settings.targets] == ["frankfurt", "singapore", "cellar"]


@pytest.mark.parametrize(
    ("model", "name"), ALL, ids=[f"{model.__name__}.{name}" for model, name in ALL]
)
def test_it_names_every_setting(model: type[BaseModel], name: str) -> None:
    assert model.model_fields[name]
    assert re.search(rf"^(# )?({name} = |\[+{name}\])", EXAMPLE.read_text(), re.MULTILINE)


def test_what_it_shows_without_a_comment_is_the_default() -> None:
    shown = tomllib.loads(EXAMPLE.read_text())
    for section in ("listen", "quorum", "limits", "reaper", "repair"):
        field = Settings.model_fields[section]
        defaults = field.get_default(call_default_factory=True)
        assert shown[section] == {name: getattr(defaults, name) for name in shown[section]}
    for name in ("heartbeat", "drain_timeout", "log_level"):
        assert shown[name] == Settings.model_fields[name].default


def test_what_it_comments_out_is_known_too(tmp_path: Path) -> None:
    # One of each pair that excludes the other stays commented.
    text = _COMMENTED.sub(
        lambda found: found[0] if "url_file" in found[1] else found[1], EXAMPLE.read_text()
    )
    path = tmp_path / "sealgate.toml"
    path.write_text(text)
    settings = load(path, environment=False)
    assert settings.tls is not None
    assert settings.listen.unix_socket is not None
    primary = settings.targets[0]
    assert isinstance(primary, S3Target)
    assert primary.secret_key_file is not None
