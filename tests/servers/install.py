"""`python -m tests.servers.install`: get every server's program before the tests need it.

Says what was found where, builds what is missing with its progress in sight, and fails
only under CI: on a laptop the tests that need a missing server are skipped, aloud.
"""

import os
import sys
import time

from tests.servers import binary, postgres


def main() -> int:
    """Find or build all programs; return the exit status."""
    missing = 0
    for recipe in binary.RECIPES:
        if found := binary.find(recipe):
            _say(f"{recipe.name}: {found}")
            continue
        _say(f"{recipe.name} {recipe.version}: building, about {recipe.minutes} min when cold")
        started = time.monotonic()
        try:
            built = binary.obtain(recipe, _Clock(recipe.name))
        except binary.CannotBuild as failure:
            _say(f"{recipe.name}: MISSING: {failure}")
            missing += 1
        else:
            _say(f"{recipe.name}: {built}, built in {time.monotonic() - started:.0f} s")
    if programs := postgres.find_programs():
        _say(f"postgresql: {programs}")
    else:
        _say("postgresql: MISSING: install the development requirements, or PostgreSQL itself")
        missing += 1
    return 1 if missing and os.environ.get("CI") else 0


class _Clock:
    """Shows progress as it comes on a terminal, and every ten seconds in a log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self._pause = 0.2 if sys.stdout.isatty() else 10.0
        self._next = self._started + self._pause

    def __call__(self, state: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._pause
        line = f"servers: {self._name}: {now - self._started:3.0f} s, {state}"
        sys.stdout.write(f"\r{line}" if sys.stdout.isatty() else f"{line}\n")
        sys.stdout.flush()


def _say(line: str) -> None:
    start = "\r\x1b[K" if sys.stdout.isatty() else ""  # over the last progress
    sys.stdout.write(f"{start}servers: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
