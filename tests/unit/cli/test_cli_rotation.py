"""`sealgate tenant rotation`: what it sets, what it leaves, and what it says."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import Tenant, new_id, now

DAY = 86400


class Site:
    """A catalog with one tenant, and nothing else that answers."""

    def __init__(self, home: Path) -> None:
        self.tenant = new_id()
        url = f"sqlite:///{home}/catalog.sqlite"
        (home / "store").mkdir()
        self.config = home / "sealgate.toml"
        self.config.write_text(
            f'[keyservice]\nurl = "unix://{home}/nobody.sock"\n[catalog]\nurl = "{url}"\n'
            f"[rotation]\nbusiness_root = 0\n"
            f'[[targets]]\nname = "a"\nrole = "primary"\nkind = "folder"\npath = "{home}/store"\n'
        )
        asyncio.run(self._fill(url))

    async def _fill(self, url: str) -> None:
        await migrate(url)
        catalog = await open_catalog(url)
        await catalog.add_tenant(Tenant(self.tenant, "business", now()))
        await catalog.close()

    def call(self, *options: str) -> Result:
        arguments = ["tenant", "rotation", self.tenant, *options, "--config", str(self.config)]
        return CliRunner().invoke(cli, arguments)

    def says(self, *options: str) -> tuple[object, object]:
        done = self.call(*options, "--json")
        assert done.exit_code == 0, done.stderr
        shown = json.loads(done.stdout)
        (kek, root) = ((row["every_seconds"] / DAY, row["own"]) for row in shown.values())
        return kek, root


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_is_set_stays_and_the_rest_is_as_configured(site: Site) -> None:
    assert site.says() == ((90, False), (0, False))
    assert site.says("--kek", "30d") == ((30, True), (0, False))
    assert site.says("--root", "48h") == ((30, True), (2, True))
    assert site.says("--never") == ((0, True), (0, True))
    assert site.says("--never", "--kek", "7d") == ((7, True), (0, True))
    assert site.says() == ((7, True), (0, True))
    assert site.says("--default") == ((90, False), (0, False))


def test_it_says_it_in_words(site: Site) -> None:
    site.call("--kek", "30d")
    assert site.call().stdout.splitlines() == ["kek   every 30d", "root  never (default)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kek", "often"], "--kek: a span is a whole number"),
        (["--root", "0d"], "--root: a key is not rotated all the time"),
        (["--default", "--never"], "--default goes with no other schedule"),
    ],
)
def test_what_makes_no_schedule(site: Site, options: list[str], said: str) -> None:
    done = site.call(*options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert site.says() == ((90, False), (0, False))


def test_what_nobody_agrees_to_is_refused_as_by_http(site: Site) -> None:
    done = site.call("--kek", "30d", "--root", "36501d")
    assert done.exit_code == 1
    assert done.stderr == "sealgate: keys are rotated every 36500 days at the least, or never: 0\n"
    assert site.says("--root", "36500d") == ((90, False), (36500, True))


def test_a_tenant_that_is_not_there(site: Site) -> None:
    site.tenant = new_id()
    for options in ([], ["--kek", "30d"]):
        done = site.call(*options)
        assert done.exit_code == 1
        assert "no such tenant" in done.stderr
