"""A progress bar on standard error, where that is a terminal: how far, how fast, how long to go."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class _Pace(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        return Text("" if task.speed is None else f"{task.speed:.0f}/s")


_MEASURED = (DownloadColumn(binary_units=True), TransferSpeedColumn())
_COUNTED = (MofNCompleteColumn(), _Pace())


class Bar:
    """What a command tells of its progress; silent where nobody looks."""

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self._progress = progress
        self._task = task

    @property
    def shown(self) -> bool:
        """Whether it is worth finding out the total."""
        return self._progress is not None

    def total(self, size: int) -> None:
        """Say how many bytes, or things, it will be."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=size)

    def advance(self, size: int) -> None:
        """Say that so many more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, size)


@contextlib.contextmanager
def bar(text: str, *, things: bool = False, console: Console | None = None) -> Iterator[Bar]:
    """Show a bar for as long as the block lasts; its total may come later. Of bytes, or of `things`."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Bar()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        *(_COUNTED if things else _MEASURED),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task(text, total=None))
