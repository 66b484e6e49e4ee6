"""`sealgate worker`: does what is due beside requests, until it is told to stop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    USAGE,
    Config,
    Json,
    fail,
    run,
    settings_of,
    show_json,
    show_rows,
    teach,
)
from keyservice import logs

if TYPE_CHECKING:
    from gateway.duties.worker import Turn

KINDS = (
    "reap",
    "sweep",
    "repair",
    "inventory",
    "scrub",
    "rotation",
    "push",
    "purge",
    "shred",
    "shred-ledger",
    "shred-sweep",
    "catalog-backup",
    "drill",
    "full-drill",
)
HELP = teach(
    "Do what is due beside requests, until SIGTERM or Ctrl-C. That is to reap and sweep leftovers, "
    "repair, scrub, rotate keys that are due, push rewrapped envelopes to targets, purge, carry out "
    "orders to destroy keys, copy the shred ledger and the catalog, and drill. Run as many as you like: "
    "each piece of work is a row in the catalog that one of them holds, and what a worker that died was at "
    "is taken over where it stopped. With --once everything, or one kind, is done a single time, due or "
    "not; for cron.",
    "sealgate worker --config /etc/sealgate/sealgate.toml",
    "sealgate worker --once",
    "sealgate worker --once --kind catalog-backup --json",
    codes="Exit codes: 0 done or told to stop, 1 it failed, 2 wrong usage or settings, 3 done, but some "
    "of it failed: `sealgate runs` says why.",
)


def worker(
    *,
    once: Annotated[bool, typer.Option("--once", help="Do it a single time, and end.")] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", help=f"With --once, only: {', '.join(KINDS)}.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the figures (worker.port).")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Work."""
    flags: dict[str, Any] = {} if port is None else {"worker": {"port": port}}
    settings = settings_of(config, flags)
    if not once and (kind is not None or as_json):
        fail("--kind and --json go with --once", USAGE)
    if kind is not None and kind not in KINDS:
        fail(f"no work is called {kind}: there are {', '.join(KINDS)}", USAGE)
    from gateway.wiring import attend  # noqa: PLC0415 - help answers at once

    if not once:
        logs.configure(settings.log_level)
        run(attend.attend(settings))
        return
    logs.configure("warning")
    turns = run(attend.once(settings, kind))
    if as_json:
        show_json({"runs": [_fields(turn) for turn in turns]})
    elif turns:
        show_rows(
            ("kind", "subject", "state", "reason"),
            [
                [turn.duty.kind, turn.duty.subject or "-", _state(turn), _reason(turn)]
                for turn in turns
            ],
        )
    else:
        typer.echo("the settings ask for none of this", err=True)
    if _failed(turns):
        raise typer.Exit(FINDINGS)


def _fields(turn: "Turn") -> dict[str, object]:
    return {
        "kind": turn.duty.kind,
        "subject": turn.duty.subject,
        "state": _state(turn),
        "outcome": dict(turn.run.outcome) if turn.run else {},
    }


def _state(turn: "Turn") -> str:
    return "elsewhere" if turn.run is None else turn.run.state.value


def _reason(turn: "Turn") -> str:
    return str(turn.run.outcome.get("error", "")) if turn.run else "another worker has it"


def _failed(turns: "Sequence[Turn]") -> bool:
    return any(turn.run is not None and turn.run.state == "failed" for turn in turns)
