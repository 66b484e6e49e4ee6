"""Tenants whose keys are to be destroyed, and those whose keys are.

A gateway of the version before goes on working: it serves a dead tenant's listings without names, and
nothing that needs a key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("shred_due", "shredded"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger(), nullable=True))
        condition = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_tenants_{name}",
            "tenants",
            ["id"],
            sqlite_where=condition,
            postgresql_where=condition,
        )
