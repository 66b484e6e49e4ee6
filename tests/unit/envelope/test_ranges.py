"""Ranges: what is planned, what is read, and that the reader agrees with the library."""

import itertools

import pytest

from envelope.context import Context
from envelope.core import Segment
from envelope.errors import CannotOpen
from envelope.ranges import Extent, RangeOpener, plan
from envelope.sizes import CHUNK, HEADER, SALT, SEALED_CHUNK
from tests.unit.envelope.conftest import Seal

EDGES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 9)
PLAINTEXT = bytes(index * 7 % 256 for index in range(2 * CHUNK + 9))


def read(dek: bytes, context: Context, segment: Segment, extent: Extent, body: bytes) -> bytes:
    opener = RangeOpener(dek, context, segment, extent)
    opened = opener.update(body[extent.start : extent.stop])
    opener.finalize()
    return opened


def test_every_range_between_edges_is_the_slice(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    for start, stop in itertools.combinations(EDGES, 2):
        (extent,) = plan([segment], start, stop)
        assert read(dek, context, segment, extent, sealed) == PLAINTEXT[start:stop]


def test_only_the_chunks_of_the_range_are_read() -> None:
    segment = Segment(100 * CHUNK, bytes(SALT), b"")
    (extent,) = plan([segment], 50 * CHUNK + 3, 51 * CHUNK + 4)
    begin = HEADER + 50 * SEALED_CHUNK
    assert extent == Extent(0, begin, begin + 2 * SEALED_CHUNK, 50, 3, CHUNK + 1)


def test_empty_segments_and_empty_ranges_read_nothing() -> None:
    empty, full = Segment(0, bytes(SALT), b""), Segment(5, bytes(SALT), b"")
    assert plan([empty], 0, 0) == []
    assert plan([], 0, 0) == []
    for at in range(6):
        assert plan([empty, full, empty], at, at) == []
    extents = plan([empty, full, empty, full, empty], 0, 10)
    assert [extent.segment for extent in extents] == [1, 3]
    assert extents[0].start == empty.ciphertext_size
    assert extents[1].start == 2 * empty.ciphertext_size + full.ciphertext_size


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 6), (6, 6), (6, 7)])
def test_a_range_lies_within_the_body(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="within the body"):
        plan([Segment(5, bytes(SALT), b"")], start, stop)


def test_ten_thousand_segments_are_planned() -> None:
    segments = [Segment(5 * CHUNK, bytes(SALT), b"")] * 10_000
    extents = plan(segments, 3, 10_000 * 5 * CHUNK - 3)
    assert len(extents) == 10_000
    assert sum(extent.take for extent in extents) == 10_000 * 5 * CHUNK - 6
    assert all(one.stop == two.start for one, two in itertools.pairwise(extents))


@pytest.mark.parametrize("push", [1, 13, 56, CHUNK, SEALED_CHUNK, 2 * SEALED_CHUNK])
@pytest.mark.parametrize("bounds", [(0, 2 * CHUNK + 9), (5, CHUNK + 6), (CHUNK, 2 * CHUNK)])
def test_any_push_gives_the_same(
    push: int, bounds: tuple[int, int], dek: bytes, context: Context, seal: Seal
) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], *bounds)
    opener = RangeOpener(dek, context, segment, extent)
    into = RangeOpener(dek, context, segment, extent)
    room = bytearray(RangeOpener.room_for(push))
    opened, filled = bytearray(), bytearray()
    for at in range(extent.start, extent.stop, push):
        piece = memoryview(sealed)[at : min(at + push, extent.stop)]
        opened += opener.update(piece)
        filled += room[: into.update_into(piece, room)]
    opener.finalize()
    into.finalize()
    assert opened == filled == PLAINTEXT[slice(*bounds)]


def test_at_most_a_partial_chunk_is_held_back(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], 0, 2 * CHUNK + 9)
    opener = RangeOpener(dek, context, segment, extent)
    assert opener.update(sealed[: HEADER + SEALED_CHUNK - 1]) == b""
    assert opener.update(sealed[HEADER + SEALED_CHUNK - 1 : -1]) == PLAINTEXT[: 2 * CHUNK]
    assert opener.update(sealed[-1:]) == PLAINTEXT[2 * CHUNK :]


def test_missing_ciphertext_is_noticed(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], 0, CHUNK)
    for size in (0, 1, HEADER, HEADER + SEALED_CHUNK - 1):
        opener = RangeOpener(dek, context, segment, extent)
        opener.update(sealed[:size])
        with pytest.raises(CannotOpen):
            opener.finalize()
        with pytest.raises(CannotOpen):
            opener.update(sealed[size : extent.stop])


def test_more_than_the_extent_is_refused(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], 0, CHUNK)
    opener = RangeOpener(dek, context, segment, extent)
    with pytest.raises(CannotOpen):
        opener.update(sealed[: extent.stop + 1])
    opener = RangeOpener(dek, context, segment, extent)
    opener.update(sealed[: extent.stop - 1])
    with pytest.raises(CannotOpen):
        opener.update(sealed[extent.stop - 1 : extent.stop + 1])


def test_nothing_comes_out_after_a_failure(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], CHUNK, 2 * CHUNK + 9)
    opener = RangeOpener(dek, context, segment, extent)
    with pytest.raises(CannotOpen):
        opener.update(bytes(SEALED_CHUNK))
    for _ in range(2):
        with pytest.raises(CannotOpen):
            opener.update(sealed[extent.start : extent.stop])
    with pytest.raises(CannotOpen):
        opener.update(b"")
    with pytest.raises(CannotOpen):
        opener.finalize()


def test_a_buffer_is_wiped_when_its_chunk_is_not_authentic(
    dek: bytes, context: Context, seal: Seal
) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], 0, 2 * CHUNK)
    damaged = bytearray(sealed[: extent.stop])
    damaged[HEADER + SEALED_CHUNK + 100] ^= 1
    room = bytearray(b"x" * RangeOpener.room_for(len(damaged)))
    opener = RangeOpener(dek, context, segment, extent)
    with pytest.raises(CannotOpen):
        opener.update_into(damaged, room)
    assert not any(room)


def test_a_buffer_too_small_takes_nothing_in(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(PLAINTEXT)
    (extent,) = plan([segment], 0, 5)
    opener = RangeOpener(dek, context, segment, extent)
    piece = sealed[: extent.stop]
    with pytest.raises(ValueError, match="room_for"):
        opener.update_into(piece, bytearray(RangeOpener.room_for(len(piece)) - 1))
    assert opener.update(piece) == PLAINTEXT[:5]


def test_an_extent_belongs_to_its_segment(dek: bytes, context: Context) -> None:
    segment = Segment(3 * CHUNK, bytes(SALT), b"")
    (extent,) = plan([segment], CHUNK, 2 * CHUNK)
    for wrong in (
        Extent(0, extent.start, extent.stop - 1, 1, 0, CHUNK),
        Extent(0, extent.start, extent.stop, 1, 0, 2 * CHUNK),
        Extent(0, extent.start, extent.stop, 1, 0, 0),
        Extent(0, 0, 0, 0, 0, 0),
    ):
        with pytest.raises(ValueError, match="planned"):
            RangeOpener(dek, context, segment, wrong)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_data_key_is_32_bytes(size: int, context: Context) -> None:
    segment = Segment(5, bytes(SALT), b"")
    with pytest.raises(ValueError, match="32 bytes"):
        RangeOpener(bytes(size), context, segment, plan([segment], 0, 5)[0])


def test_a_size_that_the_core_did_not_say_does_not_open(
    dek: bytes, context: Context, seal: Seal
) -> None:
    segment, sealed = seal(PLAINTEXT)
    for size in (CHUNK, CHUNK + 5, 2 * CHUNK, 2 * CHUNK + 8, 2 * CHUNK + 10):
        claimed = Segment(size, segment.salt, segment.digest)
        (extent,) = plan([claimed], 1, size)
        opener = RangeOpener(dek, context, claimed, extent)
        with pytest.raises(CannotOpen):
            opener.update((sealed + bytes(5))[extent.start : extent.stop])
