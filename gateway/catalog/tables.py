"""The catalog's tables, the same on SQLite and PostgreSQL.

Ids are 32 hex characters and references are text, both compared byte by byte whatever the
database's locale, so that UTF-8 order is code point order. Times are integer microseconds since
the epoch: exact, and the same on both. Nothing is ever removed by a cascade.

The tables are made by `migrations/`; a test holds the two together.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REFERENCE_BYTES = 1024  # in UTF-8; what S3 allows a key, and far below an index entry's limit

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """An aware time as integer microseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turn a time into microseconds."""
        del dialect
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Turn microseconds into a time in UTC."""
        del dialect
        return None if value is None else EPOCH + timedelta(microseconds=value)


ID = String(32).with_variant(postgresql.VARCHAR(32, collation="C"), "postgresql")
BYTEWISE = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

tenants = Table(
    "tenants",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("created", Moment, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", BYTEWISE, primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("tenant", ID, ForeignKey("tenants.id"), index=True),  # null: good for every tenant
    Column("rights", Text, nullable=False),  # words in alphabetical order
    Column("created", Moment, nullable=False),
    Column("expires", Moment),
)

attachments = Table(
    "attachments",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant", ID, ForeignKey("tenants.id"), nullable=False),
    Column("reference", BYTEWISE, nullable=False),
    Column("created", Moment, nullable=False),
    Column("deleted", Moment),  # when it went to the trash
    Column("current", Integer),  # number of the version that is served; null before the first
    # Naming the version by both columns lets it belong to no other attachment.
    ForeignKeyConstraint(
        ["id", "current"], ["versions.attachment", "versions.number"], use_alter=True
    ),
)
LIVE = attachments.c.deleted.is_(None)
Index(
    "uq_attachments_live_reference",
    attachments.c.tenant,
    attachments.c.reference,
    unique=True,
    sqlite_where=LIVE,
    postgresql_where=LIVE,
)

versions = Table(
    "versions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("attachment", ID, ForeignKey("attachments.id"), nullable=False),
    Column("number", Integer, nullable=False),  # 1, 2, 3 in order of commit
    Column("blob", ID, nullable=False, unique=True),
    Column("created", Moment, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("body_size", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("inline", LargeBinary),  # apart from the envelope, which listings read
    UniqueConstraint("attachment", "number"),
    CheckConstraint("size >= 0 AND body_size >= 0", name="sizes"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("version", ID, ForeignKey("versions.id"), primary_key=True),
    Column("target", BYTEWISE, primary_key=True),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('stored', 'missing')", name="state"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant", ID, ForeignKey("tenants.id"), nullable=False),
    Column("attachment", ID, ForeignKey("attachments.id"), nullable=False, index=True),
    Column("blob", ID, nullable=False, unique=True),
    Column("started", Moment, nullable=False),
    Column("touched", Moment, nullable=False, index=True),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('open', 'fenced')", name="state"),
)

# `upload` and `version` refer to nothing: a key is claimed before its upload begins, and its
# outcome stays on record after what it named is gone.
operations = Table(
    "operations",
    metadata,
    Column("tenant", ID, ForeignKey("tenants.id"), primary_key=True),
    Column("key_hash", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("upload", ID, nullable=False, index=True),
    Column("version", ID),  # null while it runs
    Column("touched", Moment, nullable=False),
)
