"""Telling whether the schema is up to date. Bringing it there is `revisions`.

A schema that is newer than this code is accepted: migrations expand before they contract, so the
version before still works.
"""

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from gateway.errors import CatalogUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
_REVISION = table("alembic_version", column("version_num"))


def require_current(connection: Connection) -> None:
    """Raise CatalogUnavailable unless the schema is at least what this code was written for."""
    if not inspect(connection).has_table(_REVISION.name):
        raise CatalogUnavailable("the catalog has no tables yet: run `sealgate migrate`")
    found = connection.scalar(select(_REVISION.c.version_num))
    if found is None or found in _older():
        raise CatalogUnavailable("the catalog's tables are too old: run `sealgate migrate`")


def revision(connection: Connection) -> str:
    """Return the schema's revision, which `knows` takes where this code or a newer one runs."""
    require_current(connection)
    return str(connection.scalar(select(_REVISION.c.version_num)))


def knows(revision: str) -> bool:
    """Tell whether this code can bring rows of such a schema into its own."""
    return revision in known()


@cache
def known() -> tuple[str, ...]:
    """Return all revisions, the oldest first, as their files' names begin. Reads a folder once."""
    return tuple(sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py")))


def _older() -> set[str]:
    return set(known()[:-1])
