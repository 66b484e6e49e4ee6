"""`sealgate report`: a key of one's own, and reports that hold or do not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.root import cli
from gateway.recovery.report import load, make

Invoke = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sealgate.toml"
    path.write_text(
        """
[keyservice]
url = "unix:///nobody"
[catalog]
url = "sqlite:////nowhere"
[[targets]]
name = "primary"
role = "primary"
kind = "folder"
path = "/nowhere"
"""
    )
    return path


@pytest.fixture
def invoke(config: Path) -> Invoke:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env={"SEALGATE_CONFIG": str(config)})

    return call


def test_the_key_is_made_once_and_only_its_public_half_is_shown(
    invoke: Invoke, config: Path
) -> None:
    first = json.loads(invoke("report", "key", "--json").stdout)
    again = json.loads(invoke("report", "key", "--json").stdout)
    assert (first["made"], again["made"]) == (True, False)
    assert first["public_key"] == again["public_key"] == load(config.parent / "report.key").public
    shown = invoke("report", "key")
    assert first["public_key"] in shown.stdout
    assert "PRIVATE" not in shown.output


def test_settings_say_where_the_key_is(invoke: Invoke, config: Path) -> None:
    config.write_text(f'{config.read_text()}[reports]\nkey_file = "{config.parent}/own.key"\n')
    invoke("report", "key")
    assert load(config.parent / "own.key")
    config.write_text(f"{config.read_text()}".replace("key_file", "folder").replace("own.key", "r"))
    invoke("report", "key")
    assert load(config.parent / "r" / "report.key")


def test_a_report_holds_until_it_or_its_items_are_altered(invoke: Invoke, config: Path) -> None:
    items = config.parent / "a.items.jsonl"
    items.write_bytes(b"{}\n")
    named = {"file": items.name, "sha256": hashlib.sha256(b"{}\n").hexdigest()}
    path = config.parent / "a.report.json"
    signer = make(config.parent / "report.key")
    path.write_text(json.dumps(signer.sign({"run": "r", "items": named})))

    held = invoke("report", "verify", str(path))
    assert held.exit_code == 0
    assert "signature  holds" in held.stdout
    told = json.loads(invoke("report", "verify", str(path), "--json").stdout)
    assert (told["verified"], told["items"]) == (True, "verified")
    assert invoke("report", "verify", str(path), "--public-key", signer.public).exit_code == 0

    items.write_bytes(b"{ }\n")
    assert "not the file of items" in invoke("report", "verify", str(path)).stderr
    items.unlink()
    assert "not here: a.items.jsonl" in invoke("report", "verify", str(path)).stdout

    path.write_text(path.read_text().replace('"run": "r"', '"run": "s"'))
    altered = invoke("report", "verify", str(path))
    assert (altered.exit_code, altered.stdout) == (1, "")
    assert "it was altered" in altered.stderr


def test_a_report_of_another_key_is_refused(invoke: Invoke, config: Path) -> None:
    path = config.parent / "a.report.json"
    path.write_text(json.dumps(make(config.parent / "other.key").sign({"run": "r"})))
    assert invoke("report", "verify", str(path)).stderr.startswith("sealgate: cannot read")
    invoke("report", "key")
    done = invoke("report", "verify", str(path))
    assert (done.exit_code, "another key signed it" in done.stderr) == (1, True)


@pytest.mark.parametrize("text", ["", "nonsense", '{"report": {}}'])
def test_what_is_no_report_is_refused(invoke: Invoke, config: Path, text: str) -> None:
    invoke("report", "key")
    path = config.parent / "a.report.json"
    path.write_text(text)
    assert invoke("report", "verify", str(path)).exit_code == 1
    assert invoke("report", "verify", str(config.parent / "none")).exit_code == 1
