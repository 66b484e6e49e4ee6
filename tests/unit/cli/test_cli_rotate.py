"""`sealgate rotate kek` and `rotate root`: what they refuse before they look at anything."""

from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway.cli.bar import bar
from gateway.cli.root import cli

ID = "0" * 32


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("kek",), "name one of"),
        (("kek", "--all", "--tenant", ID), "name one of"),
        (("kek", "--attachment", ID), "a slash"),
        (("kek", "--tenant", ID, "--before", "yesterday"), "--before takes a time"),
        (("root",), "name one of"),
        (("root", "--shared", "--all"), "name one of"),
        (("root", "--shared", "--tenant", ID), "name one of"),
    ],
)
def test_wrong_usage_is_told_at_once(words: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(cli, ["rotate", *words], env={"SEALGATE_CONFIG": ""})
    assert done.exit_code == 2
    assert why in done.stderr


def test_a_bar_of_things_tells_how_many_and_how_fast() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with bar("rotating", things=True, console=console) as shown:
        shown.total(40)
        for _ in range(4):
            shown.advance(10)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "40/40" in text
    assert "rotating" in text


def test_a_bar_that_nobody_sees_says_nothing() -> None:
    console = Console(file=StringIO())
    with bar("rotating", things=True, console=console) as shown:
        shown.advance(10)
        assert not shown.shown
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
