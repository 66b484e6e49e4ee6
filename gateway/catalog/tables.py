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
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
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
    and_,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SETBACK = timedelta(minutes=1)  # a clock that went back further makes leases void
MONTH = timedelta(days=30) // timedelta(microseconds=1)
REFERENCE_BYTES = 1024  # in UTF-8; what S3 allows a key, and far below an index entry's limit


def _partial(name: str, where: ColumnElement[bool], *columns: Column[Any]) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


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


class Span(TypeDecorator[timedelta]):
    """A length of time as integer microseconds, to be added to and taken from a `Moment`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Turn a length into microseconds."""
        del dialect
        return None if value is None else value // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> timedelta | None:
        """Turn microseconds into a length."""
        del dialect
        return None if value is None else timedelta(microseconds=value)


ID = String(32).with_variant(postgresql.VARCHAR(32, collation="C"), "postgresql")
BYTEWISE = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

tenants = Table(
    "tenants",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("quorum", Text),  # null: the configured one
    Column("trash", Span, nullable=False, server_default=text(str(MONTH))),
    Column("versions_kept", Integer),
    Column("versions_age", Span),
    Column("hold", Moment),
    Column("hold_tick", Span),  # when the hold ends in time that `ticks` counted
    Column("kek_every", Span),  # null: as configured
    Column("root_every", Span),
    Column("shred_due", Moment),  # until when an order to destroy its keys waits
    Column("shredded", Moment),  # since when its keys are known to be destroyed
)
_partial("ix_tenants_shred_due", tenants.c.shred_due.is_not(None), tenants.c.id)
_partial("ix_tenants_shredded", tenants.c.shredded.is_not(None), tenants.c.id)

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
    Column("deleted_tick", Span),  # the same in time that `ticks` counted
    Column("purging", Moment),  # since when it is beyond recall
    # Naming the version by both columns lets it belong to no other attachment.
    ForeignKeyConstraint(
        ["id", "current"], ["versions.attachment", "versions.number"], use_alter=True
    ),
)
LIVE = attachments.c.deleted.is_(None)
IN_TRASH = and_(attachments.c.deleted.is_not(None), attachments.c.purging.is_(None))
# Moved there by a gateway of the version before.
UNCOUNTED = and_(IN_TRASH, attachments.c.deleted_tick.is_(None))
# Being purged, with versions that may not be yet.
DOOMING = and_(attachments.c.purging.is_not(None), attachments.c.current.is_not(None))
Index(
    "uq_attachments_live_reference",
    attachments.c.tenant,
    attachments.c.reference,
    unique=True,
    sqlite_where=LIVE,
    postgresql_where=LIVE,
)

_partial("ix_attachments_trash", IN_TRASH, attachments.c.tenant, attachments.c.id)
_partial("ix_attachments_due", IN_TRASH, attachments.c.deleted)
_partial("ix_attachments_uncounted", UNCOUNTED, attachments.c.deleted_tick)
_partial("ix_attachments_dooming", DOOMING, attachments.c.id)

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
    Column("purging", Moment),  # since when nothing may read it
    # What the newest wrap in the envelope needs. Empty: a gateway of the version before wrote the row.
    Column("kek", BYTEWISE, nullable=False, server_default=text("''")),
    UniqueConstraint("attachment", "number"),
    CheckConstraint("size >= 0 AND body_size >= 0", name="sizes"),
)
_partial("ix_versions_doomed", versions.c.purging.is_not(None), versions.c.id)
Index("ix_versions_kek", versions.c.kek, versions.c.id)  # they begin with their tenant's id

CURRENT = and_(
    versions.c.attachment == attachments.c.id, versions.c.number == attachments.c.current
)

# Versions that were current once. A row of its own, so that replacing one rewrites no envelope.
replaced = Table(
    "replaced",
    metadata,
    Column("version", ID, ForeignKey("versions.id"), primary_key=True),
    Column("tenant", ID, nullable=False),
    Column("at", Moment, nullable=False),
    Column("tick", Span, nullable=False),  # the same in time that `ticks` counted
)
Index("ix_replaced_due", replaced.c.tenant, replaced.c.at)

replicas = Table(
    "replicas",
    metadata,
    Column("version", ID, ForeignKey("versions.id"), primary_key=True),
    Column("target", BYTEWISE, primary_key=True),
    Column("state", Text, nullable=False),
    # All that follows has a default, for the commit of a version that is stored everywhere.
    Column("since", Moment),  # when it became a gap: missing or damaged; null: with its version
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("tries", Integer, nullable=False, server_default=text("0")),  # that were in vain
    Column(
        "born", Moment, nullable=False, server_default=text("0")
    ),  # of a gap: its version's time
    Column("size", BigInteger, nullable=False, server_default=text("0")),  # of a gap: bytes to copy
    Column("due", Moment, nullable=False, server_default=text("0")),  # not to be tried before
    Column("leased", Moment, nullable=False, server_default=text("0")),  # when it was claimed last
    Column("leased_until", Moment, nullable=False, server_default=text("0")),  # tells who holds it
    Column("checked", Moment, nullable=False, server_default=text("0")),  # last verified; 0: never
    CheckConstraint("state IN ('stored', 'missing', 'damaged', 'deleting')", name="state"),
)
GAP = replicas.c.state.in_([literal_column("'missing'"), literal_column("'damaged'")])
_partial(
    "ix_replicas_gaps",
    GAP,
    replicas.c.target,
    replicas.c.born,
    replicas.c.version,
    replicas.c.due,
    replicas.c.leased_until,
)
Index("ix_replicas_checked", replicas.c.target, replicas.c.state, replicas.c.checked)

# Copies of envelopes that are not what the catalog has: to be written again.
stale = Table(
    "stale",
    metadata,
    Column("version", ID, ForeignKey("versions.id"), primary_key=True),
    Column("target", BYTEWISE, primary_key=True),
    Column("tenant", ID, nullable=False),
    Column("keks", BYTEWISE, nullable=False),  # that it may be under, between spaces
    Column("since", Moment, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),  # that were in vain
    Column("due", Moment, nullable=False, server_default=text("0")),  # not to be tried before
    Column("leased", Moment, nullable=False, server_default=text("0")),  # when it was claimed last
    Column("leased_until", Moment, nullable=False, server_default=text("0")),  # tells who holds it
    Column("unsure", Boolean, nullable=False, server_default=false()),  # it may be a newer one
)
Index("ix_stale_due", stale.c.target, stale.c.due, stale.c.version)
Index("ix_stale_tenant", stale.c.tenant, stale.c.keks, stale.c.target)
_partial("ix_stale_leased", stale.c.leased > literal_column("0"), stale.c.target, stale.c.leased)

# Blobs of a version beside the one that it has: what a reseal replaced, and what one is writing.
leftovers = Table(
    "leftovers",
    metadata,
    Column("blob", ID, primary_key=True),
    Column("tenant", ID, ForeignKey("tenants.id"), nullable=False),
    Column("version", ID, ForeignKey("versions.id"), nullable=False, index=True),
    Column("keks", BYTEWISE, nullable=False),  # that its envelopes may be under, between spaces
    Column("targets", Text, nullable=False),  # that have a row of it: JSON
    Column("at", Moment, nullable=False),
    Column("tick", Span),  # the same in time that `ticks` counted; null: it is being written
    Column("purging", Moment),  # since when no version can have it
)
Index("ix_leftovers_tenant", leftovers.c.tenant, leftovers.c.keks)
_partial("ix_leftovers_waiting", leftovers.c.purging.is_(None), leftovers.c.at)
_partial("ix_leftovers_doomed", leftovers.c.purging.is_not(None), leftovers.c.blob)

retiring = Table(
    "retiring",  # KEKs under which nothing may come any more
    metadata,
    Column("kek", BYTEWISE, primary_key=True),
    Column("tenant", ID, ForeignKey("tenants.id"), nullable=False),
    Column("at", Moment, nullable=False),
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

runs = Table(
    "runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", BYTEWISE, nullable=False),
    Column("subject", BYTEWISE, nullable=False),
    Column("holder", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Moment, nullable=False),
    Column("touched", Moment, nullable=False),
    Column("ended", Moment),
    Column("cursor", Text, nullable=False),
    Column("progress", Text, nullable=False),  # JSON
    Column("outcome", Text, nullable=False),  # JSON
    CheckConstraint("state IN ('running', 'done', 'failed')", name="state"),
)
RUNNING = runs.c.state == literal_column("'running'")
Index(
    "uq_runs_running",
    runs.c.kind,
    runs.c.subject,
    unique=True,
    sqlite_where=RUNNING,
    postgresql_where=RUNNING,
)
Index("ix_runs_kind_subject_started", runs.c.kind, runs.c.subject, runs.c.started)
Index("ix_runs_started", runs.c.started)

placement = Table(
    "placement",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("primary", Text),  # null: the configured one
    Column("since", Moment, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

# Time as it is counted, whatever the clocks say: it never runs ahead of real time.
ticks = Table(
    "ticks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("ticker", ID, nullable=False),  # whose time counts
    Column("counted", Span, nullable=False),
    Column("last", Moment, nullable=False),  # the database's time at the last count
    CheckConstraint("id = 1", name="single"),
)
