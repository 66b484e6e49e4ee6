"""`sealgate scrub` over folders and SQLite: what it verifies, what it says, and how it ends."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import Tenant, new_id, now
from gateway.ports import Store
from gateway.stores.folder import FolderStore
from tests.doubles.blobs import Blob, commit, flipped

NAMES = ("primary", "east")


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
            f"[scrub]\npatience = 0.01\n{targets}"
        )

    def call(self, *arguments: str) -> Result:
        environment = {"SEALGATE_CONFIG": str(self.home / "sealgate.toml")}
        return CliRunner().invoke(cli, ["scrub", *arguments], env=environment)

    def told(self, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """Call, and return what it says of each target."""
        done = self.call("--json", *arguments)
        assert done.exit_code == code, done.output
        targets = json.loads(done.stdout)["targets"]
        assert isinstance(targets, dict)
        return targets

    async def fill(self) -> None:
        """Store a few."""
        await migrate(self.url)
        catalog: SqlCatalog = await open_catalog(self.url)
        stores: dict[str, Store] = {name: FolderStore(self.home / name) for name in NAMES}
        await catalog.add_tenant(Tenant(self.tenant, "standard", now()))
        for content, inline in ((b"tiny", True), (b"x" * 70_000, False), (b"y" * 3000, False)):
            blob = await commit(catalog, self.tenant, content, stores, on=NAMES, inline=inline)
            self.blobs.append(blob)
        for store in stores.values():
            await store.close()
        await catalog.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    asyncio.run(made.fill())
    return made


def test_all_of_every_target(site: Site) -> None:
    done = site.call("--all")
    assert (done.exit_code, done.stderr) == (0, "")
    size = str(sum(blob.version.body_size for blob in site.blobs))
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        [name, "3", size, *"000000000"] for name in NAMES
    ]


def test_the_share_of_a_day_is_what_nobody_verified(site: Site) -> None:
    assert site.told("--target", "east")["east"]["verified"] == 3
    assert site.told("--tenant", site.tenant)["primary"]["verified"] == 3


def test_what_is_found_is_named_and_recorded(site: Site) -> None:
    blob = site.blobs[1]
    body = site.home / "east" / blob.body_key
    body.chmod(0o600)
    body.write_bytes(flipped(blob.body, 8 * 69_000))
    told = site.told("--all", code=3)
    assert told["east"]["findings"] == {
        "missing": 0,
        "damaged": 1,
        "replayed": 0,
        "swapped": 0,
        "unopened": 0,
        "orphaned": 0,
        "unmeasured": 0,
    }
    assert told["east"]["troubles"] == [
        {
            "kind": "damaged",
            "reason": "flipped",
            "blob": blob.version.blob,
            "version": blob.version.id,
        }
    ]
    environment = {"SEALGATE_CONFIG": str(site.home / "sealgate.toml")}
    assert CliRunner().invoke(cli, ["repair"], env=environment).exit_code == 0
    assert site.told("--all")["east"]["verified"] == 3


def test_listings_alone(site: Site) -> None:
    shutil.rmtree(site.home / "east" / site.blobs[2].body_key.rsplit("/", 1)[0])
    (site.home / "east" / f"t/{site.tenant}/{new_id()}").mkdir()
    told = site.told("--orphans", "--target", "east", code=3)["east"]
    assert (told["listed"], told["verified"]) == (3, 0)
    assert [each["blob"] for each in told["troubles"]] == [site.blobs[2].version.blob]


def test_a_target_that_is_gone_is_no_finding(site: Site) -> None:
    shutil.move(site.home / "east", site.home / "elsewhere")
    done = site.call("--all")
    assert done.exit_code == 1
    assert "sealgate: target east did not answer" in done.stderr
    shutil.move(site.home / "elsewhere", site.home / "east")
    assert site.told("--all")["east"]["verified"] == 3


def test_without_the_key_service_nothing_opens_and_nothing_is_damaged(site: Site) -> None:
    told = site.told("--target", "east", "--sample-keys", "2")["east"]
    assert (told["locked"], told["opened"], told["verified"]) == (2, 0, 0)
    said = site.call("--target", "east", "--sample-keys", "2").stderr.splitlines()
    assert "sealgate: 2 on east were not opened: the key service had no key for them now" in said
    assert site.told("--target", "east", "--sample-keys", "9")["east"]["locked"] == 3


def test_what_it_cannot_know_it_refuses(site: Site) -> None:
    assert site.call("--target", "moon").exit_code == 2
    assert site.call("--tenant", "0" * 32).exit_code == 1
    refused = site.call("--orphans", "--tenant", site.tenant)
    assert refused.exit_code == 2
    assert "leave out --tenant" in refused.stderr
