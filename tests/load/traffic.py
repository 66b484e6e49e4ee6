"""Mixed traffic: applications that store and read, some of which leave in the middle, and a journal.

The journal knows what was sent and what was acknowledged, so that a test can ask for it afterwards.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from tests.load.place import Place
from tests.stack.client import Client, MiB

BUDGET = 2048 * MiB  # what may be stored; of what is larger than a piece, the rest is left midway
SIZES = (0, 200, 60_000, 300_000, 2 * MiB, 11 * MiB)
PIECE = 128 * 1024
GONE = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Left(Exception):
    """The application leaves in the middle of a request."""


@dataclass(slots=True)
class Journal:
    """What was acknowledged, by path, and what happened how often."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # path: SHA-256
    stored: int = 0  # bytes
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        """Count one event."""
        self.counts[what] = self.counts.get(what, 0) + 1


@dataclass(slots=True)
class Application:
    """One application that does one thing after another until told to stop."""

    place: Place
    token: str
    above: str
    journal: Journal
    rng: random.Random
    own: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; a gateway that is away is tried again."""
        while not stop.is_set():
            try:
                async with Client(self.place.url, self.token) as client:
                    while not stop.is_set():
                        await self._once(client)
            except Left:
                self.journal.count("left")
            except GONE:
                self.journal.count("connection lost")
                await asyncio.sleep(0.1)

    async def _once(self, client: Client) -> None:
        if not self.own or self.rng.random() < 0.5:
            await self._store(client)
        else:
            await self._read(client, self.rng.choice(self.own))

    async def _store(self, client: Client) -> None:
        size, running = self.rng.choice(SIZES), hashlib.sha256()
        path = f"{self.above}/{self.rng.randbytes(8).hex()}"
        full = size > PIECE and self.journal.stored + size > BUDGET
        leaves = self.rng.randrange(size) if size and (full or self.rng.random() < 0.2) else None

        async def content() -> AsyncIterator[bytes]:
            sent = 0
            while sent < size:
                piece = self.rng.randbytes(min(PIECE, size - sent))
                if leaves is not None and sent + len(piece) > leaves:
                    raise Left
                running.update(piece)
                sent += len(piece)
                yield piece

        async with client.request("PUT", path, data=content()) as answer:
            await answer.read()
            self.journal.count(f"PUT {answer.status}")
            if answer.status == 201:
                self.journal.stored += size
                self.journal.acknowledged[path] = running.hexdigest()
                self.own.append(path)

    async def _read(self, client: Client, path: str) -> None:
        leaves, running = self.rng.random() < 0.3, hashlib.sha256()
        async with client.request("GET", path) as answer:
            self.journal.count(f"GET {answer.status}")
            if answer.status != 200:
                return
            async for piece in answer.content.iter_any():
                running.update(piece)
                if leaves:
                    raise Left
        if running.hexdigest() != self.journal.acknowledged[path]:
            self.journal.wrong.append(path)
