"""Bringing the schema up to date, and telling whether it is.

`migrate` is safe to run from several places at once and again: one runs, the others wait for it
and find nothing to do. A schema that is newer than this code is accepted: migrations expand before
they contract, so the version before still works.
"""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, inspect, select, table, text

from gateway.errors import CatalogUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x5EA16A7E  # any number, as long as it is ours
_REVISION = table("alembic_version", column("version_num"))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of `connection`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(select(text("pg_advisory_xact_lock(:lock)")).params(lock=_LOCK))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def require_current(connection: Connection) -> None:
    """Raise CatalogUnavailable unless the schema is at least what this code was written for."""
    if not inspect(connection).has_table(_REVISION.name):
        raise CatalogUnavailable("the catalog has no tables yet: run `sealgate migrate`")
    found = connection.scalar(select(_REVISION.c.version_num))
    if found is None or found in _older():
        raise CatalogUnavailable(
            "the catalog's tables are of an older version: run `sealgate migrate`"
        )


def head() -> str:
    """Return the revision that this code was written for."""
    return _revisions()[0]


def _older() -> tuple[str, ...]:
    return _revisions()[1:]


@cache
def _revisions() -> tuple[str, ...]:
    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
