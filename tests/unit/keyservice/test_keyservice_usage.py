"""What holds of every command of the key service: help that teaches, and one line for wrong usage."""

import sys

import pytest
from typer.testing import CliRunner

from keyservice.cli.main import cli, main

COMMANDS = ("serve", "check-config", "certs", "status", "setup-vault", "setup-held")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples_and_exit_codes(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert f"sealgate-keyservice {command}" in done.stdout
    assert "Examples:" in done.stdout
    assert "Exit codes:" in done.stdout


def test_every_command_is_here() -> None:
    assert {
        each.name or each.callback.__name__ for each in cli.registered_commands if each.callback
    } == {*COMMANDS}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve --bogus", "sealgate-keyservice serve: No such option: --bogus"),
        ("serv", "sealgate-keyservice: No such command 'serv'"),
        ("certs", "sealgate-keyservice certs: Missing argument 'FOLDER'"),
        ("certs x --days many", "sealgate-keyservice certs: Invalid value for '--days'"),
        ("setup-vault --apply", "sealgate-keyservice: --apply needs --token-file"),
        ("setup-held --name A!", "sealgate-keyservice: a name has letters, digits"),
        ("serve", "sealgate-keyservice: "),
    ],
)
def test_wrong_usage_is_one_line(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sealgate-keyservice", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1
