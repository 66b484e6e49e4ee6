"""`--rate`, `--requests` and `--parallel`: what they set for one run, and what they leave as configured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import repair, rotate_kek, scrub
from gateway.cli.root import cli
from gateway.settings.config import Settings
from gateway.settings.sections import MiB
from tests.doubles.system import system_calls

LINES = {
    "repair": (["repair"], repair, "_repair"),
    "scrub": (["scrub", "--all"], scrub, "_scrub"),
    "rotation": (["rotate", "kek", "--all"], rotate_kek, "_rotate"),
}
Call = Callable[..., Settings]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return what runs a command up to its work, and tells with which settings it would begin."""
    config = tmp_path / "sealgate.toml"
    config.write_text(
        f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\n'
        f'[catalog]\nurl = "sqlite:///{tmp_path}/catalog.sqlite"\n'
        "[repair]\nparallel = 3\n[scrub]\nparallel = 3\n[rotation]\nparallel = 3\n"
        f'[[targets]]\nname = "a"\nrole = "primary"\nkind = "folder"\npath = "{tmp_path}"\n'
    )
    for command in ("rotate_kek", "rotate_root", "reseal"):
        system_calls(monkeypatch, f"gateway.cli.{command}", nice=lambda _: 0)

    def run(section: str, *options: str) -> Settings:
        words, module, work = LINES[section]
        seen: list[Settings] = []

        async def begin(settings: Settings, *_: Any, **__: Any) -> None:
            seen.append(settings)
            raise OSError("that is enough")

        monkeypatch.setattr(module, work, begin)
        done = CliRunner().invoke(cli, [*words, *options, "--config", str(config)])
        assert done.stderr == "sealgate: that is enough\n"
        return seen[0]

    return run


@pytest.mark.parametrize("section", LINES)
def test_a_run_goes_as_fast_as_its_options_say(section: str, call: Call) -> None:
    settings = call(section, "--rate", "2", "--requests", "0", "--parallel", "9")
    chosen = getattr(settings, section)
    assert (chosen.requests_per_second, chosen.parallel) == (0, 9)
    if section == "rotation":
        assert chosen.envelopes_per_second == 2
    else:
        assert chosen.bytes_per_second == 2 * MiB


@pytest.mark.parametrize("section", LINES)
def test_what_no_option_names_is_as_configured(section: str, call: Call) -> None:
    settings = call(section)
    chosen = getattr(settings, section)
    assert chosen == type(chosen)(parallel=3)


@pytest.mark.parametrize("section", LINES)
def test_no_run_is_slower_than_standing_still(section: str) -> None:
    for option, value in (("--rate", "-1"), ("--requests", "-1"), ("--parallel", "0")):
        words = LINES[section][0]
        done = CliRunner().invoke(cli, [*words, option, value])
        assert done.exit_code == 2
        assert option in done.stderr
