"""What a person sees: headings, check marks, a progress bar where there is a terminal, else plain lines.

Lines are never cut or wrapped by us, so that what is printed can be copied whole.
"""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

MiB = 1024 * 1024
GiB = 1024 * MiB


class _Rate(ProgressColumn):
    """How fast it is, in the same units as everything else."""

    def render(self, task: Task) -> Text:
        """Return mebibytes a second."""
        rate = task.finished_speed or task.speed
        return Text(f"{amount(round(rate))}/s" if rate else "", "dim")


class Screen:
    """Writes on one console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        plain = "utf" not in self._console.encoding.lower()
        self._mark = "ok" if plain else "✓"

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self._line()
        self._line(text, "bold")
        self._line()

    def heading(self, number: int, text: str) -> None:
        """Begin a numbered step."""
        if number > 1:
            self._line()
        self._console.print(Text.assemble((f"{number}", "bold cyan"), "  ", (text, "bold")))

    def good(self, text: str, detail: str = "") -> None:
        """Say that something is as it should be."""
        self._marked(self._mark, "bold green", text, detail)

    def row(self, name: str, text: str) -> None:
        """Say that one of several things is ready."""
        self._marked(self._mark, "bold green", f"{name:<14}", text)

    def say(self, text: str = "", style: str = "") -> None:
        """Write a line as it is."""
        self._line(f"   {text}" if text else "", style)

    def copyable(self, text: str) -> None:
        """Write a line that begins in the first column, for copying."""
        self._line(text, "cyan")

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something takes a moment."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(Text(text, "dim"), spinner="dots"):
            yield

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far something is, in bytes, and how fast; gone once it is done."""
        if not self._console.is_terminal:
            yield lambda _: None
            return
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(bar_width=28),
            DownloadColumn(binary_units=True),
            _Rate(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(text, total=total)
            yield lambda count: progress.advance(task, count)

    def _marked(self, mark: str, style: str, text: str, detail: str) -> None:
        shown = Text.assemble("   ", (mark, style), " ", text)
        if detail:
            shown.append(f" {detail}", "dim")
        self._console.print(shown, soft_wrap=True)

    def _line(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


def amount(size: int) -> str:
    """Return bytes for a person."""
    if size >= GiB:
        return f"{size / GiB:,.1f} GiB"
    return f"{size / MiB:,.1f} MiB" if size >= MiB else f"{size:,} bytes"


def speed(size: int, seconds: float) -> str:
    """Return an amount, its time and its rate."""
    return f"{amount(size)} in {seconds:.2f} s, {amount(round(size / max(seconds, 1e-6)))}/s"


def hexadecimal(data: bytes) -> str:
    """Return bytes as a hex dump does: the numbers, then what of them can be read."""
    text = data.decode("latin-1")
    text = "".join(letter if letter.isascii() and letter.isprintable() else "." for letter in text)
    return f"{data.hex(' ')}  {text}"
