"""The migrations, and bringing a schema up to date with them.

Migrations are Alembic revisions in `migrations/versions`, written by hand and numbered; a test
names what they lack of `tables`. `upgrade` is safe to run from several places at once and again:
one runs, the others wait for it and find nothing to do. Alembic costs 10 MiB, so a gateway that
only serves does not import this.
"""

from functools import cache

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from gateway.catalog.schema import MIGRATIONS

_LOCK = 0x5EA16A7E  # any number, as long as it is ours


def upgrade(connection: Connection, *, to: str = "head") -> None:
    """Run the migrations that are missing up to a revision, in the transaction of `connection`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))

    def missing(revision: str, context: MigrationContext) -> list[RevisionStep]:
        del context
        return scripts()._upgrade_revs(to, revision)  # noqa: SLF001  as Alembic's manual has it

    options = {"fn": missing, "transactional_ddl": True}
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


@cache
def scripts() -> ScriptDirectory:
    """Read the migrations. The first call reads files, so it does not belong on an event loop."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    scripts.get_heads()  # loads them
    return scripts
