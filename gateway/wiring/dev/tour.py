"""The tour: what Sealgate promises, shown on one generated file, each step checked.

Guarantees that a step which did not show what it says raises `TourFailed`, and that every byte which
was changed in a store is put back, also where the gateway repaired that copy meanwhile. Only what an
application and an operator can do is done here.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.wiring.dev import evidence
from gateway.wiring.dev.client import Client, Received
from gateway.wiring.dev.errors import TourFailed, Unexpected
from gateway.wiring.dev.place import TARGETS, Place
from gateway.wiring.dev.sample import Sample
from gateway.wiring.dev.screen import Screen, amount, hexadecimal, speed
from gateway.wiring.dev.stack import Stack

REFERENCE = "tour"
_NAMES = [name for name, _ in TARGETS]
_SHOWN = 16  # bytes of a hex dump
_PART = 64 * 1024
_GONE = 404
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the file's objects lie, by the names that every store uses."""

    body: str
    sizes: dict[str, int]


class Tour:
    """One file's way through a running stack."""

    def __init__(
        self, client: Client, screen: Screen, place: Place, sample: Sample, tenant: str
    ) -> None:
        self._client = client
        self._screen = screen
        self._place = place
        self._sample = sample
        self._tenant = tenant

    async def take(self) -> None:
        """Take every step. Raises TourFailed and Unexpected."""
        sample, say = self._sample, self._screen
        say.title(f"The tour: a generated file of {amount(sample.size)}")
        digest = await asyncio.to_thread(sample.digest)
        stored = await self._upload(digest)
        await self._look(stored)
        await self._range()
        bodies = [self._place.store(name) / stored.body for name in _NAMES]
        await self._damage_one(bodies, digest)
        await self._damage_all(bodies)
        await self._whole(digest)
        await self._delete()

    async def _upload(self, digest: bytes) -> Stored:
        sample, say = self._sample, self._screen
        say.heading(1, "Upload: sealed as it streams, sent to three stores at once")
        before = evidence.objects(self._place.store(_NAMES[0]), self._tenant)
        began = time.monotonic()
        with say.bar("sending", sample.size) as advance:
            receipt = await self._client.upload(sample, digest, advance)
        took = time.monotonic() - began
        held = [name for name in _NAMES if name in receipt["stored"]]
        _demand(_NAMES[0] in held and len(held) > 1, "too few stores hold the upload")
        say.good(f"acknowledged: {speed(sample.size, took)}")
        say.good(f"held by {', '.join(held)}; its SHA-256 was checked on the way in")
        after = await self._settled(before)
        body = next((key for key in after if key.endswith("/body")), "")
        _demand(bool(body), "the primary has no new body")
        return Stored(body, after)

    async def _settled(self, before: dict[str, int]) -> dict[str, int]:
        """Return the new objects, once every store has them: a backup may follow a moment later."""
        new: dict[str, int] = {}
        for _ in range(600):
            found = [evidence.objects(self._place.store(name), self._tenant) for name in _NAMES]
            new = {key: size for key, size in found[0].items() if key not in before}
            if new and all(key in other for key in new for other in found):
                return new
            await asyncio.sleep(0.1)
        raise TourFailed("a backup did not get the upload within a minute")

    async def _look(self, stored: Stored) -> None:
        sample, say = self._sample, self._screen
        say.heading(2, "What the stores see: two objects under random names, and noise")
        for key, size in stored.sizes.items():
            say.say(f"{size:>15,} bytes  {_short(key)}")
        bodies = [self._place.store(name) / stored.body for name in _NAMES]
        sealed = await asyncio.to_thread(evidence.head, bodies[0], 4 * _SHOWN)
        say.say()
        say.say(f"sent    {hexadecimal(sample.slice(0, _SHOWN))}", "dim")
        say.say(f"stored  {hexadecimal(sealed[-_SHOWN:])}", "dim")
        say.say()
        _demand(await asyncio.to_thread(evidence.same, bodies), "the stores hold different bytes")
        say.good(f"the same ciphertext in {', '.join(_NAMES)}")
        with say.busy("looking for plaintext in every file"):
            times = await asyncio.to_thread(sample.count)
            found = await asyncio.to_thread(evidence.search, self._place.root, sample.words)
        _demand(not found.hits, f"plaintext lies in {', '.join(map(str, found.hits))}")
        say.good("content, name, type and metadata of the file: found nowhere")
        say.say(
            f"  looked into all {found.files} files of stores, database, logs and audit,", "dim"
        )
        say.say(f"  {amount(found.size)}, for words that were sent up to {times:,} times", "dim")

    async def _range(self) -> None:
        sample, say = self._sample, self._screen
        say.heading(3, "A range: only its own chunks are read and opened")
        start = sample.size // 3 + 1
        began = time.monotonic()
        part = await self._client.part(start, start + _PART)
        took = time.monotonic() - began
        _demand(part == sample.slice(start, start + _PART), "the range is not the file's")
        name = await self._client.name()
        _demand(name == sample.name, "the name is not the file's")
        say.good(
            f"bytes {start:,} to {start + _PART - 1:,}: equal to the file's, {1000 * took:.0f} ms"
        )
        say.good(f"its name, opened for whoever may read it: {name}")

    async def _damage_one(self, bodies: list[Path], digest: bytes) -> None:
        say = self._screen
        say.heading(4, f"One byte changed in {_NAMES[0]}, halfway")
        async with damaged(bodies[:1]):
            got = await self._read()
        _demand(got.whole and got.digest == digest, "the download is not the file")
        say.good("the download went on from a backup, at that byte; its SHA-256 is the file's")

    async def _damage_all(self, bodies: list[Path]) -> None:
        sample, say = self._sample, self._screen
        say.heading(5, "The same byte changed in every store")
        for _ in range(_TRIES):
            async with damaged(bodies):
                got = await self._read()
            _demand(got.right, "a wrong byte was given out")
            if (
                not got.whole
            ):  # else the gateway was just repairing what the step before had damaged
                break
        _demand(not got.whole, "a damaged file was given out as whole")
        if got.size:
            say.good(f"refused: the connection was cut after {got.size:,} of {sample.size:,} bytes")
        else:
            say.good("refused: answered 503 before the first byte")
        say.good("every byte that came was right; the changed one never did")

    async def _whole(self, digest: bytes) -> None:
        sample, say = self._sample, self._screen
        say.heading(6, "Put back, and read whole")
        began = time.monotonic()
        got = await self._read()
        took = time.monotonic() - began
        _demand(got.whole and got.digest == digest, "the download is not the file")
        say.good(f"digests are equal: {speed(sample.size, took)}")
        say.say(f"  sha-256 {digest.hex()}", "dim")

    async def _delete(self) -> None:
        say = self._screen
        say.heading(7, "Delete")
        await self._client.delete()
        _demand(await self._client.status() == _GONE, "the attachment is still there")
        say.good("gone for readers, kept in the trash")

    async def _read(self) -> Received:
        with self._screen.bar("reading", self._sample.size) as advance:
            return await self._client.download(self._sample, advance)


@contextlib.asynccontextmanager
async def damaged(bodies: list[Path]) -> AsyncIterator[None]:
    """Change one bit halfway in these files, which hold the same, while the block runs."""
    offset = bodies[-1].stat().st_size // 2
    good = await asyncio.to_thread(evidence.byte, bodies[-1], offset)
    for body in bodies:
        await asyncio.to_thread(evidence.put, body, offset, good ^ 1)
    try:
        yield
    finally:
        for body in bodies:
            await asyncio.shield(asyncio.to_thread(evidence.put, body, offset, good))


def _short(key: str) -> str:
    """Return an object's name with its ids cut, so that it fits on a line."""
    return "/".join(f"{part[:12]}…" if len(part) > _SHOWN else part for part in key.split("/"))


def _demand(fine: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not fine:
        raise TourFailed(otherwise)


async def take(stack: Stack, screen: Screen, place: Place, size: int) -> None:
    """Take the tour of a running stack."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        client = Client(session, f"{stack.files}/{REFERENCE}")
        try:
            await Tour(client, screen, place, Sample(size), stack.tenant).take()
        except aiohttp.ClientError as error:
            raise Unexpected(f"the gateway broke off: {type(error).__name__}") from error
