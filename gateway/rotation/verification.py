"""Reads every envelope of a tenant on the targets, and tells which are still under certain KEKs.

Guarantees that what it does not name is under another KEK on every target, as long as it names nothing else:
what cannot be read, and a target that does not answer, are named too. Needs no key. What the catalog did not
know is reported to it, so that the right envelope is written there. Reads the envelopes whole, with the
bodies that are inside them.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from envelope.envelope import Envelope, decode
from envelope.errors import EnvelopeError
from gateway.errors import StoreError, first
from gateway.ports import Catalog, Store, Told, Wraps, untold
from gateway.targets.quorum import Target

PARALLEL: Final = 8  # envelopes at once on each target
PAGE: Final = 500
LONGEST: Final = 4 * 1024 * 1024
_KEY: Final = re.compile(r"t/[0-9a-f]{32}/[0-9a-f]{32}/envelope")  # what else there is, is not ours


class Verification:
    """The mechanism, over all targets."""

    def __init__(self, catalog: Catalog, wraps: Wraps, targets: Sequence[Target]) -> None:
        self._catalog = catalog
        self._wraps = wraps
        self._targets = tuple(targets)

    async def find(self, tenant: str, keks: frozenset[str], told: Told = untold) -> Sequence[str]:
        """Say in words what is under one of these KEKs, or cannot be told. Raises CatalogErrors.

        Tells how many envelopes were read, on all targets together.
        """
        read = 0

        async def count() -> None:
            nonlocal read
            read += 1
            await told({"read": read})

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._on(each.name, each.store, tenant, keks, count))
                    for each in self._targets
                ]
        except BaseExceptionGroup as error:
            raise first(error) from None
        return [words for task in tasks for words in task.result()]

    async def _on(
        self,
        name: str,
        store: Store,
        tenant: str,
        keks: frozenset[str],
        count: Callable[[], Awaitable[None]],
    ) -> list[str]:
        found, slots = Counter[str](), asyncio.Semaphore(PARALLEL)

        async def one(key: str) -> None:
            async with slots:
                found[await self._judge(name, store, key, keks)] += 1
                await count()

        page: list[str] = []

        async def read() -> None:
            async with asyncio.TaskGroup() as group:
                for key in page:
                    group.create_task(one(key))
            page.clear()

        try:
            async for stat in store.list(f"t/{tenant}/"):
                if _KEY.fullmatch(stat.key):
                    page.append(stat.key)
                if len(page) == PAGE:
                    await read()
            await read()
        except (StoreError, BaseExceptionGroup) as error:
            if not isinstance(cause := first(error), StoreError):
                raise cause from None
            return [f"{name} does not answer: what it holds cannot be verified"]
        return [
            f"{found[kind]} on {name}: {words}" for kind, words in _WORDS.items() if found[kind]
        ]

    async def _judge(self, target: str, store: Store, key: str, keks: frozenset[str]) -> str:
        """Tell which of the words an envelope deserves; empty: none."""
        try:
            envelope = await _read(store, key)
        except EnvelopeError:
            return "unreadable"
        if envelope is None or envelope.newest.kek not in keks:
            return ""
        version = envelope.core.context.version
        (_, _, blob, _) = key.split("/")
        if not await self._catalog.known([blob]):
            return "orphan"
        if await self._wraps.mark_stale(version, target, envelope.newest.kek):
            return "stale"
        return "waiting"


_WORDS: Final = {
    "stale": "envelopes still under it; a worker, or `sealgate rotate kek`, replaces them",
    "waiting": "envelopes under it that no version has now: of uploads that ended without one, or of blobs "
    "that wait to be purged",
    "orphan": "envelopes under it that no version owns; a sweep of the target removes or reports them",
    "unreadable": "envelopes that cannot be read; scrub and repair replace them",
}


async def _read(store: Store, key: str) -> Envelope | None:
    """Return an envelope; None where it went meanwhile. Raises EnvelopeError and StoreErrors."""
    read = bytearray()
    async with aclosing(store.read(key)) as pieces:
        async for piece in pieces:
            read += piece
            if len(read) > LONGEST:
                raise EnvelopeError("longer than an envelope can be")
    return decode(bytes(read))
