"""`sealgate keys journal`: shown, exported and verified, against a key service on a socket."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from envelope.signature import new_signer
from gateway.cli.root import cli
from gateway.wiring import app
from keyservice.wiring.app import running
from tests.service.keyservice.conftest import Site

LOADED = app  # here, since a command would import it on its loop
GATEWAY = """
[keyservice]
url = "{url}"
token_file = "{token}"
[catalog]
url = "sqlite:////nowhere"
[[targets]]
name = "a"
role = "primary"
kind = "folder"
path = "/nowhere"
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where commands are typed."""

    folder: Path
    tenant: str
    lines: Path  # where the key service keeps this tenant's journal

    async def run(self, *words: str) -> Result:
        """Run `sealgate keys journal`."""
        config = {"SEALGATE_CONFIG": str(self.folder / "sealgate.toml")}
        argv = ["keys", "journal", *words]
        return await asyncio.to_thread(lambda: CliRunner().invoke(cli, argv, env=config))

    async def export(self, name: str) -> Path:
        """Export the journal into a file."""
        done = await self.run("--tenant", self.tenant, "--json")
        assert done.exit_code == 0, done.output
        path = self.folder / name
        path.write_text(done.stdout)
        return path


@pytest.fixture
async def desk(site: Site, tenant: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a tenant that was used, set, suspended and resumed."""
    async with (
        running(site.settings(journal={"every": 3600})) as first,
        site.client(first.url) as client,
    ):
        await client.create_tenant(tenant, tier="business")
        await client.data_keys(tenant, [b"c"] * 3, reason="test", request_id="r-1")
    async with (
        running(site.settings()) as service,
        site.client(service.url) as client,
    ):
        await client.control.suspend(tenant, reason="a quiet week", request_id="r-2")
        await client.control.resume(tenant, reason="back again", request_id="r-3")
        text = GATEWAY.format(url=service.url, token=site.folder / "token")
        (tmp_path / "sealgate.toml").write_text(text)
        yield Desk(tmp_path, tenant, site.folder / "records" / "journal" / tenant)


async def test_it_is_shown_to_people(desk: Desk) -> None:
    done = await desk.run("--tenant", desk.tenant, "--verify")
    assert done.exit_code == 0, done.output
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["entry", "time", "by", "request", "why", "what"]
    assert len(rows) == 4  # what began is folded into how it ended
    assert "created own business, kek-created 1-" in rows[0]
    assert "3 data-keys under 1-" in rows[1]
    assert "1 wrap by root own" in rows[1]
    assert rows[2].split()[-5:] == ["r-2", "a", "quiet", "week", "suspended"]
    assert rows[3].split()[-4:] == ["r-3", "back", "again", "resumed"]
    assert "7 entries, none altered" in done.stderr


async def test_it_is_exported_as_it_was_written(desk: Desk) -> None:
    export = await desk.export("one.jsonl")
    lines = export.read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, 8))
    head = hashlib.sha256(lines[-1].encode()).hexdigest()
    kept = sorted(desk.lines.glob("*.json"))
    assert [path.read_text() for path in kept] == lines
    done = await desk.run("--file", str(export), "--verify")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 5)
    public = json.loads(lines[0])["public_key"]
    done = await desk.run("--file", str(export), "--public-key", public)
    assert (done.exit_code, done.stderr) == (0, f"7 entries, none altered; newest {head}\n")
    done = await desk.run("--file", str(export), "--public-key", new_signer().public)
    assert done.exit_code == 3
    assert (await desk.run("--file", str(export), "--public-key", "x")).exit_code == 2
    since = json.loads(lines[5])["time"][:19]
    done = await desk.run("--tenant", desk.tenant, "--since", since, "--json")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-2:] == lines[-2:]
    assert (await desk.run("--tenant", desk.tenant, "--since", "2999-01-01", "--json")).stdout == ""


@pytest.mark.parametrize("how", ["altered", "removed", "cut"])
async def test_tampering_is_found(desk: Desk, how: str) -> None:
    earlier = await desk.export("earlier.jsonl")
    path = desk.lines / ("0000000007.json" if how == "cut" else "0000000004.json")
    if how == "altered":
        path.write_text(path.read_text().replace("a quiet week", "an outage"))
    else:
        path.unlink()
    done = await desk.run("--tenant", desk.tenant, "--verify")
    found = {
        "cut": "entry 7: missing: the tenant's record is at revision 3",
        "removed": "entry 4: removed",
        "altered": "entry 5: does not follow",
    }
    assert done.exit_code == 3
    assert found[how] in done.stderr
    assert ("resume: begun, and no end is known" in done.stdout) == (how == "cut")
    cut = await desk.run("--file", str(await desk.export("cut.jsonl")), "--verify")
    assert cut.exit_code == (0 if how == "cut" else 3)  # the chain alone does not show its end
    done = await desk.run("--tenant", desk.tenant, "--against", str(earlier))
    assert done.exit_code == 3
    assert f"entry {7 if how == 'cut' else 4}: " in done.stderr


async def test_a_forged_entry_does_nothing_to_the_terminal(desk: Desk) -> None:
    path = desk.lines / "0000000004.json"
    path.write_text('{"kind": "done\\u001b[2J", "sequence": 4, "reason": "\\u001b]0;x\\u0007"}')
    done = await desk.run("--tenant", desk.tenant)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    path.write_text("no json")
    assert "damaged" in (await desk.run("--tenant", desk.tenant)).stdout


async def test_an_entry_far_behind_the_others_keeps_nobody_waiting(desk: Desk) -> None:
    (desk.lines / "0099999999.json").write_text("far")
    done = await desk.run("--tenant", desk.tenant, "--verify")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no entry is left from" in done.stderr


async def test_what_cannot_be_shown_is_said_in_one_line(desk: Desk) -> None:
    for words, code, said in (
        (["--tenant", "f" * 32], 1, "no key journal"),
        (["--tenant", "nobody"], 1, "32 lower-case hex"),
        (["--tenant", "shared"], 1, "no key journal"),
        (["--tenant", desk.tenant, "--file", "x"], 2, "--tenant"),
        ([], 2, "--tenant"),
        (["--file", str(desk.folder / "missing")], 2, "cannot be read"),
        (["--tenant", desk.tenant, "--certificate", "x"], 2, "--private-key"),
    ):
        done = await desk.run(*words)
        assert (done.exit_code, done.stdout) == (code, ""), done.output
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
