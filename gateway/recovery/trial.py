"""One version, restored from one backup into an empty place, opened, and compared with what is in use.

Guarantees that what counts as good was copied into the empty store, opened there, authenticated to the
last byte, and has the length and the digests that the catalog in use knows. What may pass is tried again.
It leaves nothing in the store.
"""

from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from envelope.envelope import decode
from envelope.errors import EnvelopeError
from gateway.attachments.downloads import Downloads
from gateway.errors import DigestMismatch, GatewayError, NotFound, StoreError
from gateway.flow.digests import INTERNAL, SUPPORTED, Digests
from gateway.model import Found, ReplicaState, Version, moment
from gateway.pacing.patience import Patience
from gateway.ports import Catalog, Dumps, Recovery, Runs, Store
from gateway.recovery.rebuild import SKEW
from gateway.repair.copying import Copier
from keyservice.wire import (
    KeyServiceError,
    Shredded,
    Shredding,
    Suspended,
    SuspendedByOwner,
)

SCRATCH: Final = "scratch"
LOCKED: Final = frozenset(
    error.code for error in (Suspended, SuspendedByOwner, Shredding, Shredded)
)
"""Why the keys of a tenant may not be used, and so its versions cannot be opened for a drill."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty catalog and an empty store, which are gone afterwards."""

    catalog: Catalog
    recovery: Recovery
    dumps: Dumps
    runs: Runs
    store: Store


@dataclass(frozen=True, slots=True)
class Trial:
    """What is done with each version once the empty catalog knows it.

    `began` is when whoever filled that catalog did; `patience` is for a store or a key service that is busy
    or away.
    """

    scratch: Scratch
    downloads: Downloads
    copier: Copier
    source: str
    began: datetime
    patience: Patience

    async def run(self, version: Version) -> int | str | None:
        """Restore, open and compare one version; return the length of its content, or why that failed.

        None for one that came since, and that the empty catalog does not know.
        """
        try:
            found = await self.scratch.catalog.by_version(version.tenant, version.id)
        except NotFound:
            late = version.created >= self.began - SKEW  # it came while we were at it
            return None if late else "absent"
        found = replace(found, replicas={SCRATCH: ReplicaState.STORED})
        try:
            _compare(version, found.version, self.began)
            size = await self.patience.keep(lambda: self._restore(found))
            if size != version.size:
                raise DigestMismatch("the content has another length")
        except KeyServiceError as error:
            return error.code if error.code in LOCKED else type(error).__name__
        except (GatewayError, EnvelopeError) as error:
            return type(error).__name__
        return size

    async def _restore(self, found: Found) -> int:
        """Bring one version back, and verify its content; return the length of it."""
        try:
            await self.copier.fill(found.version, SCRATCH, [self.source], replace=False)
            opened = await self.downloads.open(found, request_id="drill")
            expected = {
                name: value
                for name, value in opened.attributes.digests.items()
                if name in {*SUPPORTED, INTERNAL}
            }
            digests, size = Digests(expected), 0
            async with aclosing(self.downloads.read(opened, 0, opened.size)) as stream:
                async for piece in stream:
                    digests.update(piece)
                    size += len(piece)
            digests.verify(expected)
            return size
        finally:
            await self._clear(found.version)

    async def _clear(self, version: Version) -> None:
        """Make room for the next: the scratch store never holds more than is under way."""
        try:
            await self.copier.clear(version, SCRATCH)
        except StoreError:
            return  # it goes with the scratch store


def _compare(known: Version, found: Version, began: datetime) -> None:
    """Raise DigestMismatch unless the backup's version is the one that the catalog in use knows.

    One that was resealed since the drill began is known in two forms.
    """
    ours, theirs = decode(known.envelope), decode(found.envelope)
    times = {ours.core.sealed, theirs.core.sealed}
    same = (known.created, known.size) == (found.created, found.size)
    if same and len(times) > 1 and moment(max(times)) >= began - SKEW:
        return
    if (ours.core, ours.attributes) != (theirs.core, theirs.attributes):
        raise DigestMismatch("the backup has another version than the catalog in use")
