"""The catalog port over a SQL database: what each method does is in the module of its noun."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from gateway.catalog import attachments, operations, schema, tenants, tokens
from gateway.catalog import uploads as upload_rows
from gateway.catalog.bin import SqlBin
from gateway.catalog.clock import Clock, database_time
from gateway.catalog.database import Database, Shared, bound
from gateway.catalog.dump import SqlDumps
from gateway.catalog.placement import SqlPlacements
from gateway.catalog.recovery import SqlRecovery
from gateway.catalog.replicas import SqlReplicas
from gateway.catalog.runs import SqlRuns
from gateway.catalog.shreds import SqlShreds
from gateway.catalog.traces import SqlTraces
from gateway.catalog.wraps import SqlWraps
from gateway.model import (
    Attachment,
    Found,
    Operation,
    Precondition,
    ReplicaState,
    Tenant,
    Token,
    Upload,
    Version,
)

P = ParamSpec("P")
T = TypeVar("T")


class SqlCatalog:
    """Implements `gateway.ports.Catalog`, and holds the other ports over the same database.

    `gateway.catalog.open_catalog` makes one. Closing it closes them all.
    """

    def __init__(self, database: Database, clock: Clock = database_time) -> None:
        self._database = Shared(database)
        self._clock = clock
        self.replicas = SqlReplicas(self._database, clock)
        self.runs = SqlRuns(self._database, clock)
        self.bin = SqlBin(self._database, clock)
        self.placements = SqlPlacements(self._database, clock)
        self.wraps = SqlWraps(self._database, clock)
        self.shreds = SqlShreds(self._database, clock)
        self.traces = SqlTraces(self._database)

    @property
    def recovery(self) -> SqlRecovery:
        """What brings back a lost catalog from a store."""
        return SqlRecovery(self._database, self._clock)

    @property
    def dumps(self) -> SqlDumps:
        """What copies the catalog, whole."""
        return SqlDumps(self._database, self._clock)

    async def add_tenant(self, tenant: Tenant) -> None:
        """Implement `Catalog.add_tenant`."""
        await self._write(tenants.add, tenant)

    async def tenant(self, tenant: str) -> Tenant:
        """Implement `Catalog.tenant`."""
        return await self._glance(tenants.get, tenant)

    async def tenants(self, after: str | None, limit: int) -> Sequence[Tenant]:
        """Implement `Catalog.tenants`."""
        return await self._read(tenants.page, after, limit)

    async def set_tier(self, tenant: str, tier: str) -> None:
        """Implement `Catalog.set_tier`."""
        await self._write(tenants.set_tier, tenant, tier)

    async def set_quorum(self, tenant: str, quorum: str | None) -> None:
        """Implement `Catalog.set_quorum`."""
        await self._write(tenants.set_quorum, tenant, quorum)

    async def add_token(self, token: Token) -> None:
        """Implement `Catalog.add_token`."""
        await self._write(tokens.add, token)

    async def token(self, token: str) -> Token:
        """Implement `Catalog.token`."""
        return await self._glance(tokens.get, token)

    async def tokens(self, tenant: str | None) -> Sequence[Token]:
        """Implement `Catalog.tokens`."""
        return await self._read(tokens.of, tenant)

    async def remove_token(self, token: str) -> None:
        """Implement `Catalog.remove_token`."""
        await self._write(tokens.remove, token)

    async def begin(self, upload: Upload, reference: str) -> Attachment:
        """Implement `Catalog.begin`."""
        return await self._write(upload_rows.begin, upload, reference, self._clock)

    async def touch(self, uploads: Sequence[str]) -> None:
        """Implement `Catalog.touch`."""
        await self._write(upload_rows.touch, uploads, self._clock)

    async def commit(
        self,
        version: Version,
        replicas: Mapping[str, ReplicaState],
        precondition: Precondition,
        operation: tuple[str, bytes] | None,
        epoch: int = 0,
    ) -> None:
        """Implement `Catalog.commit`."""
        await self._write(
            upload_rows.commit,
            version,
            replicas,
            precondition,
            operation,
            epoch=epoch,
            clock=self._clock,
        )

    async def committed(self, upload: str) -> bool:
        """Implement `Catalog.committed`, behind whatever is still being written."""
        return await self._write(upload_rows.committed, upload)

    async def fence(self, upload: str) -> bool:
        """Implement `Catalog.fence`."""
        return await self._write(upload_rows.fence, upload)

    async def stale(
        self, grace: timedelta, limit: int, after: Upload | None = None
    ) -> Sequence[Upload]:
        """Implement `Catalog.stale`."""
        return await self._write(upload_rows.stale, grace, limit, after, self._clock)

    async def forget(self, upload: str) -> None:
        """Implement `Catalog.forget`."""
        await self._write(upload_rows.forget, upload)

    async def known(self, blobs: Sequence[str]) -> frozenset[str]:
        """Implement `Catalog.known`."""
        return await self._read(upload_rows.known, blobs)

    async def running(self, blobs: Sequence[str]) -> frozenset[str]:
        """Implement `Catalog.running`."""
        return await self._read(upload_rows.running, blobs)

    async def find(self, tenant: str, reference: str, version: str | None = None) -> Found:
        """Implement `Catalog.find`."""
        return await self._glance(attachments.find, tenant, reference, version)

    async def by_version(self, tenant: str, version: str) -> Found:
        """Implement `Catalog.by_version`."""
        return await self._glance(attachments.by_version, tenant, version)

    async def versions(
        self, tenant: str, reference: str, after: str | None = None, limit: int = 100
    ) -> Sequence[Found]:
        """Implement `Catalog.versions`."""
        return await self._read(attachments.versions, tenant, reference, after, limit)

    async def list(
        self, tenant: str, prefix: str, after: str | None, limit: int
    ) -> Sequence[Found]:
        """Implement `Catalog.list`."""
        return await self._read(attachments.page, tenant, prefix, after, limit)

    async def trash(self, tenant: str, reference: str, precondition: Precondition) -> Attachment:
        """Implement `Catalog.trash`."""
        return await self._write(attachments.trash, tenant, reference, precondition, self._clock)

    async def claim(self, operation: Operation, lease: timedelta) -> Operation:
        """Implement `Catalog.claim`."""
        return await self._write(operations.claim, operation, lease, self._clock)

    async def release(self, tenant: str, key_hash: bytes, upload: str) -> None:
        """Implement `Catalog.release`."""
        await self._write(operations.release, tenant, key_hash, upload)

    async def expire(self, age: timedelta) -> int:
        """Implement `Catalog.expire`."""
        return await self._write(operations.expire, age, self._clock)

    async def check(self) -> None:
        """Implement `Catalog.check`."""
        await self._read(schema.require_current)

    async def close(self) -> None:
        """Implement `Catalog.close`."""
        await self._database.close()

    async def _read(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._database.read(bound(work, *args, **kwargs))

    async def _glance(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._database.glance(bound(work, *args, **kwargs))

    async def _write(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._database.write(bound(work, *args, **kwargs))
