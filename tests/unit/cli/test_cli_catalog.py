"""The commands that work on the catalog, each with its output for people, for scripts and for programs."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.catalog import open_catalog
from gateway.cli.root import cli
from gateway.model import Tenant, Token, Upload, new_id, now
from tests.doubles.silence import begin_silent

Invoke = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("primary", "backup"):
        (tmp_path / name).mkdir()
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f"""
[keyservice]
url = "unix://{tmp_path}/nobody.sock"
timeout = 0.5
[catalog]
url = "sqlite:///{tmp_path}/catalog.sqlite"
[[targets]]
name = "primary"
role = "primary"
kind = "folder"
path = "{tmp_path}/primary"
[[targets]]
name = "backup"
role = "backup"
kind = "folder"
path = "{tmp_path}/backup"
"""
    )
    return path


@pytest.fixture
def invoke(config: Path) -> Invoke:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env={"SEALGATE_CONFIG": str(config)})

    return call


@pytest.fixture
def tenant(invoke: Invoke, config: Path) -> str:
    assert invoke("migrate").exit_code == 0
    added = Tenant(new_id(), "standard", now())

    async def add() -> None:
        catalog = await open_catalog(f"sqlite:///{config.parent}/catalog.sqlite")
        await catalog.add_tenant(added)
        await catalog.close()

    asyncio.run(add())
    return added.id


def _kept(config: Path, token: str) -> Token:
    async def get() -> Token:
        catalog = await open_catalog(f"sqlite:///{config.parent}/catalog.sqlite")
        try:
            return await catalog.token(token)
        finally:
            await catalog.close()

    return asyncio.run(get())


def test_a_catalog_without_tables_says_what_to_do(invoke: Invoke) -> None:
    done = invoke("tenant", "list")
    assert done.exit_code == 1
    assert done.stderr == "sealgate: the catalog has no tables yet: run `sealgate migrate`\n"
    assert done.stdout == ""


def test_migrating_may_be_repeated(invoke: Invoke) -> None:
    assert invoke("migrate").stdout == "the catalog is up to date\n"
    assert json.loads(invoke("migrate", "--json").stdout) == {"migrated": True}


def test_checked_settings_name_their_targets(invoke: Invoke, config: Path) -> None:
    shown = invoke("check-config").stdout
    assert shown == "the settings are usable; targets: primary (primary), backup (backup)\n"
    assert json.loads(invoke("check-config", "--json").stdout)["usable"] is True
    (config.parent / "backup").rmdir()
    gone = invoke("check-config")
    assert gone.exit_code == 2
    assert "target backup: no such folder" in gone.stderr


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('role = "backup"', 'role = "mirror"', "targets.1"),
        ("sqlite:///", "mysql:///", "catalog: the catalog cannot be kept in mysql"),
        ('url = "unix:', 'url = "ftp:', "keyservice: key service url must be https"),
        ("[keyservice]", "colour = 1\n[keyservice]", "colour: Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_and_exit_2(
    invoke: Invoke, config: Path, before: str, after: str, said: str
) -> None:
    assert invoke("migrate").exit_code == 0
    config.write_text(config.read_text().replace(before, after))
    done = invoke("token", "list", "--all-tenants")
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_tenants_are_listed_and_shown(invoke: Invoke, tenant: str) -> None:
    assert tenant in invoke("tenant", "list").stdout
    (listed,) = json.loads(invoke("tenant", "list", "--json").stdout)["tenants"]
    assert listed["tenant"] == tenant
    invoke("token", "create", "--tenant", tenant)
    shown = json.loads(invoke("tenant", "show", tenant, "--json").stdout)
    assert shown == {**listed, "quorum": "primary+1 (default)", "tokens": 1}
    assert re.search(rf"tenant +{tenant}\n", invoke("tenant", "show", tenant).stdout)
    missing = invoke("tenant", "show", new_id())
    assert (missing.exit_code, missing.stderr) == (1, "sealgate: no such tenant\n")


def test_a_tenant_has_a_policy_of_its_own(invoke: Invoke, tenant: str) -> None:
    assert "quorum   primary\n" in invoke("tenant", "quorum", tenant, " primary ").stdout
    shown = json.loads(invoke("tenant", "show", tenant, "--json").stdout)
    assert shown["quorum"] == "primary"
    for policy, why in (
        ("primary+9", "primary+9 asks for more backups than there are ("),
        ("regions:2", "regions:2 asks for more regions than the targets name (0)"),
        (
            "some",
            "a quorum policy is made of primary, primary+N, majority, all and regions:N, with",
        ),
    ):
        refused = invoke("tenant", "quorum", tenant, policy)
        assert (refused.exit_code, refused.stderr.startswith(f"sealgate: {why}")) == (1, True)
    assert "primary+1 (default)" in invoke("tenant", "quorum", tenant, "default").stdout


def test_no_tenant_is_created_without_its_key(invoke: Invoke) -> None:
    invoke("migrate")
    done = invoke("tenant", "create")
    assert done.exit_code == 1
    assert done.stderr.startswith("sealgate: key service cannot be reached")
    assert json.loads(invoke("tenant", "list", "--json").stdout) == {"tenants": []}
    wrong = invoke("tenant", "create", "--tier", "gold")
    assert wrong.stderr == "sealgate: tier is one of standard, business\n"


def test_the_text_of_a_token_is_alone_on_standard_output(
    invoke: Invoke, tenant: str, config: Path
) -> None:
    done = invoke("token", "create", "--tenant", tenant, "--text")
    match = re.fullmatch(r"sgt_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\n", done.stdout)
    assert match is not None
    assert done.stderr == ""
    kept = _kept(config, match[1])
    assert kept.secret_hash == hashlib.sha256(match[2].encode()).digest()
    assert sorted(kept.rights) == ["read", "write"]


def test_a_token_is_shown_once_and_never_listed(invoke: Invoke, tenant: str) -> None:
    arguments = ("--tenant", tenant, "--right", "read", "--days", "1")
    made = json.loads(invoke("token", "create", *arguments, "--json").stdout)
    assert made["rights"] == ["read"]
    assert made["text"].startswith(f"sgt_{made['token']}_")
    secret = made["text"].split("_", 2)[2]
    for shown in ((), ("--json",)):
        listed = invoke("token", "list", "--tenant", tenant, *shown)
        assert made["token"] in listed.stdout
        assert secret not in listed.output
    told = invoke("token", "create", *arguments)
    assert "not shown again" in told.stderr
    assert "text     sgt_" in told.stdout


def test_a_token_for_all_tenants_is_not_one_of_a_tenant(invoke: Invoke, tenant: str) -> None:
    made = json.loads(
        invoke("token", "create", "--all-tenants", "--right", "admin", "--json").stdout
    )
    assert made["tenant"] is None
    assert made["token"] in invoke("token", "list", "--all-tenants").stdout
    assert made["token"] not in invoke("token", "list", "--tenant", tenant).output


@pytest.mark.parametrize("scope", [(), ("--tenant", "x", "--all-tenants")])
def test_the_scope_of_a_token_is_named_exactly(
    invoke: Invoke, tenant: str, scope: tuple[str, ...]
) -> None:
    assert tenant
    done = invoke("token", "create", *scope)
    assert done.exit_code == 2
    assert done.stderr == "sealgate: name one of --tenant ID and --all-tenants\n"


def test_a_token_of_an_unknown_tenant_is_not_made(invoke: Invoke, tenant: str) -> None:
    assert tenant
    for command in (("create",), ("list",)):
        done = invoke("token", *command, "--tenant", new_id())
        assert (done.exit_code, done.stderr) == (1, "sealgate: no such tenant\n")


def test_a_revoked_token_is_gone(invoke: Invoke, tenant: str) -> None:
    made = json.loads(invoke("token", "create", "--tenant", tenant, "--json").stdout)
    assert invoke("token", "revoke", made["token"]).stdout == f"token {made['token']} is revoked\n"
    assert json.loads(invoke("token", "list", "--tenant", tenant, "--json").stdout) == {
        "tokens": []
    }
    again = invoke("token", "revoke", made["token"], "--json")
    assert (again.exit_code, again.stderr) == (1, "sealgate: no such token\n")


def test_a_token_pasted_whole_is_not_repeated(invoke: Invoke, tenant: str) -> None:
    text = invoke("token", "create", "--tenant", tenant, "--text").stdout.strip()
    done = invoke("token", "revoke", text)
    assert done.exit_code == 2
    assert text.split("_", 2)[2] not in done.output


def test_reaping_tells_what_went(invoke: Invoke, tenant: str, config: Path) -> None:
    long_ago = now().replace(year=2000)
    upload = Upload(new_id(), tenant, new_id(), new_id(), long_ago, long_ago)

    async def begin() -> None:
        catalog = await open_catalog(f"sqlite:///{config.parent}/catalog.sqlite")
        await begin_silent(catalog, upload, "abandoned")
        await catalog.close()

    asyncio.run(begin())
    left = config.parent / "primary" / "t" / tenant / upload.blob
    left.mkdir(parents=True)
    (left / "body").write_bytes(b"sealed")
    assert invoke("reap").stdout == "removed 1 broken uploads\n"
    assert not (left / "body").exists()
    swept = json.loads(invoke("reap", "--sweep", "--json").stdout)
    assert swept == {"uploads": 0, "parts": 0, "orphans": 0, "waiting": 0, "failed": []}


def test_a_target_that_cannot_be_swept_is_named(invoke: Invoke, tenant: str, config: Path) -> None:
    assert tenant
    (config.parent / "backup").rmdir()
    done = invoke("reap", "--sweep")
    assert done.exit_code == 1
    assert "target backup did not answer" in done.stderr
