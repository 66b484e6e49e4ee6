"""`sealgate runs`: what it shows of work that was given back, and of work that nobody did."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import migrate, open_catalog
from gateway.cli.root import cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    url = f"sqlite:///{tmp_path}/catalog.db"
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\n[catalog]\nurl = "{url}"\n'
        f'[[targets]]\nname = "a"\nrole = "primary"\nkind = "folder"\npath = "{tmp_path}"\n'
    )
    asyncio.run(_given_back(url))
    return path


async def _given_back(url: str) -> None:
    """Begin a drill, and give it back before its end."""
    await migrate(url)
    catalog = await open_catalog(url)
    try:
        hour = timedelta(hours=1)
        run = await catalog.runs.claim("drill", "a", holder="me", every=hour, lease=hour)
        assert run is not None
        await catalog.runs.release(run)
    finally:
        await catalog.close()


def call(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["runs", "--config", str(config), *words])


def test_what_was_given_back_is_left_for_the_next(config: Path) -> None:
    (_, line) = call(config).stdout.splitlines()
    kind, subject, state, _, seconds, progress = line.split()
    assert (kind, subject, state, seconds, progress) == ("drill", "a", "left", "-", "-")


def test_what_nobody_did_is_told_apart_from_nothing_at_all(config: Path) -> None:
    for words in (("--kind", "dril"), ("--subject", "b"), ("--all", "--kind", "dril")):
        done = call(config, *words)
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr.startswith("no such run is on record: ")
