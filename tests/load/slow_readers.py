"""What a gateway holds and reads while clients take a download at 1 KB/s, and what is too much of it."""

import asyncio
from dataclasses import dataclass

from tests.load.peers import Cut, Peer
from tests.load.place import Place
from tests.stack.client import MiB

RATE = 1024  # bytes a second that a reader takes
WINDOW = 2 * MiB  # what may be read of a store ahead of a reader: one block, and the one before it
HELD = 3 * MiB  # what a stream may hold in the gateway's memory: a block sealed, and opened
DRIFT = 16 * MiB  # what all streams together may come to hold after the warm-up
CUT, STARVED, NOT_FLAT = "a reader was cut", "a reader starved", "memory is not flat"
# What a machine that rests for seconds does to readers, or to the warm-up, whatever the gateway does.
OF_THE_MACHINE = frozenset({CUT, STARVED, NOT_FLAT})
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Flow:
    """What was measured; sizes in bytes."""

    readers: int
    cut: int
    taken: int  # by all readers
    least: int  # by the reader that got least
    read: int  # by the gateway, from its store
    idle: int  # memory before
    warm: int  # memory once every stream had begun
    peak: int

    def violations(self) -> list[str]:
        """Say what was promised and does not hold."""
        found = {
            CUT: self.cut > 0,
            STARVED: self.least <= 0,
            "memory grows beyond a window a stream": self.peak - self.idle
            > self.readers * HELD + DRIFT,
            NOT_FLAT: self.peak - self.warm > DRIFT,
            "the store is read ahead of the readers": self.read
            > self.taken + self.readers * WINDOW,
        }
        return [text for text, holds in found.items() if holds]


async def slow_readers(
    place: Place, path: str, token: str, *, readers: int, seconds: float
) -> Flow:
    """Let so many clients take the attachment at 1 KB/s for a while, and measure.

    Measures again where all that is wrong may be the machine's doing.
    """
    for _ in range(ROUNDS):
        flow = await _measured(place, path, token, readers, seconds)
        found = set(flow.violations())
        if not found or not found <= OF_THE_MACHINE:
            break
    return flow


async def _measured(place: Place, path: str, token: str, readers: int, seconds: float) -> Flow:
    await _sample(place, path, token)
    idle, read = place.memory(), place.bytes_read()
    peers = [await Peer().connect(place.port) for _ in range(readers)]
    try:
        for peer in peers:
            await peer.request("GET", path, token)
        statuses = [await peer.head() for peer in peers]
        assert set(statuses) == {200}
        warm_up = min(3.0, seconds / 3)
        async with asyncio.TaskGroup() as group:
            sips = [group.create_task(_sip(peer, seconds)) for peer in peers]
            await asyncio.sleep(warm_up)
            warm = peak = place.memory()
            while not all(sip.done() for sip in sips):
                peak = max(peak, place.memory())
                await asyncio.sleep(0.1)
        read = place.bytes_read() - read
    finally:
        for peer in peers:
            peer.drop()
    return Flow(
        readers=readers,
        cut=sum(not sip.result() for sip in sips),
        taken=sum(peer.received for peer in peers),
        least=min(peer.received for peer in peers),
        read=read,
        idle=idle,
        warm=warm,
        peak=peak,
    )


async def _sip(peer: Peer, seconds: float) -> bool:
    """Take RATE bytes every second, unless the attachment ends; tell whether it was served."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    try:
        while loop.time() < until:
            await peer.take(RATE)
            await asyncio.sleep(1)
    except Cut:
        return False
    return True


async def _sample(place: Place, path: str, token: str) -> None:
    """Read a little, so that what a first download needs is there."""
    peer = await Peer().connect(place.port)
    await peer.request("GET", path, token, "Range: bytes=0-9999")
    assert await peer.head() == 206
    peer.close()
