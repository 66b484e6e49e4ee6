"""`INSERT ... ON CONFLICT DO NOTHING`, which SQLAlchemy spells once for each database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    unique: Sequence[str],
    where: ColumnElement[bool] | None = None,
) -> bool:
    """Insert a row and return True, or False when a row with these `unique` columns is there.

    On PostgreSQL it waits for a transaction that is about to insert the same.
    """
    if connection.dialect.name == "sqlite":
        on_sqlite = sqlite.insert(table).on_conflict_do_nothing(unique, where)
        return connection.execute(on_sqlite, row).rowcount == 1
    on_postgresql = postgresql.insert(table).on_conflict_do_nothing(
        index_elements=unique, index_where=where
    )
    return connection.execute(on_postgresql, row).rowcount == 1
