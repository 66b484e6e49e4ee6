"""Which KEK every envelope is under, copies that are stale, what reseals leave, and how often keys rotate.

A gateway of the version before goes on working: what it commits has an empty KEK, which `keks` fills in
later. It takes what a reseal leaves for orphans, and so must be gone before the first reseal.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from gateway.catalog.keks import fill

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("kek_every", "root_every"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("versions", _text("kek", default=""))
    _stale()
    _leftovers()
    after: str | None = ""
    while after is not None:
        after = fill(op.get_bind(), after)
    op.create_index("ix_versions_kek", "versions", ["kek", "id"])


def _stale() -> None:
    op.create_table(
        "stale",
        _id("version"),
        _text("target"),
        _id("tenant"),
        _text("keks"),
        _number("since"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        *(_number(name, default=0) for name in ("due", "leased", "leased_until")),
        sa.Column("unsure", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("version", "target", name=op.f("pk_stale")),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name=op.f("fk_stale_version")),
    )
    op.create_index("ix_stale_due", "stale", ["target", "due", "version"])
    op.create_index("ix_stale_tenant", "stale", ["tenant", "keks", "target"])
    _partial("ix_stale_leased", "stale", ["target", "leased"], "leased > 0")


def _leftovers() -> None:
    op.create_table(
        "leftovers",
        _id("blob"),
        _id("tenant"),
        _id("version"),
        _text("keks"),
        sa.Column("targets", sa.Text(), nullable=False),
        _number("at"),
        sa.Column("tick", sa.BigInteger(), nullable=True),
        sa.Column("purging", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("blob", name=op.f("pk_leftovers")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_leftovers_tenant")),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name=op.f("fk_leftovers_version")),
    )
    op.create_index(op.f("ix_leftovers_version"), "leftovers", ["version"])
    op.create_index("ix_leftovers_tenant", "leftovers", ["tenant", "keks"])
    _partial("ix_leftovers_waiting", "leftovers", ["at"], "purging IS NULL")
    _partial("ix_leftovers_doomed", "leftovers", ["blob"], "purging IS NOT NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _id(name: str) -> sa.Column[Any]:
    bytewise = postgresql.VARCHAR(32, collation="C")
    return sa.Column(name, sa.String(32).with_variant(bytewise, "postgresql"), nullable=False)


def _text(name: str, *, default: str | None = None) -> sa.Column[Any]:
    bytewise = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    text = None if default is None else sa.text(f"'{default}'")
    return sa.Column(name, bytewise, nullable=False, server_default=text)


def _number(name: str, *, default: int | None = None) -> sa.Column[Any]:
    text = None if default is None else sa.text(str(default))
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=text)
