"""Wraps that a target has and the catalog lacks, since it was loaded from a dump of before a rotation.

Guarantees that the catalog takes over nothing but what the key service opens, for exactly this version, and
what opens the attributes that the catalog has; only under a KEK that the key service says is newer, whatever
time a wrap claims; and only while nobody else rewraps the version. What it had is not lost by that, since the
key is the same. From then on every target's copy is stale until it is written again.
"""

from collections.abc import Sequence

import structlog

from envelope.envelope import Envelope, encode_bare
from gateway.errors import StoreDamaged
from gateway.model import Version
from gateway.pacing.rate import Rate
from gateway.ports import Rewrapped, Store, Wraps
from gateway.repair.opening import Opening
from gateway.repair.verify import Under, known_envelope

log = structlog.get_logger()


class Newer:
    """The mechanism, over one catalog and one key service."""

    def __init__(self, wraps: Wraps, opening: Opening) -> None:
        self._wraps = wraps
        self._opening = opening

    async def take(self, store: Store, version: Version, rate: Rate) -> Under:
        """Put a store's envelope of a version in place of the catalog's, unless it is an older one after all.

        Returns what it is under. Raises CatalogErrors, and what `Opening.envelope` raises.
        """
        found, known = await self._opening.envelope(store, version, rate), known_envelope(version)
        if (found.core, found.attributes, found.body) != (known.core, known.attributes, known.body):
            raise StoreDamaged("an envelope changed while it was read", reason="flipped")
        kek = found.newest.kek
        order = await self._opening.keks(version.tenant)
        if _place(order, kek) <= _place(order, version.kek):
            return Under(kek)
        if await self._give(version, found):
            return Under(kek, ahead=True)
        # Somebody else changed it meanwhile, or nothing comes under that KEK any more.
        await self._give(version, await self._opening.renewed(found))
        return Under(kek)

    async def _give(self, version: Version, envelope: Envelope) -> bool:
        bare, kek = encode_bare(envelope), envelope.newest.kek
        change = Rewrapped(version.id, version.blob, version.kek, kek, bare)
        if not await self._wraps.rewrap([change]):
            return False
        log.warning("the catalog was behind a target", version=version.id, kek=kek)
        return True


def _place(order: Sequence[str], kek: str) -> int:
    return order.index(kek) if kek in order else -1
