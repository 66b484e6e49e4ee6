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
            built = binary.obtain(recipe)
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


def _say(line: str) -> None:
    sys.stdout.write(f"servers: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
