"""`sealgate keys`: what is refused before anybody is asked, and how a status reads and ends."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import keys_retire, keys_status
from gateway.cli.root import cli
from gateway.model import microseconds, moment, now
from gateway.ports import KekUse
from gateway.rotation.due import Schedule, Turn
from gateway.rotation.retirement import Retired
from gateway.rotation.status import KekStatus, KeyStatus
from keyservice.wire import Kek, Rate, RootVersions, TenantKeys, TenantRoot

TENANT = "a" * 32
DAY = timedelta(days=1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sealgate.toml"
    path.write_text(
        f'[keyservice]\nurl = "unix://{tmp_path}/nobody.sock"\n'
        f'[catalog]\nurl = "sqlite:///{tmp_path}/none.sqlite"\n'
        f'[[targets]]\nname = "a"\nrole = "primary"\nkind = "folder"\npath = "{tmp_path}"\n'
    )
    return path


def call(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *words, "--config", str(config)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("move", TENANT), "say where to"),
        (("move", TENANT, "--tier", "gold"), "--tier is business or standard"),
        (("move", TENANT, "--to-own", "--to-held", "x"), "give one of --to-own and --to-held"),
        (("move", TENANT, "--tier", "standard", "--to-own"), "shares the root of all"),
        (("settings", TENANT), "say what to set"),
        (("settings", TENANT, "--rate", "5"), "give --rate and --burst together"),
        (("settings", TENANT, "--rate", "5", "--burst", "5", "--no-rate"), "goes with no --rate"),
        (("retire", TENANT), "name a KEK, or give --all-old"),
        (("retire", TENANT, "kek", "--all-old"), "name a KEK, or give --all-old"),
        (("destroy-root", TENANT, "", "--reason", "r", "--confirm", "x"), "nothing was destroyed"),
        (("suspend", TENANT, "--reason", "\u00fcber"), "printable ASCII"),
        (("suspend", TENANT, "--reason", "x" * 201), "printable ASCII"),
        (("resume", TENANT, "--reason", ""), "printable ASCII"),
        (("ledger", "verify", "--public-key", "zzz"), "32 bytes in base64"),
        (("journal", "--tenant", TENANT, "--public-key", "zzz"), "32 bytes in base64"),
        (("status", "--certificate", "a.crt"), "both --certificate and --private-key"),
        (("status", "--certificate", "/no/a", "--private-key", "/no/b"), "no such file: /no/a"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused(config: Path, words: tuple[str, ...], said: str) -> None:
    done = call(config, *words)
    assert done.exit_code == 2, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(("words", "reads"), [((), True), (("--no-verify",), False)])
def test_to_retire_reads_the_targets_unless_told_otherwise(
    config: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], *, reads: bool
) -> None:
    asked: list[bool] = []

    async def retire(*_: object, verify: bool) -> Sequence[Retired]:
        asked.append(verify)
        return []

    monkeypatch.setattr(keys_retire, "_retire", retire)
    assert call(config, "retire", TENANT, "--all-old", *words).exit_code == 0
    assert asked == [reads]


def _status(*, overdue: bool) -> KeyStatus:
    made = moment(microseconds(now() - 100 * DAY))
    until = microseconds(made + 7 * DAY)
    old = Kek(f"{TENANT}/1-00000001", "retired", microseconds(made - DAY), 3, retirable=until)
    new = Kek(f"{TENANT}/2-00000002", "current", microseconds(made), 3, microseconds(made))
    keys = TenantKeys(
        "business",
        "active",
        root=TenantRoot("held", "acme"),
        cache_ttl=30.0,
        rate=Rate(5.0, 9.0),
        keks=(old, new),
        left=(TenantRoot("own"),),
    )
    use = KekUse(old.id, versions=3, trashed=1, stale={"east": 2}, leftovers=4)
    turn = Turn(90 * DAY, made, made + 90 * DAY, is_due=True, overdue=overdue)
    never = Turn(timedelta(), None, None, is_due=False, overdue=False)
    return KeyStatus(
        TENANT,
        keys,
        RootVersions(3, 3),
        [
            KekStatus(old, made - DAY, use, None, ("2 versions", "2 envelopes on east")),
            KekStatus(new, made, KekUse(new.id, versions=7), made, ("it is current",)),
        ],
        Schedule(90 * DAY, timedelta(), frozenset({"root"})),
        turn,
        never,
    )


def _told(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, KeyStatus | str]) -> None:
    async def look(_settings: object, _tenant: str | None) -> list[tuple[str, KeyStatus | str]]:
        return list(found)

    monkeypatch.setattr(keys_status, "_look", look)


def test_one_tenant_is_shown_whole(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _told(monkeypatch, (TENANT, _status(overdue=False)))
    done = call(config, "status", "--tenant", TENANT)
    assert done.exit_code == 0, done.stderr
    for words in (
        "held by the customer, as acme, version 3",
        "30 seconds",
        "5 keys a second, 9 at once",
        "the first: it was moved away from them",
        "every 90d (default), due ",
        "is kept by: 2 versions; 2 envelopes on east",
        "east 2",
    ):
        assert words in done.stdout
    shown = json.loads(call(config, "status", "--tenant", TENANT, "--json").stdout)
    old, new = shown["keks"]
    assert (old["versions"], old["trashed"], old["stale"], old["leftovers"]) == (
        2,
        1,
        {"east": 2},
        4,
    )
    assert old["blocks"] == ["2 versions", "2 envelopes on east"]
    assert (
        datetime.fromisoformat(old["retirable"]) - datetime.fromisoformat(new["created"]) == 7 * DAY
    )
    assert new["retirable"] is None
    assert (new["state"], new["last_used"]) == ("current", new["created"])
    assert shown["rotation"]["kek"]["every_seconds"] == 90 * 86400
    assert shown["overdue"] is False


@pytest.mark.parametrize("words", [(), ("--json",), ("--tenant", TENANT)], ids=" ".join)
def test_a_missed_rotation_ends_with_3(
    config: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    _told(monkeypatch, (TENANT, _status(overdue=True)))
    done = call(config, "status", *words)
    assert done.exit_code == 3, done.stderr
    assert "OVERDUE" in done.stdout or '"overdue": true' in done.stdout


def test_a_tenant_that_could_not_be_looked_at_is_named(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _told(monkeypatch, (TENANT, _status(overdue=False)), ("b" * 32, "denied"))
    done = call(config, "status")
    assert done.exit_code == 3
    assert len(done.stdout.splitlines()) == 3
    assert "denied" in done.stdout
    shown = json.loads(call(config, "status", "--json").stdout)
    assert shown["tenants"][1] == {"tenant": "b" * 32, "error": "denied"}
