"""Tenants, tokens, attachments, versions, replicas, uploads and operations.

There is no way down: a migration only adds what the version before can live with.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _tenants()
    _attachments()
    _uploads()


def _tenants() -> None:
    op.create_table(
        "tenants",
        _id("id", nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        _time("created"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "tokens",
        _text("id"),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        _id("tenant", nullable=True),
        sa.Column("rights", sa.Text(), nullable=False),
        _time("created"),
        _time("expires", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_tokens_tenant")),
    )
    op.create_index(op.f("ix_tokens_tenant"), "tokens", ["tenant"])


def _attachments() -> None:
    op.create_table(
        "attachments",
        _id("id", nullable=False),
        _id("tenant", nullable=False),
        _text("reference"),
        _time("created"),
        _time("deleted", nullable=True),
        sa.Column("current", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_attachments_tenant")),
        # SQLite takes a reference to a table that comes later, and cannot add one.
        sa.ForeignKeyConstraint(
            ["id", "current"],
            ["versions.attachment", "versions.number"],
            name=op.f("fk_attachments_id_current"),
            use_alter=True,
        ),
    )
    live = sa.text("deleted IS NULL")
    op.create_index(
        "uq_attachments_live_reference",
        "attachments",
        ["tenant", "reference"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_table(
        "versions",
        _id("id", nullable=False),
        _id("attachment", nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        _id("blob", nullable=False),
        _time("created"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("body_size", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.ForeignKeyConstraint(
            ["attachment"], ["attachments.id"], name=op.f("fk_versions_attachment")
        ),
        sa.UniqueConstraint("attachment", "number", name=op.f("uq_versions_attachment_number")),
        sa.UniqueConstraint("blob", name=op.f("uq_versions_blob")),
        sa.CheckConstraint("size >= 0 AND body_size >= 0", name=op.f("ck_versions_sizes")),
    )
    if _on_postgresql():
        op.create_foreign_key(
            op.f("fk_attachments_id_current"),
            "attachments",
            "versions",
            ["id", "current"],
            ["attachment", "number"],
        )
    op.create_table(
        "replicas",
        _id("version", nullable=False),
        _text("target"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", "target", name=op.f("pk_replicas")),
        sa.ForeignKeyConstraint(["version"], ["versions.id"], name=op.f("fk_replicas_version")),
        sa.CheckConstraint("state IN ('stored', 'missing')", name=op.f("ck_replicas_state")),
    )


def _uploads() -> None:
    op.create_table(
        "uploads",
        _id("id", nullable=False),
        _id("tenant", nullable=False),
        _id("attachment", nullable=False),
        _id("blob", nullable=False),
        _time("started"),
        _time("touched"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_uploads_tenant")),
        sa.ForeignKeyConstraint(
            ["attachment"], ["attachments.id"], name=op.f("fk_uploads_attachment")
        ),
        sa.UniqueConstraint("blob", name=op.f("uq_uploads_blob")),
        sa.CheckConstraint("state IN ('open', 'fenced')", name=op.f("ck_uploads_state")),
    )
    op.create_index(op.f("ix_uploads_attachment"), "uploads", ["attachment"])
    op.create_index(op.f("ix_uploads_touched"), "uploads", ["touched"])
    op.create_table(
        "operations",
        _id("tenant", nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        _id("upload", nullable=False),
        _id("version", nullable=True),
        _time("touched"),
        sa.PrimaryKeyConstraint("tenant", "key_hash", name=op.f("pk_operations")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_operations_tenant")),
    )
    op.create_index(op.f("ix_operations_upload"), "operations", ["upload"])


def _on_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _id(name: str, *, nullable: bool) -> sa.Column[Any]:
    bytewise = postgresql.VARCHAR(32, collation="C")
    return sa.Column(name, sa.String(32).with_variant(bytewise, "postgresql"), nullable=nullable)


def _text(name: str) -> sa.Column[Any]:
    bytewise = postgresql.TEXT(collation="C")
    return sa.Column(name, sa.Text().with_variant(bytewise, "postgresql"), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)
