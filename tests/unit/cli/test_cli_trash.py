"""`sealgate trash`: what is listed, brought back and purged, and what a purge asks for."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.attachments.tokens import Tokens
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import Precondition, Right, Tenant, new_id, now
from tests.contracts.catalog.samples import put


class Site:
    """A gateway's settings, and a tenant with two attachments in the trash and one that is live."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"sqlite:///{home}/catalog.db"
        self.tenant = new_id()
        (home / "primary").mkdir()
        (home / "sealgate.toml").write_text(
            f'[keyservice]\nurl = "unix://{home}/nobody.sock"\n[catalog]\nurl = "{self.url}"\n'
            f'[[targets]]\nname = "primary"\nrole = "primary"\nkind = "folder"\npath = "{home}/primary"\n'
        )
        asyncio.run(migrate(self.url))
        self.work(self._fill)

    def work(self, what: Callable[[SqlCatalog], Coroutine[Any, Any, Any]]) -> Any:
        """Do something with the catalog."""

        async def done() -> Any:
            catalog = await open_catalog(self.url)
            try:
                return await what(catalog)
            finally:
                await catalog.close()

        return asyncio.run(done())

    async def _fill(self, catalog: SqlCatalog) -> None:
        await catalog.add_tenant(Tenant(self.tenant, "standard", now()))
        for name in ("live", "one", "two"):
            await put(catalog, self.tenant, name)
        for name in ("one", "two"):
            await catalog.trash(self.tenant, name, Precondition())

    def call(self, *words: str, typed: str | None = None) -> Result:
        """Call `sealgate trash`."""
        settings = {"SEALGATE_CONFIG": str(self.home / "sealgate.toml")}
        return CliRunner().invoke(cli, ["trash", *words], env=settings, input=typed)

    def listed(self) -> dict[str, str]:
        """Return what is in the trash: its id by its reference."""
        shown = self.call("list", self.tenant, "--json")
        assert shown.exit_code == 0, shown.stderr
        return {each["attachment"]: each["trashed"] for each in json.loads(shown.stdout)["trash"]}

    def token(self, rights: Iterable[Right], tenant: str | None = None) -> str:
        """Make a token in a file, for this tenant unless another is named, and return its path."""

        async def create(catalog: SqlCatalog) -> str:
            whose = tenant or self.tenant
            return (await Tokens(catalog).create(whose, rights, lifetime=timedelta(days=1))).text

        path = self.home / f"{new_id()}.token"
        path.touch(mode=0o600)
        path.write_text(self.work(create))
        return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_was_deleted_is_listed_and_comes_back(site: Site) -> None:
    trashed = site.listed()
    assert set(trashed) == {"one", "two"}
    assert trashed["one"] in site.call("list", site.tenant).stdout

    back = site.call("undelete", site.tenant, trashed["one"])

    assert (back.exit_code, back.stdout) == (0, f"{trashed['one']} is back\n")
    assert set(site.listed()) == {"two"}
    again = site.call("undelete", site.tenant, trashed["one"])
    assert again.exit_code == 1
    assert again.stderr == "sealgate: no such attachment in the trash\n"


def test_a_purge_takes_the_right_and_the_id_typed_again(site: Site) -> None:
    trashed = site.listed()["one"]
    words = ("purge", site.tenant, trashed)
    good = ("--token-file", site.token([Right.PURGE]))

    # Each of these is refused, and nothing is gone.
    assert site.call(*words, typed=f"{trashed}\n").exit_code == 2  # without a token
    for typed in ("", "yes\n", f"{site.tenant}\n"):
        assert site.call(*words, *good, typed=typed).exit_code != 0
    assert site.call(*words, *good, "--confirm", "yes").exit_code == 2
    every = set(Right) - {Right.PURGE}
    for token in (site.token(every), site.token([Right.PURGE], tenant=_other(site))):
        refused = site.call(*words, "--token-file", token, "--confirm", trashed)
        assert refused.exit_code == 1
        assert refused.stderr.startswith("sealgate: ")
    assert set(site.listed()) == {"one", "two"}

    done = site.call(*words, *good, typed=f"{trashed}\n")

    assert done.exit_code == 0, done.stderr
    assert "out of reach" in done.stdout
    assert set(site.listed()) == {"two"}


def _other(site: Site) -> str:
    other = new_id()

    async def add(catalog: SqlCatalog) -> None:
        await catalog.add_tenant(Tenant(other, "standard", now()))

    site.work(add)
    return other
