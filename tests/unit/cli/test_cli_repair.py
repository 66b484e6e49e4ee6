"""`sealgate repair` over folders and SQLite: what it mends, what it says, and how it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import ReplicaState, Tenant, new_id, now
from gateway.ports import Finding, Store
from gateway.repair.verify import check_replica
from gateway.stores.folder import FolderStore
from tests.doubles.blobs import Blob, commit, flipped, overwrite

NAMES = ("primary", "east", "west")


class Site:
    """A gateway's settings, its folders and its catalog, used by one command at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"sqlite:///{home}/catalog.sqlite"
        self.tenant = new_id()
        self.blobs: list[Blob] = []
        targets = ""
        for name in NAMES:
            (home / name).mkdir()
            role = "primary" if name == "primary" else "backup"
            targets += (
                f'[[targets]]\nname = "{name}"\nrole = "{role}"\n'
                f'kind = "folder"\npath = "{home / name}"\n'
            )
        (home / "sealgate.toml").write_text(
            f'[keyservice]\nurl = "unix://{home}/nobody.sock"\n[catalog]\nurl = "{self.url}"\n'
            f"{targets}"
        )

    def call(self, *arguments: str) -> Result:
        environment = {"SEALGATE_CONFIG": str(self.home / "sealgate.toml")}
        return CliRunner().invoke(cli, ["repair", *arguments], env=environment)

    def use(self, work: Callable[[SqlCatalog, dict[str, Store]], Awaitable[None]]) -> None:
        """Do something with the catalog and the stores."""

        async def inside() -> None:
            catalog = await open_catalog(self.url)
            stores: dict[str, Store] = {name: FolderStore(self.home / name) for name in NAMES}
            try:
                await work(catalog, stores)
            finally:
                for store in stores.values():
                    await store.close()
                await catalog.close()

        asyncio.run(inside())

    def whole(self, *names: str) -> None:
        """Show that targets hold every version."""

        async def check(_: SqlCatalog, stores: dict[str, Store]) -> None:
            for blob in self.blobs:
                for name in names:
                    await check_replica(stores[name], blob.version)

        self.use(check)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    asyncio.run(migrate(made.url))

    async def fill(catalog: SqlCatalog, stores: dict[str, Store]) -> None:
        await catalog.add_tenant(Tenant(made.tenant, "standard", now()))
        for content, inline in ((b"tiny", True), (b"x" * 70_000, False), (b"y" * 3000, False)):
            blob = await commit(
                catalog, made.tenant, content, stores, on=["primary"], inline=inline
            )
            made.blobs.append(blob)

    made.use(fill)
    return made


def test_it_brings_back_what_is_missing_everywhere(site: Site) -> None:
    done = site.call()
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["primary", "0", "0", "0", "0", "0", "0", "-"],
        ["east", "3", "0", "0", "0", "0", "0", "-"],
        ["west", "3", "0", "0", "0", "0", "0", "-"],
    ]
    site.whole(*NAMES)


def test_one_target_and_one_tenant(site: Site) -> None:
    done = site.call("--target", "east", "--tenant", site.tenant, "--json", "--until-done")
    assert done.exit_code == 0
    told = json.loads(done.stdout)["targets"]
    assert list(told) == ["east"]
    assert (told["east"]["filled"], told["east"]["pending"]) == (3, 0)
    site.whole("primary", "east")
    assert not list((site.home / "west").rglob("envelope"))


def test_a_dry_run_says_what_is_missing_and_changes_nothing(site: Site) -> None:
    done = site.call("--dry-run", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)["targets"]
    size = sum(blob.version.body_size for blob in site.blobs)
    assert (told["east"]["pending"], told["east"]["pending_bytes"]) == (3, size)
    assert "filled" not in told["east"]
    assert not list((site.home / "east").rglob("envelope"))
    assert site.call("--dry-run", "--target", "primary").exit_code == 0


def test_what_has_no_good_copy_is_a_finding(site: Site) -> None:
    bad = site.blobs[1]

    async def damage(_: SqlCatalog, stores: dict[str, Store]) -> None:
        await overwrite(stores["primary"], bad.body_key, flipped(bad.body, 9))

    site.use(damage)
    done = site.call("--target", "west", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)["targets"]["west"]
    assert (told["filled"], told["unreadable"], told["pending"]) == (2, 1, 1)
    # The primary's copy is known to be damaged now; nothing can mend it, and nothing touches it.
    mended = json.loads(site.call("--target", "primary", "--json").stdout)["targets"]["primary"]
    assert (mended["unreadable"], mended["pending"]) == (1, 1)


def test_what_a_tenant_lacks_is_a_finding_before_it_is_due_again(site: Site) -> None:
    async def damage(_: SqlCatalog, stores: dict[str, Store]) -> None:
        await overwrite(stores["primary"], site.blobs[1].body_key, b"rot")

    site.use(damage)
    words = ("--target", "west", "--tenant", site.tenant, "--json")
    for failed in (1, 0):  # the second one finds nothing that is due
        done = site.call(*words)
        told = json.loads(done.stdout)["targets"]["west"]
        assert (done.exit_code, told["failed"], told["pending"]) == (3, failed, 1)

    async def another(catalog: SqlCatalog, stores: dict[str, Store]) -> None:
        tenant = Tenant(new_id(), "standard", now())
        await catalog.add_tenant(tenant)
        await commit(catalog, tenant.id, b"other", stores, on=["primary"], inline=True)
        site.tenant = tenant.id

    site.use(another)
    done = site.call("--target", "west", "--tenant", site.tenant, "--json")
    told = json.loads(done.stdout)["targets"]["west"]
    assert (done.exit_code, told["filled"], told["pending"]) == (0, 1, 0)


def test_a_damaged_replica_is_mended(site: Site) -> None:
    done = site.call()
    assert done.exit_code == 0, done.output
    blob = site.blobs[1]

    async def damage(catalog: SqlCatalog, stores: dict[str, Store]) -> None:
        await overwrite(stores["primary"], blob.body_key, flipped(blob.body, 9))
        found = Finding(blob.version.id, "primary", ReplicaState.DAMAGED, "flipped")
        assert await catalog.replicas.report([found]) == 1

    site.use(damage)
    done = site.call()
    assert done.exit_code == 0, done.output
    site.whole(*NAMES)


def test_what_it_cannot_know_it_refuses(site: Site) -> None:
    done = site.call("--target", "moon")
    assert (done.exit_code, done.stderr) == (
        2,
        "sealgate: no target moon: there are primary, east, west\n",
    )
    assert site.call("--tenant", "0" * 32).exit_code == 1
    assert site.call("--tenant", site.tenant, "--dry-run").exit_code == 2
