"""KEKs that are being retired, under which nothing may come any more.

A gateway of the version before does not know of them: it must be gone before the first KEK is retired.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    bytewise = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    tenant = sa.String(32).with_variant(postgresql.VARCHAR(32, collation="C"), "postgresql")
    op.create_table(
        "retiring",
        sa.Column("kek", bytewise, nullable=False),
        sa.Column("tenant", tenant, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kek", name=op.f("pk_retiring")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_retiring_tenant")),
    )
