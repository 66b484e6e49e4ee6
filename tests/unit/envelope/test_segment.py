"""Whole segments: exact sizes, fresh salts, buffers, and nothing after a failure."""

from collections import deque

import pytest
from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor

from envelope.context import Context, Purpose
from envelope.core import Segment
from envelope.errors import CannotOpen, EnvelopeError, TooLarge
from envelope.segment import (
    CHUNK,
    HEADER,
    SALT,
    TAG,
    SegmentOpener,
    SegmentSealer,
    opened_size,
    sealed_size,
)
from envelope.sizes import MAX_PLAINTEXT, SEALED_CHUNK
from tests.unit.envelope.conftest import Seal

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_known_in_advance(size: int, seal: Seal) -> None:
    segment, sealed = seal(bytes(size))
    assert len(sealed) == sealed_size(size) == segment.ciphertext_size
    assert opened_size(len(sealed)) == size == segment.plaintext_size


def test_the_largest_segment_is_a_byte_less_than_4_pib() -> None:
    assert opened_size(sealed_size(MAX_PLAINTEXT)) == MAX_PLAINTEXT == (1 << 52) - 1
    with pytest.raises(TooLarge):
        sealed_size(MAX_PLAINTEXT + 1)
    with pytest.raises(EnvelopeError):
        opened_size(sealed_size(MAX_PLAINTEXT) + 1)
    with pytest.raises(TooLarge):
        opened_size(sealed_size(MAX_PLAINTEXT) + 1 + TAG)
    with pytest.raises(ValueError, match="negative"):
        sealed_size(-1)


def test_no_other_size_is_possible() -> None:
    possible = {sealed_size(size) for size in range(2 * CHUNK + 2)}
    for size in range(-1, 2 * SEALED_CHUNK):
        if size in possible:
            assert sealed_size(opened_size(size)) == size
        else:
            with pytest.raises(CannotOpen):
                opened_size(size)


def test_the_segment_records_salt_and_digest(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(b"content")
    assert segment == Segment(7, sealed[:SALT], blake3(sealed).digest())
    assert sealed[SALT:HEADER] not in (bytes(32), dek)
    library = Cobblestone256Decryptor(dek, context.encode(Purpose.BODY))
    assert library.update(sealed) + library.finalize() == b"content"


def test_the_digest_can_be_left_out(dek: bytes, context: Context) -> None:
    sealer = SegmentSealer(dek, context, digest=False)
    sealer.update(b"content")
    sealer.finalize()
    assert sealer.segment.digest == b""
    assert sealer.segment.plaintext_size == 7


def test_a_segment_is_known_once_it_is_finalized(dek: bytes, context: Context) -> None:
    sealer = SegmentSealer(dek, context)
    sealer.update(b"content")
    with pytest.raises(ValueError, match="finalized"):
        _ = sealer.segment


@pytest.mark.parametrize("first", [b"same bytes", b"othr bytes"])
def test_a_part_sent_again_shares_no_salt_and_no_ciphertext(first: bytes, seal: Seal) -> None:
    one, sealed = seal(first)
    two, again = seal(b"same bytes")
    assert one.salt != two.salt
    assert sealed[HEADER:] != again[HEADER:]


@pytest.mark.parametrize("write", [1, 7, CHUNK, CHUNK + 1, 100_000])
def test_sealing_into_a_buffer_gives_the_same_as_bytes(
    write: int, dek: bytes, context: Context
) -> None:
    plaintext = bytes(index % 251 for index in range(3 * CHUNK + 11))[: 40 * write]
    sealer = SegmentSealer(dek, context)
    room = bytearray(SegmentSealer.room_for(write))
    sealed = bytearray()
    for at in range(0, len(plaintext), write):
        size = sealer.update_into(memoryview(plaintext)[at : at + write], room)
        sealed += room[:size]
    sealed += sealer.finalize()
    assert sealer.segment.digest == blake3(sealed).digest()
    opener = SegmentOpener(dek, context, sealer.segment)
    assert opener.update(sealed) + opener.finalize() == plaintext


def test_a_buffer_too_small_takes_nothing_in(dek: bytes, context: Context) -> None:
    sealer = SegmentSealer(dek, context)
    with pytest.raises(ValueError, match="at least"):
        sealer.update_into(bytes(CHUNK), bytearray(HEADER))
    sealed = sealer.update(b"content") + sealer.finalize()
    opener = SegmentOpener(dek, context, sealer.segment)
    assert opener.update(sealed) + opener.finalize() == b"content"


def test_room_is_the_most_that_an_update_emits(dek: bytes, context: Context) -> None:
    for held in (0, 1, CHUNK - 1):
        for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1):
            sealer = SegmentSealer(dek, context)
            emitted = sealer.update(bytes(held)) if held else b""
            most = SegmentSealer.room_for(size)
            assert len(sealer.update(bytes(size))) <= most - (HEADER if emitted else 0)
    assert SegmentSealer.room_for(CHUNK) == HEADER + SEALED_CHUNK


def test_it_opens_from_any_buffer(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(b"content")
    for kind in (bytes, bytearray, memoryview):
        opener = SegmentOpener(kind(dek), context, segment)
        assert opener.update(kind(sealed)) + opener.finalize() == b"content"


def test_plaintext_comes_out_chunk_by_chunk(dek: bytes, context: Context, seal: Seal) -> None:
    _, sealed = seal(bytes(2 * CHUNK + 1))
    opener = SegmentOpener(dek, context)
    assert opener.update(sealed[: HEADER + SEALED_CHUNK - 1]) == b""
    assert len(opener.update(sealed[HEADER + SEALED_CHUNK - 1 : -1])) == 2 * CHUNK
    assert opener.update(sealed[-1:]) == b""
    assert len(opener.finalize()) == 1


def test_nothing_comes_out_after_a_failure(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(bytes(4 * CHUNK))
    first, second = HEADER + SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK
    for record in (None, segment):
        opener = SegmentOpener(dek, context, record)
        assert len(opener.update(sealed[:first])) == CHUNK
        with pytest.raises(CannotOpen):
            opener.update(bytes(SEALED_CHUNK))
        for attempt in (sealed[first:second], sealed[second:], b""):
            with pytest.raises(CannotOpen):
                opener.update(attempt)
        with pytest.raises(CannotOpen):
            opener.finalize()


def test_nothing_opens_twice(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(b"content")
    opener = SegmentOpener(dek, context, segment)
    assert opener.update(sealed) + opener.finalize() == b"content"
    with pytest.raises(CannotOpen):
        opener.update(sealed)
    with pytest.raises(CannotOpen):
        opener.finalize()


def test_more_than_the_record_says_is_refused_before_it_is_opened(
    dek: bytes, context: Context, seal: Seal
) -> None:
    segment, sealed = seal(bytes(2 * CHUNK))
    short = Segment(CHUNK, segment.salt, segment.digest)
    opener = SegmentOpener(dek, context, short)
    with pytest.raises(CannotOpen):
        opener.update(sealed)


def test_a_salt_is_compared_however_it_arrives(dek: bytes, context: Context, seal: Seal) -> None:
    segment, sealed = seal(b"content")
    other, _ = seal(b"content")
    for write in (1, 5, SALT, 100):
        opener = SegmentOpener(dek, context, Segment(7, other.salt, segment.digest))
        head, rest = sealed[:SALT], sealed[SALT:]
        with pytest.raises(CannotOpen):
            deque(opener.update(head[at : at + write]) for at in range(0, SALT, write))
        with pytest.raises(CannotOpen):
            opener.update(rest)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_data_key_is_32_bytes(size: int, context: Context) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SegmentSealer(bytes(size), context)
    with pytest.raises(ValueError, match="32 bytes"):
        SegmentOpener(bytes(size), context)


def test_every_damage_has_one_message(dek: bytes, context: Context, seal: Seal) -> None:
    _, sealed = seal(b"content")
    messages = set()
    for damaged in (sealed[:-1], sealed[1:], sealed + b"\0", b"", bytes(len(sealed))):
        opener = SegmentOpener(dek, context)
        with pytest.raises(CannotOpen) as refusal:
            opener.update(damaged) + opener.finalize()
        messages.add(str(refusal.value))
        assert refusal.value.__cause__ is None
    assert messages == {"sealed data is damaged, truncated or belongs elsewhere"}
