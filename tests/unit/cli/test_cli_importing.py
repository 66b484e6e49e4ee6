"""`sealgate keys generate` and `import`: files that are good, files that are not, and no key in sight."""

import base64
import json
import secrets
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.root import cli

SETTINGS = """
[keyservice]
url = "http://127.0.0.1:9"
token_file = "{token}"
timeout = 1
[catalog]
url = "sqlite:///nowhere.db"
[[targets]]
name = "primary"
role = "primary"
kind = "folder"
path = "nowhere"
"""
TENANT = "0" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("t" * 40)
    file = tmp_path / "gateway.toml"
    file.write_text(SETTINGS.format(token=token))
    return file


def keep(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.touch()
    path.chmod(mode)
    path.write_bytes(content)
    return path


def run(settings: Path, key: Path, *more: str) -> Result:
    arguments = ["keys", "import", TENANT, "--key-file", str(key), "--config", str(settings), *more]
    return CliRunner().invoke(cli, arguments)


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "root.key"
    made = CliRunner().invoke(cli, ["keys", "generate", str(file), "--json"])
    assert made.exit_code == 0
    assert json.loads(made.stdout) == {"file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_bytes()
    assert len(key) == 32
    again = CliRunner().invoke(cli, ["keys", "generate", str(file)])
    assert again.exit_code == 1
    assert "File exists" in again.stderr
    assert file.read_bytes() == key


@pytest.mark.parametrize(
    "content", [b"", b"k" * 31, b"k" * 33, b"k" * 44, b"k" * 500, b"\xff" * 44]
)
def test_what_is_no_key_is_refused(settings: Path, tmp_path: Path, content: bytes) -> None:
    done = run(settings, keep(tmp_path / "k", content))
    assert done.exit_code == 2
    assert "holds no root key" in done.stderr


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_file_that_others_may_read_is_refused(settings: Path, tmp_path: Path, mode: int) -> None:
    done = run(settings, keep(tmp_path / "k", secrets.token_bytes(32), mode))
    assert done.exit_code == 2
    assert "make it 0600" in done.stderr


def test_a_file_that_is_not_there_is_said(settings: Path, tmp_path: Path) -> None:
    done = run(settings, tmp_path / "none")
    assert done.exit_code == 2
    assert "No such file" in done.stderr


def test_never_both(settings: Path, tmp_path: Path) -> None:
    key = keep(tmp_path / "k", secrets.token_bytes(32))
    done = run(settings, key, "--rotatable", "--new-version")
    assert done.exit_code == 2
    assert "leave --rotatable out" in done.stderr


@pytest.mark.parametrize("form", ["raw", "base64", "base64 line"])
def test_the_key_is_in_no_output(settings: Path, tmp_path: Path, form: str) -> None:
    """With no key service to bring it to, the command fails with the key in its hands."""
    key = secrets.token_bytes(32)
    text = base64.b64encode(key)
    content = {"raw": key, "base64": text, "base64 line": text + b"\n"}[form]
    done = run(settings, keep(tmp_path / "k", content))
    assert done.exit_code == 1
    assert "key service" in done.stderr
    shown = (done.stdout + done.stderr + repr(done.exception)).encode()
    assert not any(each in shown for each in (key, key.hex().encode(), text))
