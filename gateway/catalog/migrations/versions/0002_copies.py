"""Copies, the trash and long work: what is known of each replica, retention, runs, the placement.

A gateway of the version before goes on working: what it does not write has defaults. A version that
it replaces has no row in `replaced`, so it is kept; what it moves to the trash is counted from the moment
a newer one first sees it there. Versions replaced before this migration count as replaced now.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_GAP = "state IN ('missing', 'damaged')"
_MONTH = 30 * 24 * 60 * 60 * 1_000_000


def upgrade() -> None:
    _tenants()
    _trash()
    _replicas()
    _runs()
    _placement()


def _tenants() -> None:
    op.add_column("tenants", sa.Column("quorum", sa.Text(), nullable=True))
    op.add_column("tenants", _number("trash", default=_MONTH))
    op.add_column("tenants", sa.Column("versions_kept", sa.Integer(), nullable=True))
    for name in ("versions_age", "hold", "hold_tick"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=True))


def _trash() -> None:
    for name in ("deleted_tick", "purging"):
        op.add_column("attachments", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("versions", sa.Column("purging", sa.BigInteger(), nullable=True))
    in_trash = "deleted IS NOT NULL AND purging IS NULL"
    _partial("ix_attachments_trash", "attachments", ["tenant", "id"], in_trash)
    _partial("ix_attachments_due", "attachments", ["deleted"], in_trash)
    uncounted = f"{in_trash} AND deleted_tick IS NULL"
    _partial("ix_attachments_uncounted", "attachments", ["deleted_tick"], uncounted)
    dooming = "purging IS NOT NULL AND current IS NOT NULL"
    _partial("ix_attachments_dooming", "attachments", ["id"], dooming)
    _partial("ix_versions_doomed", "versions", ["id"], "purging IS NOT NULL")
    op.create_table(
        "replaced",
        _id("version"),
        _id("tenant"),
        _number("at"),
        _number("tick"),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_replaced")),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name=op.f("fk_replaced_version")),
    )
    op.create_index("ix_replaced_due", "replaced", ["tenant", "at"])
    op.create_table(
        "ticks",
        sa.Column("id", sa.Integer(), nullable=False),
        _id("ticker"),
        _number("counted"),
        _number("last"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticks")),
        sa.CheckConstraint("id = 1", name=op.f("ck_ticks_single")),
    )
    op.execute("UPDATE attachments SET deleted_tick = 0 WHERE deleted IS NOT NULL")
    op.execute(
        sa.text(
            "INSERT INTO replaced (version, tenant, at, tick)"
            " SELECT versions.id, attachments.tenant, CAST(:now AS BIGINT), 0"
            " FROM versions JOIN attachments ON attachments.id = versions.attachment"
            " WHERE versions.number < attachments.current"
        ).bindparams(now=_now())
    )


def _replicas() -> None:
    with op.batch_alter_table("replicas") as batch:
        batch.add_column(sa.Column("since", sa.BigInteger(), nullable=True))
        batch.add_column(
            sa.Column("reason", sa.Text(), nullable=False, server_default=sa.text("''"))
        )
        batch.add_column(
            sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0"))
        )
        for name in ("born", "size", "due", "leased", "leased_until", "checked"):
            batch.add_column(_number(name, default=0))
        batch.drop_constraint(op.f("ck_replicas_state"), type_="check")
        batch.create_check_constraint(
            op.f("ck_replicas_state"), "state IN ('stored', 'missing', 'damaged', 'deleting')"
        )
    gaps = ["target", "born", "version", "due", "leased_until"]
    _partial("ix_replicas_gaps", "replicas", gaps, _GAP)
    op.create_index("ix_replicas_checked", "replicas", ["target", "state", "checked"])


def _runs() -> None:
    op.create_table(
        "runs",
        _id("id"),
        _text("kind"),
        _text("subject"),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        _number("started"),
        _number("touched"),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.CheckConstraint("state IN ('running', 'done', 'failed')", name=op.f("ck_runs_state")),
    )
    op.create_index(
        "uq_runs_running",
        "runs",
        ["kind", "subject"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_runs_kind_subject_started", "runs", ["kind", "subject", "started"])
    op.create_index("ix_runs_started", "runs", ["started"])


def _placement() -> None:
    op.create_table(
        "placement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("primary", sa.Text(), nullable=True),
        _number("since"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_placement")),
        sa.CheckConstraint("id = 1", name=op.f("ck_placement_single")),
    )


def _now() -> int:
    on_sqlite = op.get_context().dialect.name == "sqlite"
    asked = (
        "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000"
        if on_sqlite
        else "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
    )
    return int(op.get_bind().scalar(sa.text(f"SELECT {asked}")) or 0)


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _id(name: str) -> sa.Column[Any]:
    bytewise = postgresql.VARCHAR(32, collation="C")
    return sa.Column(name, sa.String(32).with_variant(bytewise, "postgresql"), nullable=False)


def _text(name: str) -> sa.Column[Any]:
    bytewise = postgresql.TEXT(collation="C")
    return sa.Column(name, sa.Text().with_variant(bytewise, "postgresql"), nullable=False)


def _number(name: str, *, default: int | None = None) -> sa.Column[Any]:
    text = None if default is None else sa.text(str(default))
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=text)
