"""`INSERT ... ON CONFLICT DO NOTHING`, which SQLAlchemy spells once for each database."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite

from gateway.catalog.prepared import Prepared


def insert_new(
    table: Table, unique: Sequence[str], where: ColumnElement[bool] | None = None
) -> Prepared:
    """Return what inserts a row, or changes none when one with these `unique` columns is there.

    On PostgreSQL it waits for a transaction that is about to insert the same.
    """
    return Prepared(
        postgresql.insert(table).on_conflict_do_nothing(index_elements=unique, index_where=where),
        on_sqlite=sqlite.insert(table).on_conflict_do_nothing(unique, where),
    )
