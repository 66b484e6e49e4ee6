"""The run behind `sealgate restore`: from what was asked for to a work, a journal and a report."""

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from gateway.attachments.downloads import Downloads
from gateway.cli.bar import Bar, bar
from gateway.cli.command import FINDINGS, USAGE, fail, opened, show_json, target_of
from gateway.cli.report import folder_of, key_file_of
from gateway.errors import GatewayError, first
from gateway.keys.standing import SHREDDED, Standing
from gateway.model import now
from gateway.pacing.rate import Rate
from gateway.recovery.account import Circumstances, account
from gateway.recovery.export import Export
from gateway.recovery.journal import Journal, JournalRefused
from gateway.recovery.landing import Landing, LandingRefused
from gateway.recovery.refill import Refill, Verify
from gateway.recovery.report import ReportRefused, Signer, load, make, put
from gateway.recovery.restore import SETTLED, Outcome, Preview, Restore, Scope, Work, anyone
from gateway.repair.copying import Copier
from gateway.settings.config import Settings
from gateway.targets.quorum import Role, Target
from gateway.wiring.core import Core
from keyservice.commandline import version
from keyservice.wire import KeyServiceError

EXPECTED = (JournalRefused, ReportRefused, LandingRefused)
INTERRUPTED = 130
_CHECK = 10.0  # seconds that a source may take to say that it is there


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line. `rate` is in bytes a second."""

    scope: Scope
    source: str | None
    target: str | None
    folder: Path | None
    token_file: Path | None
    verify_only: bool
    dry_run: bool
    ask: bool
    parallel: int
    rate: float
    journal: Path | None
    fresh: bool
    report: Path | None


class _Interrupted(Exception):
    """Somebody asked to stop."""


@dataclass(slots=True)
class _Run:
    """One run: what it works on, where it writes, and how it is told of."""

    work: Work
    restore: Restore
    journal: Journal | None
    about: dict[str, Any]
    shown: Bar = field(default_factory=Bar)


async def restore(settings: Settings, config: Path | None, wish: Wish, *, as_json: bool) -> int:
    """Run to the end, print what came of it, and return the exit code."""
    for name in (wish.source, wish.target):
        if name is not None:
            target_of(settings, name)
    secret = await asyncio.to_thread(_secret, wish)
    folder = folder_of(settings, config)
    signer = None
    if not wish.dry_run:
        signer = await asyncio.to_thread(_signer, key_file_of(settings, config))
    async with opened(settings) as wired:
        with bar("verifying" if wish.verify_only else "restoring") as shown:
            async with _begun(wired, settings, wish, folder, secret, shown) as begun:
                try:
                    await _until_stopped(begun, total=shown.shown)
                except ExceptionGroup as group:
                    return _ended(group, wish)
                report = None
                if begun.journal is not None and signer is not None:
                    report = await asyncio.to_thread(_report, wish, begun, signer)
    return _say(begun, report, as_json=as_json)


@contextlib.asynccontextmanager
async def _begun(  # noqa: PLR0917
    wired: Core, settings: Settings, wish: Wish, folder: Path, secret: str, shown: Bar
) -> AsyncIterator[_Run]:
    """Decide from where to where, and open the journal."""
    await wired.placing.refresh()
    target = None if wish.folder is not None or wish.verify_only else _target(wired, wish)
    sources = await _sources(wired, wish, target)
    mode = "open" if wish.folder else "verify" if wish.verify_only else "restore"
    about = {
        "mode": mode,
        "scope": wish.scope.about(),
        "sources": sorted(source.name for source in sources),
        "destination": target.name
        if target
        else str(wish.folder.absolute())
        if wish.folder
        else None,
    }
    journal = None
    if not wish.dry_run:
        path = wish.journal or folder / f"restore-{_digest(about)}.journal"
        journal = await asyncio.to_thread(
            Journal.open, path.absolute(), about, done=SETTLED, fresh=wish.fresh
        )
        if journal.resumed:
            settled = len(journal.tally.settled)
            typer.echo(f"sealgate: going on with {path}: {settled} versions are done", err=True)
    try:
        run = journal.run if journal else ""
        work = await _work(wired, settings, wish, target, sources, secret, run)
        asked: Callable[[str], Awaitable[str]] = (
            Standing(wired.keys).refusal if wish.ask else anyone
        )
        begun = _Run(
            work,
            Restore(
                Preview(work) if wish.dry_run else work,
                journal,
                refusal=asked,
                parallel=wish.parallel,
                told=lambda result: shown.advance(result.size),
            ),
            journal,
            about,
            shown,
        )
        if wish.scope.tenant is not None:
            await _refuse_shredded(wish.scope.tenant, asked)
        yield begun
    finally:
        if journal is not None:
            await asyncio.to_thread(journal.close)


def _target(wired: Core, wish: Wish) -> Target:
    if wish.target is not None:
        return _named(wired, wish.target)
    primaries = [each for each in wired.placing.now.targets if each.role is Role.PRIMARY]
    if not primaries:
        fail("the target that was promoted is not in the settings: name one with --to", USAGE)
    return primaries[0]


def _named(wired: Core, name: str) -> Target:
    return next(target for target in wired.targets if target.name == name)


async def _sources(wired: Core, wish: Wish, target: Target | None) -> list[Target]:
    """Return where to read from, those that do not answer last."""
    if wish.source is not None:
        if target is not None and target.name == wish.source:
            fail("a target cannot be restored from itself: name another with --from", USAGE)
        return [_named(wired, wish.source)]
    targets = wired.placing.now.targets
    sources = [each for each in targets if target is None or each.name != target.name]
    if not sources:
        fail("there is no other target to restore from", USAGE)
    answers = await asyncio.gather(*(_answers(source) for source in sources))
    return [s for _, s in sorted(zip(answers, sources, strict=True), key=lambda pair: not pair[0])]


async def _answers(source: Target) -> bool:
    try:
        async with asyncio.timeout(_CHECK):
            await source.store.check()
    except (GatewayError, TimeoutError):
        typer.echo(f"sealgate: source {source.name} does not answer; it is asked last", err=True)
        return False
    return True


async def _work(  # noqa: PLR0917
    wired: Core,
    settings: Settings,
    wish: Wish,
    target: Target | None,
    sources: list[Target],
    secret: str,
    run: str,
) -> Work:
    rate, names = Rate(wish.rate), [source.name for source in sources]
    stores = {each.name: each.store for each in wired.targets}
    if wish.folder is not None:
        token = await wired.services.tokens.check(secret)
        landing = Landing(wish.folder)
        export = Export(
            wired.catalog,
            Downloads(wired.catalog, wired.keys, lambda: sources),
            landing,
            token,
            scope=wish.scope,
            sources=names,
            run=run,
            rate=rate,
        )
        if not wish.dry_run:
            await asyncio.to_thread(landing.prepare)
        return export
    if target is None:
        return Verify(
            wired.catalog, wired.replicas, stores, scope=wish.scope, sources=names, rate=rate
        )
    await target.store.check()
    if not wish.dry_run:
        while await wired.replicas.adopt(target.name, 1000):
            pass  # a target that is new to the catalog gets its rows, so that states can be kept
    copier = Copier(
        stores,
        part_size=settings.limits.part_size,
        parallel=settings.limits.parts_at_once,
        rate=rate,
        memory=settings.limits.parts_memory,
    )
    return Refill(
        wired.catalog,
        wired.replicas,
        target.store,
        copier,
        scope=wish.scope,
        target=target.name,
        sources=names,
    )


async def _refuse_shredded(tenant: str, asked: Callable[[str], Awaitable[str]]) -> None:
    """Say at once that there is nothing to restore, rather than refuse it version by version."""
    try:
        reason = await asked(tenant)
    except KeyServiceError as error:
        fail(f"{error}: whether the tenant was shredded is not known; see --without-key-service")
    if reason:
        fail(f"the tenant is {reason}: nothing of it is brought back")


async def _until_stopped(begun: _Run, *, total: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            aside = [group.create_task(_interrupt(stop))]
            if total:
                aside.append(group.create_task(_count(begun)))
            await begun.restore.run()
            for task in aside:
                task.cancel()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _interrupt(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _Interrupted


async def _count(begun: _Run) -> None:
    """Find out the total while the work goes on, for the bar."""
    size = 0
    async with aclosing(begun.work.versions()) as versions:
        async for version in versions:
            size += begun.work.size(version)
    begun.shown.total(size)


def _ended(group: ExceptionGroup[Exception], wish: Wish) -> int:
    """Say why a run could not go on; raise what is for somebody else to say."""
    if group.subgroup(_Interrupted) is not None:
        typer.echo("sealgate: interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    cause = first(group)
    if isinstance(cause, KeyServiceError):
        hint = "" if wish.folder else ", or do without it: see --without-key-service"
        fail(f"{cause}; the same command goes on when it answers{hint}")
    raise group


def _secret(wish: Wish) -> str:
    """Read the token's text from its file or the terminal, never from an argument."""
    if wish.folder is None:
        return ""
    if wish.token_file is not None:
        try:
            return wish.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"cannot read the token in {wish.token_file}: {type(error).__name__}", USAGE)
    if not sys.stdin.isatty():
        fail("--open-into needs a token: name its file with --token-file", USAGE)
    return str(typer.prompt("Token", hide_input=True, err=True)).strip()


def _signer(path: Path) -> Signer:
    try:
        return load(path)
    except FileNotFoundError:
        signer = make(path)
    typer.echo(f"sealgate: made a key for signing reports: {path}", err=True)
    return signer


def _report(wish: Wish, begun: _Run, signer: Signer) -> tuple[Path, dict[str, Any]]:
    """Write the report, then close the journal's account, so that a crash in between repeats both."""
    journal = begun.journal
    if journal is None:
        raise AssertionError  # whoever writes a report has a journal
    circumstances = Circumstances(begun.about, version(), key_service=wish.ask)
    told = account(circumstances, journal, begun.restore.troubles, now())
    path = wish.report or journal.path.with_name(f"{journal.path.stem}.{journal.run}.report.json")
    put(path, json.dumps(signer.sign(told), indent=1, sort_keys=True).encode() + b"\n")
    journal.finish()
    return path, told


def _say(begun: _Run, report: tuple[Path, dict[str, Any]] | None, *, as_json: bool) -> int:
    restore = begun.restore
    counts = {
        outcome.value: {
            "versions": restore.tally.counts[outcome],
            "bytes": restore.tally.sizes[outcome],
        }
        for outcome in Outcome
    }
    troubles = restore.troubles
    if as_json:
        shown = {"dry_run": report is None, "counts": counts, "failed": troubles.failed}
        shown |= {"refused": troubles.refused, "report": str(report[0]) if report else None}
        show_json(shown)
    else:
        would = "would be " if report is None else ""
        for outcome, count in counts.items():
            if count["versions"]:
                said = f"{would}{outcome}: {count['versions']} versions, {count['bytes']} bytes"
                typer.echo(said)
        if not any(count["versions"] for count in counts.values()):
            typer.echo("nothing is in this scope")
        for version, reason in troubles.failed.items():
            typer.echo(f"sealgate: version {version}: {reason}", err=True)
        for tenant, reason in troubles.refused.items():
            typer.echo(f"sealgate: tenant {tenant} left out: {reason}", err=True)
        if report is not None:
            typer.echo(f"report: {report[0]}")
    odd = any(reason != SHREDDED for reason in troubles.refused.values())
    return FINDINGS if troubles.failed or odd else 0


def _digest(about: dict[str, Any]) -> str:
    """Name a run by what it is about, for its journal."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
