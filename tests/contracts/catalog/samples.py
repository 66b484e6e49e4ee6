"""Values that the catalog's tests put in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from gateway.catalog import SqlCatalog
from gateway.model import (
    Attachment,
    Operation,
    Precondition,
    ReplicaState,
    Upload,
    Version,
    new_id,
)
from gateway.ports import Catalog

START = datetime(2026, 11, 22, 10, 0, 0, 123457, tzinfo=UTC)  # microseconds have to survive
ANY = Precondition()
ABSENT = Precondition(must_exist=False)
PRESENT = Precondition(must_exist=True)
LEASE = timedelta(seconds=60)
NO_TIME = timedelta()
STORED = {"primary": ReplicaState.STORED, "backup": ReplicaState.MISSING}


@dataclass
class FakeClock:
    """A clock for a catalog, which stands until a test moves it."""

    now: datetime = START

    def __call__(self, connection: Connection) -> datetime:
        """Tell the time that a test set."""
        del connection
        return self.now


def at(seconds: float) -> datetime:
    """Return a time so many seconds after the start."""
    return START + timedelta(seconds=seconds)


def kek_of(tenant: str, number: int = 1) -> str:
    """Return the id of a tenant's KEK."""
    return f"{tenant}/{number}-0000000{number}"


def new_upload(tenant: str, *, started: datetime = START) -> Upload:
    """Return the intent of an upload."""
    return Upload(new_id(), tenant, new_id(), new_id(), started, started)


def version_of(upload: Upload, attachment: Attachment) -> Version:
    """Return what an upload becomes."""
    return Version(
        id=upload.id,
        attachment=attachment.id,
        tenant=upload.tenant,
        blob=upload.blob,
        created=upload.started,
        size=2**40,
        body_size=2**40 + 100,
        envelope=bytes.fromhex(upload.id) * 40,
        kek=kek_of(upload.tenant),
    )


def new_operation(tenant: str, *, key: bytes = b"k" * 32) -> Operation:
    """Return a claim of an idempotency key for a new upload."""
    return Operation(tenant, key, b"f" * 32, new_id())


async def put(
    catalog: Catalog,
    tenant: str,
    reference: str,
    precondition: Precondition = ANY,
    *,
    started: datetime = START,
    replicas: Mapping[str, ReplicaState] = STORED,
) -> Version:
    """Bring an upload from intent to version."""
    upload = new_upload(tenant, started=started)
    version = version_of(upload, await catalog.begin(upload, reference))
    await catalog.commit(version, replicas, precondition, None)
    return version


TICKER = new_id()


class Time:
    """Time that passes for the clock and for one ticker alike, unless a test says otherwise."""

    def __init__(self, catalog: SqlCatalog, clock: FakeClock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def passes(self, elapsed: timedelta) -> None:
        """Let time pass by both clocks."""
        self._clock.now += elapsed
        await self.counts(elapsed)

    def jumps(self, jump: timedelta) -> None:
        """Set the database's clock forward or back."""
        self._clock.now += jump

    async def counts(self, elapsed: timedelta, ticker: str = TICKER) -> None:
        """Let a ticker say how much time has passed."""
        await self._catalog.bin.tick(elapsed, ticker)


async def trashed(catalog: SqlCatalog, tenant: str, reference: str = "a") -> Version:
    version = await put(catalog, tenant, reference)
    await catalog.trash(tenant, reference, ANY)
    return version
