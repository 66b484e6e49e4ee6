"""`sealgate target`: what it shows, what it asks, and what it refuses."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import ReplicaState, Tenant, Version, new_id, now
from tests.contracts.catalog.samples import put

Invoke = Callable[..., Result]
STORED, MISSING = ReplicaState.STORED, ReplicaState.MISSING


@pytest.fixture
def home(tmp_path: Path) -> Path:
    text = f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\ntimeout = 0.5\n'
    text += f'[catalog]\nurl = "sqlite:///{tmp_path}/catalog.db"\n'
    (tmp_path / "primary").mkdir()
    text += '[[targets]]\nname = "primary"\nrole = "primary"\nkind = "folder"\n'
    (tmp_path / "sealgate.toml").write_text(f'{text}path = "{tmp_path}/primary"\n')
    asyncio.run(migrate(f"sqlite:///{tmp_path}/catalog.db"))
    return tmp_path


@pytest.fixture
def target(home: Path) -> Invoke:
    def call(*words: str, typed: str | None = None) -> Result:
        settings = {"SEALGATE_CONFIG": str(home / "sealgate.toml")}
        return CliRunner().invoke(cli, ["target", *words], env=settings, input=typed)

    return call


def stored(home: Path, *, on_the_primary: ReplicaState) -> Version:
    """Commit a version that west holds."""

    async def add() -> Version:
        catalog = await open_catalog(f"sqlite:///{home}/catalog.db")
        try:
            tenant = Tenant(new_id(), "standard", now())
            await catalog.add_tenant(tenant)
            replicas = {"west": STORED, "primary": on_the_primary}
            return await put(catalog, tenant.id, "secret-name", replicas=replicas)
        finally:
            await catalog.close()

    return asyncio.run(add())


def test_it_is_shown_and_typed_before_it_is_forgotten(home: Path, target: Invoke) -> None:
    stored(home, on_the_primary=STORED)
    shown = target("list")
    assert shown.stdout.splitlines() == [
        "target   configured",
        "primary  yes",
        "west     NO",
    ]
    dry = target("forget", "west", "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.startswith("of west the catalog has 1 replicas, 0 envelopes")
    assert target("forget", "west", typed="east\n").exit_code == 2
    assert target("forget", "west", "--confirm", "east").exit_code == 2
    assert json.loads(target("forget", "west", "--dry-run", "--json").stdout)["replicas"] == 1
    done = target("forget", "west", "--reason", "burnt down", typed="west\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("west is forgotten\n")
    assert json.loads(target("list", "--json").stdout)["targets"] == [
        {"target": "primary", "configured": True}
    ]


def test_what_would_be_lost_is_named_and_has_to_be_accepted(home: Path, target: Invoke) -> None:
    version = stored(home, on_the_primary=MISSING)
    dry = target("forget", "west", "--dry-run")
    assert dry.exit_code == 3
    assert "LAST COPIES: 1 versions" in dry.stdout
    assert version.id in dry.stdout
    assert "secret-name" not in dry.stdout
    refused = target("forget", "west", "--confirm", "west")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("sealgate: west may have the last copies of 1 versions")
    done = target("forget", "west", "--confirm", "west", "--accept-loss", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["replicas"], told["lost"], told["left"]) == (1, 1, 0)


def test_a_configured_one_is_refused_before_anything_is_typed(target: Invoke) -> None:
    done = target("forget", "primary")
    assert done.exit_code == 1
    assert "primary is configured: take it out of the settings" in done.stderr
