"""Where workers keep their figures: files in one folder, some for each place among the workers.

Guarantees that a worker goes on with the files of the one that had its place before: what was counted stays
counted, and however often workers die there are no more files. Two that run at the same time never have one
place. Nothing outlives the parent, which makes the folder.
"""

import contextlib
import os

from prometheus_client import multiprocess, values

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for what workers share
PLACE = "PROMETHEUS_MULTIPROC_PLACE"  # ours: which of the workers this one is


def environment(folder: str, place: int) -> dict[str, str]:
    """Return what a worker is told by its environment."""
    return {FOLDER: folder, PLACE: str(place)}


def share() -> None:
    """Keep this process's figures where its place says, if it has one. Comes before any figure is made."""
    place = os.environ.get(PLACE)
    if place is not None:
        # The library names files by process id otherwise, and those of the dead would stay.
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)  # type: ignore[no-untyped-call]


def died(folder: str, place: int) -> None:
    """Forget what holds only while a worker lives. Comes before another one has the place."""
    with contextlib.suppress(FileNotFoundError):
        multiprocess.mark_process_dead(place, folder)  # type: ignore[no-untyped-call]
