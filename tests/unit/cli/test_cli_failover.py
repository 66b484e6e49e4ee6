"""`sealgate failover`: what it shows, what it asks, and what it refuses."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import migrate, open_catalog
from gateway.cli.root import cli
from gateway.model import Tenant, Version, new_id, now
from tests.contracts.catalog.samples import put

Invoke = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    text = f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\ntimeout = 0.5\n'
    text += f'[catalog]\nurl = "sqlite:///{tmp_path}/catalog.db"\n'
    for name, role in (("primary", "primary"), ("east", "backup"), ("west", "backup")):
        (tmp_path / name).mkdir()
        text += f'[[targets]]\nname = "{name}"\nrole = "{role}"\nkind = "folder"\n'
        text += f'path = "{tmp_path}/{name}"\n'
    (tmp_path / "sealgate.toml").write_text(text)
    asyncio.run(migrate(f"sqlite:///{tmp_path}/catalog.db"))
    return tmp_path


@pytest.fixture
def failover(home: Path) -> Invoke:
    def call(*words: str, typed: str | None = None) -> Result:
        settings = {"SEALGATE_CONFIG": str(home / "sealgate.toml")}
        return CliRunner().invoke(cli, ["failover", *words], env=settings, input=typed)

    return call


def on_the_primary_alone(home: Path) -> Version:
    """Commit a version that no backup holds."""

    async def add() -> Version:
        catalog = await open_catalog(f"sqlite:///{home}/catalog.db")
        try:
            tenant = Tenant(new_id(), "standard", now())
            await catalog.add_tenant(tenant)
            return await put(catalog, tenant.id, "secret-name")
        finally:
            await catalog.close()

    return asyncio.run(add())


def test_before_anybody_decided(failover: Invoke) -> None:
    done = failover("status")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "primary primary, epoch 0",
        "target   role     answers  missing  bytes",
        "primary  primary  yes      0        0",
        "east     backup   yes      0        0",
        "west     backup   yes      0        0",
    ]


def test_a_decision_is_typed(failover: Invoke) -> None:
    for typed in ("west\n", "\n" * 3, None):
        done = failover("promote", "east", typed=typed)
        assert done.exit_code == 2, done.output
    assert (
        "that is not east: nothing was changed"
        in failover("promote", "east", typed="west\n").stderr
    )
    assert json.loads(failover("status", "--json").stdout)["epoch"] == 0

    done = failover("promote", "east", typed="east\n")
    assert done.exit_code == 0
    assert "primary east, epoch 1" in done.stdout

    back = failover("demote", typed="primary\n")
    assert back.exit_code == 0
    assert "primary primary, epoch 2" in back.stdout


def test_what_would_be_lost_is_named_and_has_to_be_accepted(home: Path, failover: Invoke) -> None:
    version = on_the_primary_alone(home)
    (home / "primary").rename(home / "gone")

    shown = failover("status")
    assert shown.exit_code == 3
    assert "AT RISK: 1 versions" in shown.stdout
    assert version.id in shown.stdout
    assert "secret-name" not in shown.stdout
    refused = failover("promote", "east", "--yes")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("sealgate: 1 versions are held only by targets")
    assert refused.stdout == ""

    done = failover("promote", "east", "--yes", "--accept-loss", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert (told["primary"], told["epoch"]) == ("east", 1)
    assert [each["version"] for each in told["at_risk"]] == [version.id]
    assert [(each["target"], each["answers"]) for each in told["targets"]] == [
        ("east", True),
        ("primary", False),
        ("west", True),
    ]

    (home / "gone").rename(home / "primary")
    assert failover("status").exit_code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("promote", "primary"), "primary is the primary already"),
        (("demote",), "primary is the primary already"),
    ],
)
def test_what_is_refused(failover: Invoke, words: tuple[str, ...], why: str) -> None:
    done = failover(*words, "--yes")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"sealgate: {why}")


def test_a_target_that_nobody_knows_is_refused_before_anything_is_asked(failover: Invoke) -> None:
    done = failover("promote", "moon")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "sealgate: no target moon: there are primary, east, west\n"


def test_waiting_has_an_end(home: Path, failover: Invoke) -> None:
    assert failover("promote", "east", "--yes").exit_code == 0
    (home / "primary").rename(home / "gone")
    done = failover("demote", "--wait", "--timeout", "0.2", "--yes")
    assert done.exit_code == 1
    assert "primary has not caught up within 0.2 seconds" in done.stderr
