"""The database that a benchmark has its catalog in."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.postgres import Postgres, find_programs


@contextmanager
def catalog(home: Path, *, postgres: bool) -> Iterator[str]:
    """Return where the catalog is to be: in a file, or on a server which is as durable as any."""
    if not postgres:
        yield f"sqlite:///{home / 'catalog.db'}"
        return
    programs = find_programs()
    if programs is None:
        sys.exit("no PostgreSQL here")
    server = Postgres(programs, home / "postgres", durable=True)
    server.start()
    try:
        yield server.new_database()
    finally:
        server.stop()
