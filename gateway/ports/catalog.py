"""The catalog, as those who store and read attachments need it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

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


class Catalog(Protocol):
    """The database: tenants, tokens, attachments, versions, replicas, uploads, operations.

    Every method is one transaction. It tells by its own clock how long something went untouched, so
    that the clocks of those who ask need not agree. Raises only `CatalogError`s and what each method names.
    """

    async def add_tenant(self, tenant: Tenant) -> None:
        """Add a tenant. Raises CatalogConflict if the id is taken."""

    async def tenant(self, tenant: str) -> Tenant:
        """Return a tenant. Raises NotFound."""

    async def tenants(self, after: str | None, limit: int) -> Sequence[Tenant]:
        """Page through tenants in order of id, beginning after `after`."""

    async def set_quorum(self, tenant: str, quorum: str | None) -> None:
        """Set a tenant's policy; None: the configured one. Raises NotFound."""

    async def set_tier(self, tenant: str, tier: str) -> None:
        """Note the tier that the key service has for a tenant. Raises NotFound."""

    async def add_token(self, token: Token) -> None:
        """Keep a token's hash and scope.

        Raises CatalogConflict if the id is taken, NotFound for an unknown tenant.
        """

    async def token(self, token: str) -> Token:
        """Return a token by its public id. Raises NotFound."""

    async def tokens(self, tenant: str | None) -> Sequence[Token]:
        """Every token of a tenant, or every token that is good for all tenants."""

    async def remove_token(self, token: str) -> None:
        """Revoke a token. Raises NotFound."""

    async def begin(self, upload: Upload, reference: str) -> Attachment:
        """Record the intent of an upload and return its attachment.

        When `reference` has a live attachment that one is returned (and recorded in the upload row
        in place of `upload.attachment`); else a new one with id `upload.attachment` is made,
        invisible until a version commits. Two that begin at once for a new reference get the same.
        The upload counts as touched now, whatever it says.
        Raises NotFound for an unknown tenant, CatalogConflict for a reference that cannot be kept
        (empty, over 1024 bytes of UTF-8, with NUL or a lone surrogate).
        """

    async def touch(self, uploads: Sequence[str]) -> None:
        """Heartbeat of running uploads and of the operations that they carry out."""

    async def commit(
        self,
        version: Version,
        replicas: Mapping[str, ReplicaState],
        precondition: Precondition,
        operation: tuple[str, bytes] | None,
        epoch: int = 0,
    ) -> None:
        """Make `version` the current one of its attachment and close its upload, all or nothing.

        `version.id` is the upload's id. Raises UploadLost unless that upload is open,
        PreconditionFailed when `precondition` does not hold, NotFound when the attachment went to
        the trash meanwhile, PlacementChanged when the placement has another epoch than the one by
        whose quorum the upload was stored. Marks the operation (tenant, key hash) as done with this
        version. Calling again after a lost answer raises UploadLost while `committed` says True.
        """

    async def committed(self, upload: str) -> bool:
        """Tell whether this upload became a version (to resolve a commit whose answer was lost)."""

    async def fence(self, upload: str) -> bool:
        """Make sure that an upload can never commit any more; False when it already has.

        True as well for a fenced upload. The row stays, for the reaper, until `forget`. Whoever
        removes what an upload wrote asks here first: a commit whose answer was lost counts.
        """

    async def stale(
        self, grace: timedelta, limit: int, after: Upload | None = None
    ) -> Sequence[Upload]:
        """Fence uploads not touched for `grace` (they can no longer commit) and return them.

        Oldest first; `after` goes on behind the last one of the page before.

        Already fenced ones are returned again until `forget`, so a reaper that died is no loss.
        """

    async def forget(self, upload: str) -> None:
        """Drop an upload whose leftovers are gone. Idempotent.

        Its running operation goes with it, and so does an attachment that never got a version.
        """

    async def known(self, blobs: Sequence[str]) -> frozenset[str]:
        """Of these blobs, the ones that a version (in the trash too), an upload or a reseal owns.

        What a store holds beyond them, and is old enough, is an orphan.
        """

    async def running(self, blobs: Sequence[str]) -> frozenset[str]:
        """Of these blobs, the ones that an upload row owns, or a reseal that is under way."""

    async def find(self, tenant: str, reference: str, version: str | None = None) -> Found:
        """Return the current (or the named) version of a live attachment. Raises NotFound."""

    async def by_version(self, tenant: str, version: str) -> Found:
        """Return a version by its id alone, of an attachment in the trash too. Raises NotFound.

        Answers the repetition of an idempotent request, whose reference the gateway assigned.
        """

    async def versions(
        self, tenant: str, reference: str, after: str | None = None, limit: int = 100
    ) -> Sequence[Found]:
        """Page through the versions of a live attachment, newest first, behind the version `after`.

        With empty envelopes and without inline bodies. Raises NotFound, also when `after` is none of
        its versions.
        """

    async def list(
        self, tenant: str, prefix: str, after: str | None, limit: int
    ) -> Sequence[Found]:
        """Page through the current versions of live attachments in code point order of reference.

        Without inline bodies.
        """

    async def trash(self, tenant: str, reference: str, precondition: Precondition) -> Attachment:
        """Move an attachment to the trash, by the catalog's clock. Raises NotFound, PreconditionFailed."""

    async def claim(self, operation: Operation, lease: timedelta) -> Operation:
        """Claim an idempotency key, or return who holds it.

        Returns `operation` itself when it is now the caller's: the key was free, or its holder did
        not touch it for `lease` (that upload is fenced). Else returns the stored one.
        Claiming again with the same upload, after a lost answer, is safe. Raises NotFound for an
        unknown tenant.
        """

    async def release(self, tenant: str, key_hash: bytes, upload: str) -> None:
        """Give a running claim of `upload` back, so that the client can try again. Idempotent."""

    async def expire(self, age: timedelta) -> int:
        """Forget idempotency keys of ended requests not touched for `age`; return how many."""

    async def check(self) -> None:
        """Raise CatalogUnavailable unless the database answers and its schema is current."""

    async def close(self) -> None:
        """Give back connections. Idempotent."""
