"""How a lost catalog comes back: version by version from what a store holds, or whole from a dump."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from gateway.model import Tenant, Version

REPLACED: Final = "replaced"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A version whose envelope was authenticated, and the reference that was sealed in it.

    `sealed` is when its content was, if that was later than its creation.
    """

    version: Version = field(repr=False)
    reference: str = field(repr=False)
    sealed: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of what was added."""

    versions: int = 0
    attachments: int = 0
    superseded: int = 0  # put into the trash, since a newer one has their reference


class Recovery(Protocol):
    """Adds versions that the catalog lacks. Every method is one transaction. Raises CatalogErrors.

    Nothing that was added shows anywhere before `settle`, and everything does after it; both may be
    repeated, and begun again after a crash.
    """

    async def empty(self) -> bool:
        """Tell whether there is no tenant, token or attachment, but for what was added and not settled."""

    async def missing(self, blobs: Sequence[str]) -> frozenset[str]:
        """Of these blobs, the ones that no version has, be it settled or not, and none had before.

        Nor those whose reseal is known to have ended; one that was under way may have become a version's.
        """

    async def add(
        self,
        tenants: Sequence[Tenant],
        found: Sequence[Recovered],
        target: str,
        begun: frozenset[str] = frozenset(),
    ) -> Mapping[str, str]:
        """Add what is not there yet, as stored on `target`; tenants that are there stay as they are.

        `begun` are blobs that were `Catalog.running` before they were `missing`, and before they were read:
        such a one can be purged in the meantime. So it is added only while something still names it.

        Of several blobs of one version, those that are there included, the one that was sealed last is the
        version's, on `target` alone as far as is known, and the others are leftovers from now on, as after
        `Wraps.switch`.

        Returns why versions were refused, by blob: `REPLACED` (it is such a leftover), `duplicate` (there
        under another blob that was sealed at the same time), `foreign`
        (the attachment is there as another tenant's or under another reference), `purged` (it is
        being purged, or the blob was since it was read), or `reference` (one that no catalog can hold).
        """

    async def settle(self) -> Settled:
        """Make what was added readable, in one step.

        The versions of an attachment are numbered by their creation, and the newest is current. Of
        several attachments with one reference the one with the newest version is live, and the others
        go to the trash as of now; one that was in the trash before stays there, for all
        of its time again if it got a version.
        """


class Dumps(Protocol):
    """The whole catalog as a stream of bytes, the same whichever database holds it."""

    def dump(self) -> AsyncGenerator[bytes]:
        """Stream every row of one moment, in pieces of about a MiB. Raises CatalogErrors."""

    async def load(self, pieces: AsyncIterable[bytes]) -> Mapping[str, int]:
        """Put a dump into an empty catalog, all of it or nothing; return the rows of each table.

        What is in the trash, or was replaced, waits for all of its time again before it is purged.
        Raises CatalogConflict when the catalog is not empty, Unreadable for what is no dump, is cut
        off or comes from a newer schema, CatalogErrors, and whatever `pieces` raises.
        """
