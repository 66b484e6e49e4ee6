"""`sealgate runs`: what the workers did, and what they are at."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gateway.cli.command import (
    Config,
    Json,
    opened,
    run,
    settings_of,
    show_json,
    show_rows,
    teach,
)
from gateway.ports import Run, RunState
from gateway.settings.config import Settings

HELP = teach(
    "Show what the workers did last, and what they are at: a line for each kind of work and its subject, "
    "which is a target where there is one. With --all every run that is kept, the newest first. What is "
    "`left` was given back before its end: the next one goes on with it.",
    "sealgate runs",
    "sealgate runs --all --kind drill --json",
)


def runs(
    *,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind of work.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only of this target.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only the last ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --all, at most.")] = 100,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show runs."""
    settings = settings_of(config)
    found = run(_runs(settings, kind, subject, limit if everything else None))
    if as_json:
        show_json({"runs": [_fields(each) for each in found]})
    elif found:
        titles = ("kind", "subject", "state", "started", "seconds", "progress")
        show_rows(titles, [_row(each) for each in found])
    else:
        told = "no such run is on record" if kind or subject else "nothing yet"
        typer.echo(f"{told}: `sealgate worker` does what is due", err=True)


async def _runs(
    settings: Settings, kind: str | None, subject: str | None, limit: int | None
) -> Sequence[Run]:
    async with opened(settings) as wired:
        if limit is not None:
            return await wired.runs.history(kind, subject, limit)
        newest: dict[tuple[str, str], Run] = {}
        for state in RunState:
            for each in await wired.runs.latest(state):
                key = each.kind, each.subject
                if kind in {None, each.kind} and subject in {None, each.subject}:
                    newest[key] = max(newest.get(key, each), each, key=lambda run: run.started)
        return [newest[key] for key in sorted(newest)]


def _left(of: Run) -> bool:
    """Tell whether whoever had it gave it back, so that anybody may go on."""
    return of.state is RunState.RUNNING and of.touched < of.started


def _seconds(of: Run) -> float | None:
    return None if _left(of) else ((of.ended or of.touched) - of.started).total_seconds()


def _row(of: Run) -> list[str]:
    counts = [f"{name} {count}" for name, count in of.progress.items() if count]
    if error := of.outcome.get("error"):
        counts.append(str(error))
    return [
        of.kind,
        of.subject or "-",
        "left" if _left(of) else of.state.value,
        of.started.isoformat(timespec="seconds"),
        "-" if (seconds := _seconds(of)) is None else f"{seconds:.1f}",
        ", ".join(counts) or "-",
    ]


def _fields(of: Run) -> dict[str, Any]:
    return {
        "run": of.id,
        "kind": of.kind,
        "subject": of.subject,
        "state": of.state.value,
        "holder": of.holder,
        "started": of.started.isoformat(),
        "touched": of.touched.isoformat(),
        "ended": of.ended.isoformat() if of.ended else None,
        "progress": dict(of.progress),
        "outcome": dict(of.outcome),
    }
