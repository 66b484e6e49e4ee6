"""`sealgate keys shred`: what it asks before it does anything, and who it acts as."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.root import cli

TENANT = "a" * 32


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give settings with which nothing answers."""
    (tmp_path / "store").mkdir()
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\ntimeout = 0.2\n'
        f'[catalog]\nurl = "sqlite:///{tmp_path}/catalog.sqlite"\n'
        f'[[targets]]\nname = "a"\nrole = "primary"\nkind = "folder"\npath = "{tmp_path}/store"\n'
    )
    return path


def call(config: Path, *words: str, typed: str | None = None) -> Result:
    arguments = ["keys", "shred", *words, "--config", str(config)]
    return CliRunner().invoke(cli, arguments, input=typed)


@pytest.mark.parametrize("what", ["order", "approve", "execute"])
@pytest.mark.parametrize("typed", ["b" * 32, "yes", ""])
def test_another_id_than_the_tenants_does_nothing(config: Path, what: str, typed: str) -> None:
    asked = call(config, what, TENANT, "--reason", "closed", typed=f"{typed}\n" * 3)
    assert asked.exit_code in {1, 2}
    given = call(config, what, TENANT, "--reason", "closed", "--confirm", typed or "x")
    assert given.exit_code == 2
    assert "nothing was done" in given.stderr


def test_it_needs_a_reason_and_both_files_of_an_identity(config: Path, tmp_path: Path) -> None:
    assert call(config, "order", TENANT, "--confirm", TENANT).exit_code == 2
    alone = call(config, "status", TENANT, "--certificate", str(tmp_path / "ada.crt"))
    assert alone.exit_code == 2
    assert "both --certificate and --private-key" in alone.stderr


def test_where_nothing_answers_it_says_so_and_keeps_no_receipt(
    config: Path, tmp_path: Path
) -> None:
    file = tmp_path / "receipt.json"
    done = call(config, "receipt", TENANT, "--receipt", str(file))
    assert done.exit_code == 1
    assert done.stderr.startswith("sealgate: ")
    assert not file.exists()
