"""`sealgate dev`: from nothing to a running stack on this machine, and a tour of it."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import USAGE, fail, run, teach
from gateway.wiring.dev.errors import DevFailed, PlaceRefused
from gateway.wiring.dev.place import Place
from keyservice import logs

if TYPE_CHECKING:
    from gateway.wiring.dev.screen import Screen

INTERRUPTED = 130
MiB = 1024 * 1024
HELP = teach(
    "Start a whole Sealgate on this machine and show it at work. It leaves running a key service, "
    "a gateway, SQLite, and three folders as primary and two backups. Everything lies in one folder "
    "and is used again next time. For trying and developing only: the root key is a file.",
    "sealgate dev",
    "sealgate dev --no-tour --port 9000",
    "sealgate dev --once --size 8",
    "sealgate dev --reset --yes",
    codes="Exit codes: 0 done, 1 a step or a service failed, 2 wrong usage or a folder that is not "
    "ours, 130 interrupted before the tour was done.",
)


def dev(
    *,
    data: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("sealgate-dev"),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the gateway; another if it is taken.")
    ] = 8080,
    size: Annotated[
        int, typer.Option(min=1, max=1024 * 1024, help="MiB of the file in the tour.")
    ] = 100,
    tour: Annotated[bool, typer.Option(help="Take the tour at the start.")] = True,
    once: Annotated[bool, typer.Option("--once", help="Stop after the tour.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Empty the folder first.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before emptying it.")
    ] = False,
) -> None:
    """Start, show, and stay."""
    from gateway.wiring.dev.screen import Screen, amount  # noqa: PLC0415 - help answers at once

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    logs.configure("error")
    place, screen = Place(data.absolute()), Screen()
    try:
        with place.claimed():
            if reset:
                _reset(place, yes=yes)
            new = place.make()
            again = "" if new else f" (again; it holds {amount(place.size())}, --reset empties it)"
            screen.title(f"Sealgate on this machine, in {place.shown()}{again}")
            stay = _dev(place, screen, port=port, size=size * MiB if tour else 0, once=once)
            code = run(stay, DevFailed)
    except PlaceRefused as error:
        fail(str(error), USAGE)
    raise typer.Exit(code)


def _reset(place: Place, *, yes: bool) -> None:
    if not yes:
        typer.confirm(
            f"Remove everything in {place.shown()}, with all keys and attachments in it?",
            abort=True,
        )
    place.empty()


class _Interrupted(Exception):
    """Somebody asked to stop."""


async def _dev(place: Place, screen: "Screen", *, port: int, size: int, once: bool) -> int:
    """Run until the tour is over, something fails, or somebody asks to stop. Returns the exit code."""
    from gateway.wiring.dev import stack, tour, welcome  # noqa: PLC0415 - as above

    stop, code = asyncio.Event(), 0
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            interrupt = group.create_task(_interrupt(stop))
            async with stack.running(place, screen, port=port) as ready:
                if size:
                    await tour.take(ready, screen, place, size)
                interrupt.cancel()
                if not once:
                    welcome.say(screen, place, ready)
                    await stop.wait()
                screen.say()
                screen.say("Stopping the gateway and the key service.", "dim")
    except* _Interrupted:
        code = INTERRUPTED
    screen.say(f"Stopped. Everything is kept in {place.shown()}")
    return code


async def _interrupt(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _Interrupted
