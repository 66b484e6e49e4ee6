"""Bringing the schema up to date, and telling whether it is.

Migrations are Alembic revisions in `migrations/versions`, written by hand and numbered; a test
names what they lack of `tables`. `upgrade` is safe to run from several places at once and again:
one runs, the others wait for it and find nothing to do. A schema that is newer than this code is
accepted: migrations expand before they contract, so the version before still works.
"""

from functools import cache
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, func, inspect, select, table, text

from gateway.errors import CatalogUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x5EA16A7E  # any number, as long as it is ours
_REVISION = table("alembic_version", column("version_num"))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of `connection`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))

    def missing(revision: str, context: MigrationContext) -> list[RevisionStep]:
        del context
        return scripts()._upgrade_revs("head", revision)  # noqa: SLF001  as Alembic's manual has it

    options = {"fn": missing, "transactional_ddl": True}
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


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
    return revision == scripts().get_current_head() or revision in _older()


@cache
def scripts() -> ScriptDirectory:
    """Read the migrations. The first call reads files, so it does not belong on an event loop."""
    scripts = ScriptDirectory(str(_MIGRATIONS))
    scripts.get_heads()  # loads them
    return scripts


def _older() -> set[str]:
    head = scripts().get_current_head()
    return {script.revision for script in scripts().walk_revisions()} - {head}
