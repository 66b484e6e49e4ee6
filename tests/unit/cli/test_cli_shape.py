"""What holds of every command: help that teaches, exit codes, one line for what went wrong."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gateway.cli.root import cli, main
from gateway.cli.status import address_of
from gateway.settings.config import load
from keyservice.cli.main import cli as keyservice_cli
from keyservice.commandline import version


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from _commands(inner, (*words, name))
        else:
            yield (*words, name), inner


COMMANDS = dict(_commands(get_command(cli)))
NO_SETTINGS = {("dev",), ("keys", "generate")}


def test_every_command_is_here() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        "dev",
        "serve",
        "worker",
        "runs",
        "status",
        "tenant create",
        "tenant list",
        "tenant show",
        "tenant retention",
        "tenant quorum",
        "tenant rotation",
        "token create",
        "token list",
        "token revoke",
        "trash list",
        "trash undelete",
        "trash purge",
        "trash empty",
        *(f"keys shred {each}" for each in ("order", "undo", "approve", "execute")),
        *("keys shred status", "keys shred receipt", "keys ledger show", "keys ledger verify"),
        "keys status",
        "target list",
        "target forget",
        "keys retire",
        "keys suspend",
        "keys resume",
        "keys move",
        "keys settings",
        "keys mend",
        "keys destroy-root",
        "reap",
        "repair",
        "scrub",
        "failover status",
        "failover promote",
        "failover demote",
        "rotate dek",
        "rotate kek",
        "rotate root",
        "backup catalog",
        "backup list",
        "backup restore-catalog",
        "rebuild-catalog",
        "drill",
        "restore",
        "keys generate",
        "keys import",
        "keys journal",
        "report key",
        "report verify",
        "migrate",
        "check-config",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_teaches_with_examples_and_exit_codes(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert f"sealgate {' '.join(words)}" in done.stdout
    assert "Examples:" in done.stdout
    assert "Exit codes:" in done.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_that_tells_something_tells_it_as_json(words: tuple[str, ...]) -> None:
    options = {each for parameter in COMMANDS[words].params for each in parameter.opts}
    assert ("--json" in options) == (words[0] not in {"dev", "serve"})
    assert ("--config" in options) == (words not in NO_SETTINGS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_command_works_on_is_spelled_alike(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        if parameter.name == "tenant":
            spelled = (parameter.opts, parameter.metavar)
            assert spelled in ((["--tenant", "-t"], "ID"), (["tenant"], "TENANT"))
        if {"--target", "--from", "--to"} & {*parameter.opts}:
            assert parameter.metavar == "TARGET"
        if "--yes" in parameter.opts:
            assert "-y" in parameter.opts


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_option_takes_a_secret(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        names = " ".join(parameter.opts)
        if "--private-key" in names:  # the file that it is in
            assert parameter.type_descriptor.annotation is Path
            continue
        assert not re.search(r"secret|password|private|--token(?!-file)|--key(?!-file)", names)


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - {*NO_SETTINGS, ("status",)}), ids=" ".join)
def test_without_settings_a_command_says_how_to_name_them(words: tuple[str, ...]) -> None:
    because = ["0" * 32, "--reason", "x", "--confirm", "0" * 32]
    given = {
        "keys shred order": because,
        "keys shred approve": because,
        "keys shred execute": because,
        "keys shred undo": because[:3],
        "keys shred status": ["0" * 32],
        "keys shred receipt": ["0" * 32],
        "tenant show": ["0" * 32],
        "tenant retention": ["0" * 32],
        "tenant rotation": ["0" * 32],
        "keys retire": ["0" * 32, "--all-old"],
        "keys suspend": ["0" * 32, "--reason", "r"],
        "keys resume": ["0" * 32, "--reason", "r"],
        "keys move": ["0" * 32, "--to-own"],
        "keys settings": ["0" * 32, "--no-rate"],
        "keys mend": ["0" * 32, "--revision", "1", "--reason", "r"],
        "keys destroy-root": ["0" * 32, "", "--reason", "r", "--confirm", "0" * 32],
        "rotate root": ["--tenant", "0" * 32],
        "trash list": ["0" * 32],
        "trash undelete": ["0" * 32, "1" * 32],
        "trash purge": ["0" * 32, "1" * 32],
        "tenant quorum": ["0" * 32, "all"],
        "failover promote": ["east"],
        "target forget": ["east"],
        "token create": ["--all-tenants"],
        "token list": ["--all-tenants"],
        "token revoke": ["0" * 16],
        "report verify": ["a.report.json"],
        "backup restore-catalog": ["--from", "east"],
        "rebuild-catalog": ["--from", "east"],
        "restore": ["--all"],
        "rotate dek": ["--all"],
        "rotate kek": ["--all"],
        "keys import": ["0" * 32, "--key-file", "x"],
        "keys journal": ["--tenant", "0" * 32],
    }.get(" ".join(words), [])
    done = CliRunner().invoke(cli, [*words, *given], env={"SEALGATE_CONFIG": ""})
    assert done.exit_code == 2
    assert "--config or SEALGATE_CONFIG" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("scrub --sample-keys -3", "sealgate scrub: Invalid value for '--sample-keys'"),
        ("rebuild-catalog", "sealgate rebuild-catalog: Missing option '--from'"),
        ("keys journal TENANT", "sealgate keys journal: Got unexpected extra argument"),
        ("keys statu", "sealgate keys: No such command 'statu'"),
        ("restore --everything", "sealgate restore: No such option: --everything"),
    ],
)
def test_wrong_usage_is_one_line(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sealgate", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1
    assert "--help`" in told.err


def test_the_version_is_told() -> None:
    for program, of in (("sealgate", cli), ("sealgate-keyservice", keyservice_cli)):
        done = CliRunner().invoke(of, ["--version"], prog_name=program)
        assert (done.exit_code, done.stdout) == (0, f"{program} {version()}\n")


def test_a_hold_is_put_on_or_ended() -> None:
    options = ["--hold-until", "2030-01-01", "--no-hold"]
    done = CliRunner().invoke(cli, ["tenant", "retention", "0" * 32, *options])
    assert done.exit_code == 2
    assert done.stderr == "sealgate: name one of --hold-until and --no-hold\n"


def test_help_loads_neither_database_nor_stores() -> None:
    program = (
        "import sys; sys.argv = ['sealgate', '--help']\n"
        "from gateway.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'sqlalchemy', 'aioboto3', 'awscrt'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_serving_loads_the_driver_of_a_server_only_for_one() -> None:
    program = (
        "import sys, gateway.wiring.app\n"
        "assert not {'asyncpg', 'sqlalchemy.orm', 'alembic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_gateway_that_does_not_answer_is_not_ready() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = CliRunner().invoke(cli, ["status", "--url", f"http://127.0.0.1:{port}"])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"sealgate: no gateway answers at http://127.0.0.1:{port}")
    wrong = CliRunner().invoke(cli, ["status", "--url", "gopher://x"])
    assert wrong.exit_code == 2


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("", "http://127.0.0.1:8080"),
        ('[listen]\nhost = "0.0.0.0"\nport = 80', "http://127.0.0.1:80"),
        ('[listen]\nhost = "::"', "http://[::1]:8080"),
        ('[listen]\nunix_socket = "/run/x.sock"', "unix:///run/x.sock"),
        ('[tls]\ncertificate = "a"\nprivate_key = "b"', "https://127.0.0.1:8080"),
    ],
)
def test_status_asks_where_the_settings_listen(tmp_path: Path, listen: str, address: str) -> None:
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f"""{listen}
[keyservice]
url = "unix:///nobody"
[catalog]
url = "sqlite:////nowhere"
[[targets]]
name = "a"
role = "primary"
kind = "folder"
path = "/nowhere"
"""
    )
    assert address_of(load(path, environment=False)) == address


def test_json_is_one_object_on_one_line() -> None:
    from gateway.cli.command import show_json  # noqa: PLC0415

    @cli.command("echo-json", hidden=True)
    def echo() -> None:
        show_json({"a": "ü", "b": None})

    try:
        done = CliRunner().invoke(cli, ["echo-json"])
    finally:
        cli.registered_commands.pop()
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == {"a": "ü", "b": None}
