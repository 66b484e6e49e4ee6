"""Idempotent uploads: the same key and the same request make one version, however often it is sent.

Guarantees that two requests with one key never both store; that a repetition is answered with the
version of the first one, after its body was compared with that version's sealed digest; and that a key
whose request died is free again after a lease. Keys are stored hashed, and a request's fingerprint
under its key: it covers names and types, which nobody who reads the catalog shall be able to guess.
"""

import hashlib
import hmac
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from gateway.attachments.downloads import Downloads
from gateway.attachments.uploads import Draft, Receipt, Uploads
from gateway.errors import CatalogError, CatalogUnavailable, OperationDiffers, OperationRunning
from gateway.flow.digests import INTERNAL, Digests
from gateway.model import Operation, ReplicaState
from gateway.pacing.background import Background
from gateway.ports import Catalog

LEASE = 60.0  # seconds without a heartbeat after which a claim may be taken over


class Operations:
    """The use case, around uploads and downloads."""

    def __init__(
        self,
        catalog: Catalog,
        uploads: Uploads,
        downloads: Downloads,
        background: Background,
        *,
        lease: float = LEASE,
    ) -> None:
        self._catalog = catalog
        self._uploads = uploads
        self._downloads = downloads
        self._background = background
        self._lease = lease

    async def store_once(
        self,
        draft: Draft,
        source: AsyncIterable[bytes | memoryview],
        *,
        key: str,
        fingerprint: bytes,
    ) -> tuple[Receipt, bool]:
        """Store unless this key has; return the receipt and whether it is a repetition.

        Raises OperationRunning and OperationDiffers besides what an upload raises.
        """
        key_hash = hashlib.sha256(key.encode()).digest()
        mine = Operation(
            draft.tenant, key_hash, hmac.digest(key.encode(), fingerprint, "sha256"), draft.id
        )
        try:
            holder = await self._catalog.claim(mine, timedelta(seconds=self._lease))
        except (CatalogUnavailable, CancelledError):
            # It may have been made, its answer lost, or heard by nobody.
            self._background.start("release an operation", self._release(mine))
            raise
        if holder.fingerprint != mine.fingerprint:
            raise OperationDiffers("this idempotency key was used for another request")
        if holder.upload != draft.id:
            if holder.version is None:
                raise OperationRunning("a request with this idempotency key has not finished")
            return await self._replay(holder.version, draft, source), True
        claimed = replace(
            draft, operation=(draft.tenant, key_hash), wanted=draft.wanted | {INTERNAL}
        )
        try:
            return await self._uploads.store(claimed, source), False
        except Exception:
            # At once: whoever reads of the failure may send the same key again.
            with suppress(CatalogError):
                await self._release(mine)
            raise
        except BaseException:
            self._background.start("release an operation", self._release(mine))
            raise

    async def _replay(
        self, version: str, draft: Draft, source: AsyncIterable[bytes | memoryview]
    ) -> Receipt:
        found = await self._catalog.by_version(draft.tenant, version)
        if draft.length not in {None, found.version.size}:
            raise OperationDiffers("this idempotency key was used for another body")
        opened = await self._downloads.open(found, request_id=draft.request_id)
        body = Digests({INTERNAL, *draft.digests})
        async for data in _bounded(source, found.version.size):
            body.update(data)
        known = opened.attributes.digests
        if body.values()[INTERNAL] != known[INTERNAL]:
            raise OperationDiffers("this idempotency key was used for another body")
        body.verify(draft.digests)
        stored = frozenset(
            name for name, state in found.replicas.items() if state is ReplicaState.STORED
        )
        degraded = await self._uploads.degraded(draft.tenant, stored)
        shown = {name: value for name, value in known.items() if name != INTERNAL}
        missed = frozenset(found.replicas) - stored
        return Receipt(found.attachment, found.version, stored, missed, shown, degraded)

    async def _release(self, mine: Operation) -> None:
        """Free the key, unless the upload went through after all. Fences first, so that it cannot."""
        await self._catalog.fence(mine.upload)
        if not await self._catalog.committed(mine.upload):
            await self._catalog.release(mine.tenant, mine.key_hash, mine.upload)


async def _bounded(
    source: AsyncIterable[bytes | memoryview], most: int
) -> AsyncIterator[bytes | memoryview]:
    """Pass a body on, refusing it as soon as it is longer than the one it repeats."""
    size = 0
    async for data in source:
        size += len(data)
        if size > most:
            raise OperationDiffers("this idempotency key was used for another body")
        yield data
