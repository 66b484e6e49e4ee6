"""`sealgate rotate dek`: what it refuses before it looks at anything."""

import pytest
from typer.testing import CliRunner

from gateway.cli.root import cli


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "name one of"),
        (("--all", "--tenant", "0" * 32), "name one of"),
        (("--all", "--attachment", "a/b"), "name one of"),
        (("--all", "--version", "0" * 32), "--version needs --attachment"),
        (("--attachment", "0" * 32), "a slash"),
        (("--all", "--before", "yesterday"), "--before takes a time"),
        (("--all", "--parallel", "0"), "parallel"),
    ],
)
def test_wrong_usage_is_told_at_once(words: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(cli, ["rotate", "dek", *words], env={"SEALGATE_CONFIG": ""})
    assert done.exit_code == 2
    assert why in done.stderr
