"""Properties of the format: any split, any range, any flipped bit, any truncation."""

import functools
from collections.abc import Iterator

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope import attributes as bounds
from envelope.attributes import Attributes, open_attributes, seal_attributes
from envelope.context import Context, Purpose
from envelope.core import MAX_TIME, Core, Segment
from envelope.envelope import Envelope, Wrap, decode, encode
from envelope.errors import CannotOpen, EnvelopeError
from envelope.ranges import RangeOpener, plan
from envelope.segment import SegmentOpener, SegmentSealer
from envelope.sizes import CHUNK, SEALED_CHUNK, sealed_size
from envelope.wrap import kek_id, unwrap, wrap

# Busy machines are slow at times, which is no failure of a property.
thorough = settings(max_examples=300, deadline=None)

DEK = bytes(range(32))
CONTEXT = Context("a1" * 16, "b2" * 16, "c3" * 16)
EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]

sizes = st.sampled_from(EDGES) | st.integers(0, 3 * CHUNK)
bodies = st.lists(sizes, min_size=1, max_size=6).map(tuple)
writes = st.lists(st.integers(0, 2 * CHUNK) | st.sampled_from([1, 56, SEALED_CHUNK]), max_size=30)


@functools.lru_cache(maxsize=64)
def sealed_body(plain_sizes: tuple[int, ...]) -> tuple[bytes, tuple[Segment, ...], bytes]:
    """Return plaintext, segments and ciphertext of a body of many segments."""
    plaintext, segments, body = b"", [], b""
    for number, size in enumerate(plain_sizes):
        part = blake3(bytes([number])).digest(size)
        sealer = SegmentSealer(DEK, CONTEXT)
        body += sealer.update(part) + sealer.finalize()
        plaintext += part
        segments.append(sealer.segment)
    return plaintext, tuple(segments), body


def split(data: bytes, at: list[int]) -> Iterator[memoryview]:
    """Yield all of `data` in writes of the given sizes, and the rest in one."""
    view = memoryview(data)
    for size in at:
        yield view[:size]
        view = view[size:]
    yield view


@thorough
@given(sizes, writes, writes)
def test_any_split_of_writes_seals_and_opens(size: int, seal: list[int], push: list[int]) -> None:
    plaintext = blake3(b"").digest(size)
    sealer = SegmentSealer(DEK, CONTEXT)
    sealed = b"".join([sealer.update(piece) for piece in split(plaintext, seal)])
    sealed += sealer.finalize()
    assert len(sealed) == sealed_size(size)
    assert sealer.segment.digest == blake3(sealed).digest()
    opener = SegmentOpener(DEK, CONTEXT, sealer.segment)
    opened = b"".join([opener.update(piece) for piece in split(sealed, push)])
    assert opened + opener.finalize() == plaintext


@thorough
@given(sizes, writes)
def test_any_split_seals_into_a_buffer(size: int, seal: list[int]) -> None:
    plaintext = blake3(b"").digest(size)
    sealer = SegmentSealer(DEK, CONTEXT)
    sealed = bytearray()
    for piece in split(plaintext, seal):
        room = bytearray(SegmentSealer.room_for(len(piece)))
        sealed += room[: sealer.update_into(piece, room)]
    sealed += sealer.finalize()
    opener = SegmentOpener(DEK, CONTEXT, sealer.segment)
    assert opener.update(sealed) + opener.finalize() == plaintext


@thorough
@given(bodies, st.data(), writes)
def test_any_range_equals_the_slice(
    plain_sizes: tuple[int, ...], data: st.DataObject, push: list[int]
) -> None:
    plaintext, segments, body = sealed_body(plain_sizes)
    start = data.draw(st.integers(0, len(plaintext)))
    stop = data.draw(st.integers(start, len(plaintext)))
    opened, into = b"", bytearray()
    read = 0
    for extent in plan(segments, start, stop):
        segment = segments[extent.segment]
        opener = RangeOpener(DEK, CONTEXT, segment, extent)
        filler = RangeOpener(DEK, CONTEXT, segment, extent)
        for piece in split(body[extent.start : extent.stop], push):
            opened += opener.update(piece)
            room = bytearray(RangeOpener.room_for(len(piece)))
            into += room[: filler.update_into(piece, room)]
        opener.finalize()
        filler.finalize()
        read += extent.stop - extent.start
    assert opened == into == plaintext[start:stop]
    # At most a header and two partly needed chunks a segment come on top.
    overhead = len(segments) * (2 * SEALED_CHUNK + 72) + (stop - start) // CHUNK * 16
    assert read <= stop - start + overhead


@thorough
@given(bodies, st.data())
def test_any_flipped_bit_is_found_by_reading_all(
    plain_sizes: tuple[int, ...], data: st.DataObject
) -> None:
    plaintext, segments, body = sealed_body(plain_sizes)
    # An empty segment holds nothing to read, so only a reader of whole segments sees it.
    at = data.draw(st.integers(0, 8 * len(body) - 1))
    damaged = bytearray(body)
    damaged[at // 8] ^= 1 << at % 8
    released = b""
    failed = False
    start = 0
    for segment in segments:
        stop = start + segment.ciphertext_size
        opener = SegmentOpener(DEK, CONTEXT, segment)
        try:
            for offset in range(start, stop, 8200):
                released += opener.update(damaged[offset : min(offset + 8200, stop)])
            released += opener.finalize()
        except CannotOpen:
            failed = True
            break
        start = stop
    assert failed
    assert plaintext.startswith(released)


@thorough
@given(bodies.filter(any), st.data(), st.integers(1, 3 * CHUNK))
def test_any_flipped_bit_under_a_range_is_found(
    plain_sizes: tuple[int, ...], data: st.DataObject, push: int
) -> None:
    plaintext, segments, body = sealed_body(plain_sizes)
    start = data.draw(st.integers(0, len(plaintext) - 1))
    stop = data.draw(st.integers(start + 1, len(plaintext)))
    extents = plan(segments, start, stop)
    extent = data.draw(st.sampled_from(extents))
    at = data.draw(st.integers(8 * extent.start, 8 * extent.stop - 1))
    damaged = bytearray(body)
    damaged[at // 8] ^= 1 << at % 8
    released = b""
    failed = False
    for each in extents:
        opener = RangeOpener(DEK, CONTEXT, segments[each.segment], each)
        try:
            for offset in range(each.start, each.stop, push):
                released += opener.update(damaged[offset : min(offset + push, each.stop)])
            opener.finalize()
        except CannotOpen:
            failed = True
            break
    assert failed
    assert plaintext[start:stop].startswith(released)


@thorough
@given(sizes, st.data())
def test_any_truncation_is_found(size: int, data: st.DataObject) -> None:
    plaintext, (segment,), body = sealed_body((size,))
    cut = data.draw(st.integers(0, len(body) - 1))
    for record in (None, segment):
        opener = SegmentOpener(DEK, CONTEXT, record)
        released = b""
        failed = False
        try:
            released += opener.update(body[:cut])
            released += opener.finalize()
        except CannotOpen:
            failed = True
        assert failed
        assert plaintext.startswith(released)


names = st.none() | st.text(max_size=bounds.MAX_NAME // 4)
some_attributes = st.builds(
    Attributes,
    name=names,
    content_type=st.none() | st.text(max_size=60),
    reference=st.text(max_size=bounds.MAX_REFERENCE // 4),
    user=st.dictionaries(st.text(min_size=1, max_size=32), st.text(max_size=100), max_size=8),
    digests=st.dictionaries(
        st.text("abcdef0123456789-", min_size=1, max_size=32),
        st.binary(min_size=1, max_size=64),
        max_size=8,
    ),
)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
segments = st.builds(
    Segment,
    st.integers(0, 1 << 40),
    st.binary(min_size=24, max_size=24),
    st.binary(min_size=32, max_size=32),
)
cores = st.builds(
    Core,
    st.builds(Context, ids, ids, ids),
    st.integers(0, MAX_TIME),
    st.lists(segments, min_size=1, max_size=20).map(tuple),
)
kek_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Draw an envelope, small bodies inline among them."""
    core = draw(cores)
    wraps = tuple(
        Wrap(name, wrap(DEK, name, DEK, b""), draw(st.integers(0, MAX_TIME)))
        for name in draw(st.lists(kek_names, min_size=1, max_size=8, unique=True))
    )
    small = core.ciphertext_size < 1 << 16
    body = bytes(core.ciphertext_size) if small and draw(st.booleans()) else None
    return Envelope(core, seal_attributes(DEK, core, draw(some_attributes)), wraps, body)


@thorough
@given(cores, some_attributes)
def test_any_attributes_open_with_their_core(core: Core, attributes: Attributes) -> None:
    sealed = seal_attributes(DEK, core, attributes)
    assert open_attributes(DEK, core, sealed) == attributes
    assert Core.decode(core.encode()) == core


@thorough
@given(envelopes())
def test_any_envelope_survives_its_encoding(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope


@thorough
@given(envelopes(), st.data())
def test_whatever_decodes_is_canonical(envelope: Envelope, data: st.DataObject) -> None:
    changed = bytearray(encode(envelope))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(changed))
    except EnvelopeError:
        return
    assert encode(decoded) == changed


@thorough
@given(st.binary(max_size=400), st.booleans())
def test_no_input_breaks_the_decoders(noise: bytes, prefixed: bool) -> None:  # noqa: FBT001  # drawn
    data = b"\x85\x6asealgate/1" + noise if prefixed else noise
    for decoder in (decode, Core.decode, Attributes.decode, kek_id):
        try:
            decoder(data)
        except EnvelopeError:
            continue


@thorough
@given(kek_names, st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_any_data_key_unwraps_in_its_context(name: str, context: bytes, dek: bytes) -> None:
    wrapped = wrap(DEK, name, dek, context)
    assert kek_id(wrapped) == name
    assert unwrap(DEK, wrapped, context) == dek


@thorough
@given(st.data())
def test_any_flipped_bit_of_a_wrapped_key_is_found(data: st.DataObject) -> None:
    bound = CONTEXT.encode(Purpose.DEK)
    wrapped = bytearray(wrap(DEK, "kek-1", DEK, bound))
    at = data.draw(st.integers(0, 8 * len(wrapped) - 1))
    wrapped[at // 8] ^= 1 << at % 8
    try:
        unwrap(DEK, bytes(wrapped), bound)
    except EnvelopeError:
        return
    raise AssertionError("a damaged key was unwrapped")
