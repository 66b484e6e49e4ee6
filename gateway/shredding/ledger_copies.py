"""Copies of the shred ledger in every target, and what was lost of it brought back from there.

Guarantees that whatever any target holds of the ledger the key service is given, which takes what its
trusted keys signed; that every target gets what it lacks, under `ledger/` and the entry's hash, where
nothing is overwritten; that a target which does not answer, or holds what is no entry, keeps no other from
its turn; and that the catalog learns who is dead. It decides nothing: a forged entry is refused there.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from awscrt.checksums import crc64nvme

from gateway.errors import ObjectExists, ObjectMissing, StoreDamaged, StoreError
from gateway.ports import Piece, Shreds, Store
from gateway.shredding.keys import ShredKeys
from gateway.targets.quorum import Target
from keyservice.wire import Invalid, LedgerEntry

PREFIX: Final = "ledger/"
LARGEST: Final = 128 * 1024
MOST: Final = 10_000  # objects that are read of a target in one run
BATCH: Final = 1 << 20  # bytes of entries in one request
MOST_AT_ONCE: Final = 200
_NAME: Final = re.compile(r"[0-9a-f]{64}")

log = structlog.get_logger()


@dataclass(slots=True)
class Copied:
    """What one run did. `failed` says why targets were left; `refused` counts what is no entry."""

    entries: int = 0
    stored: int = 0
    taken: int = 0
    refused: int = 0
    buried: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the outcome of a run."""
        return {
            "entries": self.entries,
            "stored": self.stored,
            "taken": self.taken,
            "refused": self.refused,
            "buried": self.buried,
            "failed": dict(self.failed),
        }


class LedgerCopies:
    """The use case, over one key service, one catalog and the targets."""

    def __init__(self, keys: ShredKeys, shreds: Shreds, targets: Sequence[Target]) -> None:
        self._keys = keys
        self._shreds = shreds
        self._targets = tuple(targets)
        self._seen: set[tuple[str, str]] = set()  # by target and name: given once, or no entry

    async def run(self) -> Copied:
        """Bring back, copy, and tell the catalog. Raises KeyServiceErrors and CatalogErrors."""
        copied = Copied()
        known = {entry.hash: entry for entry in await self.entries()}
        copied.buried = await self._bury(known.values())
        held: dict[str, set[str]] = {}
        for target in self._targets:
            try:
                held[target.name] = await self._listed(target)
                for texts in _batches(await self._unknown(target, held[target.name], known)):
                    taken = await self._give(target, texts, copied)
                    known |= {entry.hash: entry for entry in taken}
                    copied.buried += await self._bury(taken)
            except StoreError as error:
                copied.failed[target.name] = type(error).__name__
        for target in self._targets:
            if target.name not in copied.failed:
                await self._copy(target, known, held[target.name], copied)
        copied.entries = len(known)
        if copied.taken or copied.refused:
            log.warning("shred ledger merged", taken=copied.taken, refused=copied.refused)
        return copied

    async def entries(self) -> Sequence[LedgerEntry]:
        """Return the whole ledger of the key service. Raises KeyServiceErrors."""
        found: list[LedgerEntry] = []
        while page := (await self._keys.ledger(found[-1].hash if found else "")).entries:
            found += page
        return found

    async def _bury(self, entries: Iterable[LedgerEntry]) -> int:
        dead = [entry.tenant for entry in entries]
        return await self._shreds.bury(dead) if dead else 0

    async def _listed(self, target: Target) -> set[str]:
        names = [stat.key.removeprefix(PREFIX) async for stat in target.store.list(PREFIX)]
        # What somebody put there by hand, such as the mark of a folder, no store of ours could read.
        held = {name for name in names if _NAME.fullmatch(name)}
        if strange := len(names) - len(held):
            log.warning("ledger has strange neighbours", target=target.name, objects=strange)
        return held

    async def _unknown(
        self, target: Target, names: set[str], known: dict[str, LedgerEntry]
    ) -> list[tuple[str, str]]:
        """Read what a target holds and the key service does not know, by name."""
        found: list[tuple[str, str]] = []
        fresh = (
            name for name in sorted(names - known.keys()) if (target.name, name) not in self._seen
        )
        for name in list(fresh)[:MOST]:
            try:
                found.append((name, await _text(target.store, PREFIX + name)))
            except ObjectMissing:
                continue
            except (StoreDamaged, UnicodeDecodeError):
                self._refuse(target, name)
        return found

    async def _give(
        self, target: Target, texts: Sequence[tuple[str, str]], copied: Copied
    ) -> Sequence[LedgerEntry]:
        """Give the key service entries; where it refuses them, one by one."""
        try:
            taken = await self._keys.add_to_ledger([text for _, text in texts])
        except Invalid:
            if len(texts) == 1:
                self._refuse(target, texts[0][0])
                copied.refused += 1
                return []
            found: list[LedgerEntry] = []
            for each in texts:
                found += await self._give(target, [each], copied)
            return found
        copied.taken += len(taken)
        self._seen |= {(target.name, name) for name, _ in texts}
        return taken

    def _refuse(self, target: Target, name: str) -> None:
        self._seen.add((target.name, name))
        log.error("a target holds what is no entry of the shred ledger", target=target.name)

    async def _copy(
        self, target: Target, known: dict[str, LedgerEntry], held: set[str], copied: Copied
    ) -> None:
        for name in sorted(known.keys() - held):
            data = known[name].text.encode()
            try:
                await target.store.put(PREFIX + name, Piece(memoryview(data), crc64nvme(data)))
            except ObjectExists:
                continue  # another worker's
            except StoreError as error:
                copied.failed[target.name] = type(error).__name__
                return
            copied.stored += 1


async def _text(store: Store, key: str) -> str:
    data = bytearray()
    async with aclosing(store.read(key)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > LARGEST:
                raise StoreDamaged("an entry of the shred ledger is larger than one can be")
    return data.decode("ascii")


def _batches(texts: Sequence[tuple[str, str]]) -> Iterable[Sequence[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for name, text in texts:
        if batch and (size + len(text) > BATCH or len(batch) >= MOST_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append((name, text))
        size += len(text)
    if batch:
        yield batch
