"""What the catalog has about a target: for those who take leave of one that is gone for good.

Rows of a target stay when it is taken out of the settings, since it may come back. While they do, what is
purged waits for it, and so does every older KEK that its copies may be under.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.model import Version


@dataclass(frozen=True, slots=True)
class Trace:
    """What there is about one target: rows of replicas, of stale copies, and of blobs beside versions."""

    target: str
    replicas: int = 0
    stale: int = 0
    leftovers: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing."""
        return not (self.replicas or self.stale or self.leftovers)


class Traces(Protocol):
    """Every method is one transaction. Raises only CatalogErrors.

    `kept` are the targets that are there: what one of them is known to hold stored needs no other.
    """

    async def targets(self) -> Sequence[str]:
        """Name every target that replicas or stale copies have rows of, in order."""

    async def of(self, target: str) -> Trace:
        """Count what there is about a target. Reads every row of it."""

    async def last(
        self, target: str, kept: Collection[str], *, after: str | None = None, limit: int = 500
    ) -> Sequence[Version]:
        """Page, in order of id, through versions whose copy there is the last one that is known of.

        It is stored there, or damaged, and stored on none of `kept`. The trash too, but not what is being
        purged. Without envelopes and inline bodies.
        """

    async def forget(
        self, target: str, kept: Collection[str], limit: int, *, lost: bool = False
    ) -> Trace:
        """Drop up to `limit` rows of each kind; return how many, nothing once there are no more.

        Rows of a last copy stay, as `last` tells them at that moment, unless they are `lost`. Idempotent.
        """
