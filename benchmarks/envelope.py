"""What the envelope costs over the primitives under it, as ratios of one run.

Rounds are interleaved and the best of each subject counts, so a busy machine moves both sides
alike. `--json` prints the figures for other programs; targets are marked where one is missed.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from envelope.context import Context, Purpose
from envelope.ranges import RangeOpener, plan
from envelope.segment import Segment, SegmentOpener, SegmentSealer
from envelope.sizes import CHUNK, SEALED_CHUNK

MIB = 1 << 20
WRITE = 256 * 1024
SIZE = 16 * MIB
DEK = os.urandom(32)
CONTEXT = Context(*(os.urandom(16).hex() for _ in range(3)))
BODY = CONTEXT.encode(Purpose.BODY)
DATA = memoryview(os.urandom(WRITE))


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One thing to time; `baseline` is the primitive that its ratio refers to."""

    name: str
    run: Callable[[], None]
    baseline: str | None = None
    target: float | None = None


def seal_library() -> None:
    """Seal with the bare encryptor."""
    encryptor = Cobblestone256Encryptor(DEK, BODY)
    for _ in range(SIZE // WRITE):
        encryptor.update(DATA)
    encryptor.finalize()


def seal_library_into() -> None:
    """Seal with the bare encryptor into one buffer."""
    encryptor = Cobblestone256Encryptor(DEK, BODY)
    for _ in range(SIZE // WRITE):
        encryptor.update_into(DATA, BUFFER)
    encryptor.finalize()


def seal(*, digest: bool) -> Callable[[], None]:
    """Return a run of our sealer."""

    def run() -> None:
        sealer = SegmentSealer(DEK, CONTEXT, digest=digest)
        for _ in range(SIZE // WRITE):
            sealer.update(DATA)
        sealer.finalize()

    return run


def seal_into(*, digest: bool) -> Callable[[], None]:
    """Return a run of our sealer into one buffer."""

    def run() -> None:
        sealer = SegmentSealer(DEK, CONTEXT, digest=digest)
        for _ in range(SIZE // WRITE):
            sealer.update_into(DATA, BUFFER)
        sealer.finalize()

    return run


BUFFER = bytearray(SegmentSealer.room_for(WRITE))


def sealed() -> tuple[Segment, memoryview]:
    """Return a segment to open."""
    sealer = SegmentSealer(DEK, CONTEXT)
    parts = [sealer.update(DATA) for _ in range(SIZE // WRITE)]
    parts.append(sealer.finalize())
    return sealer.segment, memoryview(b"".join(parts))


SEGMENT, CIPHERTEXT = sealed()
# From the second chunk to one before the last: chunks alone, as a seek would read them.
EXTENT = plan([SEGMENT], CHUNK, SIZE - CHUNK)[0]
CHUNKS = CIPHERTEXT[EXTENT.start : EXTENT.stop]

# The same chunks for the bare AEAD, cut and with their nonces made beforehand.
DERIVED = HKDFExpand(
    SHA512(), 44, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + SEGMENT.salt + BODY
).derive(DEK)
AEAD = AESGCM(DERIVED[:32])
CUT = [
    (
        (int.from_bytes(DERIVED[32:], "big") ^ (number + 1)).to_bytes(12, "big"),
        CHUNKS[number * SEALED_CHUNK : (number + 1) * SEALED_CHUNK],
    )
    for number in range(len(CHUNKS) // SEALED_CHUNK)
]
OPENED = bytearray(RangeOpener.room_for(WRITE))


def open_chunks() -> None:
    """Open the same chunks with the bare AEAD."""
    for nonce, chunk in CUT:
        AEAD.decrypt(nonce, chunk, None)


def open_range(size: int) -> Callable[[], None]:
    """Return a run of our range reader at pushes of `size` bytes."""

    def run() -> None:
        opener = RangeOpener(DEK, CONTEXT, SEGMENT, EXTENT)
        for start in range(0, len(CHUNKS), size):
            opener.update(CHUNKS[start : start + size])
        opener.finalize()

    return run


def open_range_into(size: int) -> Callable[[], None]:
    """Return a run of our range reader into one buffer."""

    def run() -> None:
        opener = RangeOpener(DEK, CONTEXT, SEGMENT, EXTENT)
        for start in range(0, len(CHUNKS), size):
            opener.update_into(CHUNKS[start : start + size], OPENED)
        opener.finalize()

    return run


def open_library() -> None:
    """Open the whole segment with the bare decryptor."""
    decryptor = Cobblestone256Decryptor(DEK, BODY)
    for start in range(0, len(CIPHERTEXT), WRITE):
        decryptor.update(CIPHERTEXT[start : start + WRITE])
    decryptor.finalize()


def open_segment() -> None:
    """Open the whole segment with ours."""
    opener = SegmentOpener(DEK, CONTEXT, SEGMENT)
    for start in range(0, len(CIPHERTEXT), WRITE):
        opener.update(CIPHERTEXT[start : start + WRITE])
    opener.finalize()


SUBJECTS = (
    Subject("seal: library", seal_library),
    Subject("seal: ours, digest off", seal(digest=False), "seal: library", 0.9),
    Subject("seal: ours with BLAKE3", seal(digest=True), "seal: library"),
    Subject("seal into: library", seal_library_into),
    Subject("seal into: ours, digest off", seal_into(digest=False), "seal into: library", 0.9),
    Subject("seal into: ours with BLAKE3", seal_into(digest=True), "seal into: library"),
    Subject("open: library", open_library),
    Subject("open: ours", open_segment, "open: library", 0.9),
    Subject("chunks: AESGCM.decrypt", open_chunks),
    Subject("range: pushed by 16 KiB", open_range(16 * 1024), "chunks: AESGCM.decrypt"),
    Subject("range: pushed by 64 KiB", open_range(64 * 1024), "chunks: AESGCM.decrypt"),
    Subject("range: pushed by 256 KiB", open_range(WRITE), "chunks: AESGCM.decrypt", 0.8),
    Subject("range into: by 256 KiB", open_range_into(WRITE), "chunks: AESGCM.decrypt", 0.8),
)


def measure(rounds: int) -> dict[str, float]:
    """Return the best throughput of each subject in bytes a second."""
    best = {subject.name: float("inf") for subject in SUBJECTS}
    for _ in range(rounds):
        for subject in SUBJECTS:
            started = time.perf_counter()
            subject.run()
            best[subject.name] = min(best[subject.name], time.perf_counter() - started)
    return {name: SIZE / seconds for name, seconds in best.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # A server has freed a large block before long; until then the allocator gives memory back
    # to the system after every write, which would time page faults instead of either side.
    block = bytearray(16 * MIB)
    del block
    figures = measure(arguments.rounds)
    rows = [
        {
            "subject": subject.name,
            "bytes_per_second": figures[subject.name],
            "baseline": subject.baseline,
            "ratio": figures[subject.name] / figures[subject.baseline] if subject.baseline else 1.0,
            "target": subject.target,
        }
        for subject in SUBJECTS
    ]
    if arguments.json:
        print(json.dumps({"write": WRITE, "size": SIZE, "rows": rows}, indent=2))
        return
    print(f"{'':30} {'GB/s':>7} {'ratio':>7} {'target':>7}")
    for subject in SUBJECTS:
        speed = figures[subject.name]
        ratio = speed / figures[subject.baseline] if subject.baseline else 1.0
        target = "" if subject.target is None else f"{subject.target:.2f}"
        missed = "  missed" if subject.target is not None and ratio < subject.target else ""
        print(f"{subject.name:30} {speed / 1e9:7.2f} {ratio:7.2f} {target:>7}{missed}")


if __name__ == "__main__":
    main()
