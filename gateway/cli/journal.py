"""`sealgate keys journal`: what was done with a tenant's keys, exported, shown and verified."""

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import keys
from gateway.cli.command import FINDINGS, USAGE, Config, fail, run, show_rows, teach
from gateway.settings.config import Settings
from keyservice import logs
from keyservice.wire import Chain, Denied, Fault, UnknownTenant

SHARED: Final = "shared"
GAP: Final = 1000  # entries in a row: somebody put one far behind the others
_SHARED_ID: Final = "0" * 32
HELP = teach(
    "Show the journal of a tenant's keys. Every creation, rotation, retirement, move, suspension and shred, "
    "with key ids, by whom and why; and how often each key was used, summed up once an hour by default. Each "
    "entry holds the SHA-256 of the one before it: --verify sees what was altered, removed or moved, and "
    "--against compares with an earlier export, which also shows that the newest entries were taken away. "
    "Each is signed as the shred ledger is: with --public-key, it sees what anybody else made. "
    "Keep exports where nobody who runs Vault can write. The journal of the root key that standard tenants "
    "share is that of --tenant shared.",
    "sealgate keys journal --tenant ID",
    "sealgate keys journal --tenant ID --json > ID.jsonl",
    "sealgate keys journal --tenant ID --verify --against ID.jsonl",
    "sealgate keys journal --file ID.jsonl --verify",
    codes="Exit codes: 0 done and, with --verify, nothing was tampered with, 1 it failed, 2 wrong usage or "
    "settings, 3 an entry was altered, removed or moved.",
)


def journal(
    *,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", "-t", metavar="ID", help="The tenant's id, or `shared`."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", help="Show nothing that is older (ISO 8601; UTC unless it says)."
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain of entries.")] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with an earlier export.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read an export, not the key service.")
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(
            "--public-key",
            metavar="BASE64",
            help="Demand that one of these keys signed each entry; repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the entries as JSON lines, as they were written.")
    ] = False,
    certificate: keys.Certificate = None,
    private_key: keys.PrivateKey = None,
    config: Config = None,
) -> None:
    """Journal."""
    if (tenant is None) == (file is None):
        fail("name a tenant with --tenant, or an export with --file", USAGE)
    signers = [keys.public_key(each) for each in public or ()]
    if tenant is not None:
        settings = keys.acting(config, certificate, private_key)
        tenant = _SHARED_ID if tenant == SHARED else tenant
        lines, revision = run(_lines(settings, tenant))
    else:
        lines, revision = _export(file), 0
        tenant = next((str(each.get("tenant")) for each in _documents(lines)), "")
    _show(lines, since, as_json=as_json)
    if verify or against is not None or public:
        faults = _faults(tenant, lines, signers)
        faults += _differences(lines, _export(against) if against is not None else [])
        _verdict(lines, faults + _missing(lines, revision))


async def _lines(settings: Settings, tenant: str) -> tuple[list[str], int]:
    """Return all lines, and the revision of the tenant's record before they were asked for."""
    from gateway.wiring.adapters import key_client  # noqa: PLC0415 - help answers at once

    logs.configure("warning")
    lines: list[str] = []
    revision = 0
    async with await asyncio.to_thread(key_client, settings) as client:
        with suppress(
            Denied, UnknownTenant
        ):  # which is another right, and the shared root is no tenant
            revision = (await client.control.tenant(tenant)).revision
        while True:
            page = await client.control.journal(tenant, after=len(lines), request_id="")
            lines += page.lines
            if page.lines and not any(page.lines) and not any(lines[-GAP:]) and len(lines) > GAP:
                fail(
                    f"no entry is left from {len(lines) - GAP} on, though there is one {page.head}"
                )
            if len(lines) >= page.head or not page.lines:
                return lines, revision


def _export(file: Path | None) -> list[str]:
    try:
        return file.read_text("ascii").splitlines() if file is not None else []
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {type(error).__name__}", USAGE)


def _faults(tenant: str, lines: Sequence[str], public: Sequence[str]) -> list[Fault]:
    chain = Chain(tenant, public)
    return [fault for line in lines if (fault := chain.take(line)) is not None]


def _differences(lines: Sequence[str], earlier: Sequence[str]) -> list[Fault]:
    faults = []
    for number, line in enumerate(earlier, 1):
        if number > len(lines):
            faults.append(Fault(number, "removed: the earlier export has it"))
        elif lines[number - 1] != line:
            faults.append(Fault(number, "differs from the earlier export"))
    return faults


def _missing(lines: Sequence[str], revision: int) -> list[Fault]:
    """Tell whether the tenant's record was changed after the newest entry that says so."""
    told = [entry.get("revision", 0) for entry in _documents(lines)]
    if revision <= max((number for number in told if isinstance(number, int)), default=0):
        return []
    why = f"missing: the tenant's record is at revision {revision}, and no entry tells of that"
    return [Fault(len(lines) + 1, why)]


def _verdict(lines: Sequence[str], faults: Sequence[Fault]) -> None:
    for fault in faults:
        typer.echo(f"entry {fault.sequence}: {fault.what}", err=True)
    if faults:
        raise typer.Exit(FINDINGS)
    head = hashlib.sha256(lines[-1].encode()).hexdigest() if lines else "none"
    typer.echo(f"{len(lines)} entries, none altered; newest {head}", err=True)


def _show(lines: Sequence[str], since: datetime | None, *, as_json: bool) -> None:
    if since is not None:
        aware = since if since.tzinfo else since.replace(tzinfo=UTC)
        first = aware.astimezone(UTC).isoformat(timespec="microseconds")
        lines = [line for line in lines if not _older(line, first)]
    if as_json:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    rows = [_row(each) for each in _folded(list(_documents(lines)))]
    show_rows(("entry", "time", "by", "request", "why", "what"), rows)


def _older(line: str, first: str) -> bool:
    return any(str(each.get("time")) < first for each in _documents([line]))


def _documents(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        yield found if isinstance(found, dict) else {"sequence": number, "kind": "damaged"}


def _folded(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Leave out where a change began if it is there how it ended."""
    ended = {entry.get("of") for entry in entries if entry.get("kind") == "done"}
    return (e for e in entries if e.get("kind") != "begun" or e.get("sequence") not in ended)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    kind = entry.get("kind")
    what = {"uses": _uses, "done": _change, "begun": _begun}.get(str(kind), lambda _: f"{kind}")
    time = str(entry.get("time", ""))[:19].replace("T", " ")
    by = entry.get("caller") or ("" if kind == "uses" else "the key service")
    if kind == "uses":
        by = entry.get("instance", "")
    texts = (entry.get("sequence"), time, by, entry.get("request_id", ""))
    return tuple(map(_plain, (*texts, entry.get("reason", ""), what(entry))))


def _plain(text: object) -> str:
    """Return text that does nothing to a terminal: an entry may be a forgery."""
    return "".join(character if character.isprintable() else "?" for character in f"{text}")


def _begun(entry: dict[str, Any]) -> str:
    return f"{entry.get('operation')}: begun, and no end is known"


def _change(entry: dict[str, Any]) -> str:
    told = [_told(change) for change in entry.get("changes", [])] or [str(entry.get("operation"))]
    outcome = entry.get("outcome")
    return ", ".join(told) + ("" if outcome == "ok" else f" ({outcome})")


def _told(change: dict[str, Any]) -> str:
    rest = " ".join(
        _short(value) if isinstance(value, str) else json.dumps(value)
        for name, value in change.items()
        if name not in {"what", "uncertain"}
    )
    doubt = " (uncertain)" if change.get("uncertain") else ""
    return f"{change.get('what')} {rest}".rstrip() + doubt


def _uses(entry: dict[str, Any]) -> str:
    counts: Counter[str] = Counter()
    for use in entry.get("uses", []):
        outcome = "" if use.get("outcome") == "ok" else f" {use.get('outcome')}"
        kek = f" under {_short(use['kek'])}" if use.get("kek") else ""
        counts[f"{use.get('operation')}{kek}{outcome}"] += use.get("count", 0)
    for call in entry.get("calls", []):
        if call.get("of") != "store":
            outcome = "" if call.get("outcome") == "ok" else f" {call.get('outcome')}"
            counts[f"{call.get('call')} by root {call.get('of')}{outcome}"] += call.get("count", 0)
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing"


def _short(kek: str) -> str:
    """Return a KEK's id without the tenant's, which is in the question."""
    return kek.rpartition("/")[2]
