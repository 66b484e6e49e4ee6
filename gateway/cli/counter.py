"""A count on standard error, where that is a terminal: how many, and how fast."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def counter(text: str, *, console: Console | None = None) -> Iterator[Callable[[int], None]]:
    """Show a count for as long as the block lasts; what is yielded takes the number so far."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=None, rate="")

        def count(number: int) -> None:
            seconds = progress.tasks[0].elapsed or 0.0
            rate = f"{number / seconds:.0f}/s" if seconds else ""
            progress.update(task, completed=number, rate=rate)

        yield count


@contextlib.contextmanager
def telling(text: str) -> Iterator[Callable[[Mapping[str, int]], Awaitable[None]]]:
    """Show a count as `counter` does; what is yielded takes the progress of work, and shows its sum."""
    with counter(text) as count:

        async def told(progress: Mapping[str, int]) -> None:
            count(sum(progress.values()))

        yield told
