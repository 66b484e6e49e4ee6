"""What is printed for a customer who holds their own key, and what settings may name of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from keyservice.cli.main import cli
from keyservice.config import load
from keyservice.layered import ConfigError
from keyservice.vault.setup_held import HeldSetup, policy, role_of, script, section
from keyservice.wiring import app

MINIMAL = """
[development]
token_file = "{folder}/token"
[root.local]
key_file = "{folder}/root.key"
records = "{folder}/records"
[audit]
file = "{folder}/audit"
"""


def test_the_commands_and_the_settings_fit_together(tmp_path: Path) -> None:
    setup = HeldSetup("acme", url="https://vault.acme.example:8200", namespace="acme")
    (tmp_path / "c.toml").write_text(MINIMAL.format(folder=tmp_path) + section(setup))
    (held,) = load(tmp_path / "c.toml").held
    assert (held.name, held.url, held.namespace) == ("acme", setup.url, "acme")
    assert (held.transit_mount, held.transit_key) == (setup.transit_mount, setup.transit_key)
    assert held.approle.mount == setup.approle_mount
    printed = script(setup)
    assert policy(setup) in printed
    assert f"auth/{setup.approle_mount}/role/{setup.role}" in printed


def test_the_policy_gives_no_right_over_the_key_itself() -> None:
    text = policy(HeldSetup("acme"))
    assert '"create"' not in text.replace('Without "create"', "")
    assert not any(
        word in text for word in ("delete", "config", "rotate", "export", "sudo", "+", "*")
    )


def test_addresses_bound_log_ins_and_tokens() -> None:
    role = role_of(HeldSetup("acme", cidrs=("198.51.100.0/24",)))
    assert role["secret_id_bound_cidrs"] == role["token_bound_cidrs"] == ["198.51.100.0/24"]


@pytest.mark.parametrize("name", ["", "a b", "a;b", "$(id)", "a'b", "a\nb", '"', "/a"])
def test_a_name_that_could_be_a_command_is_refused(name: str) -> None:
    done = CliRunner().invoke(cli, ["setup-held", "--name", "acme", "--transit-key", name])
    assert done.exit_code == 2
    assert done.stdout == ""


def test_it_prints_commands_or_settings() -> None:
    commands = CliRunner().invoke(cli, ["setup-held", "--name", "acme", "--command", "bao"])
    assert commands.exit_code == 0
    assert "bao policy write sealgate" in commands.stdout
    settings = CliRunner().invoke(cli, ["setup-held", "--name", "acme", "--settings"])
    assert settings.stdout.startswith("[[held]]\n")
    assert "\ntenants = []  #" in settings.stdout, "nobody, until somebody is named"
    words = ["setup-held", "--name", "acme", "--settings", "--tenant", "a" * 32]
    assert f'\ntenants = ["{"a" * 32}"]' in CliRunner().invoke(cli, words).stdout


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("t" * 40)
    (tmp_path / "c.toml").write_text(
        MINIMAL.format(folder=tmp_path) + section(HeldSetup("acme", url="https://vault:8200"))
    )
    with pytest.raises(ConfigError, match=r"held acme: no such file: .*acme-vault-ca.crt"):
        app.check(load(tmp_path / "c.toml"))
