"""What an adversary with the stores can try, and that nothing opens.

Damage, truncation and rearrangement of one segment are vectors too (tests/vectors); here every
byte has its turn, and whole records are exchanged between places.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope.context import Context, Purpose
from envelope.core import Core, Segment
from envelope.envelope import (
    Attributes,
    Envelope,
    Wrap,
    decode,
    encode,
    open_attributes,
    seal_attributes,
)
from envelope.errors import CannotOpen, EnvelopeError
from envelope.ranges import RangeOpener, plan
from envelope.segment import SegmentOpener, SegmentSealer
from envelope.sizes import CHUNK, HEADER, SALT, SEALED_CHUNK, TAG
from envelope.wrap import unwrap, wrap
from tests.unit.envelope.conftest import Seal
from tests.vectors import independent

KEK = b"k" * 32
PLAINTEXT = bytes(index * 5 % 256 for index in range(2 * CHUNK + 100))


@dataclasses.dataclass(frozen=True)
class Blob:
    """What a store holds of one version: an envelope, and a body beside it."""

    envelope: Envelope
    body: bytes


def make(context: Context, dek: bytes, plaintext: bytes, *, created: int = 1) -> Blob:
    sealer = SegmentSealer(dek, context)
    body = sealer.update(plaintext) + sealer.finalize()
    core = Core(context, created, (sealer.segment,))
    attributes = seal_attributes(dek, core, Attributes("n", None, "r", {}, {}))
    wrapped = wrap(KEK, "kek", dek, context.encode(Purpose.DEK))
    return Blob(Envelope(core, attributes, (Wrap("kek", wrapped, created),)), body)


def open_blob(blob: Blob, context: Context) -> bytes:
    """Open as a reader does that knows which place it asked for."""
    dek = unwrap(KEK, blob.envelope.wraps[0].wrapped, context.encode(Purpose.DEK))
    core = dataclasses.replace(blob.envelope.core, context=context)
    open_attributes(dek, core, blob.envelope.attributes)
    opened = b""
    for extent in plan(core.segments, 0, core.plaintext_size):
        opener = RangeOpener(dek, context, core.segments[extent.segment], extent)
        opened += opener.update(blob.body[extent.start : extent.stop])
        opener.finalize()
    return opened


def flips(data: bytes, *, bits: int = 8) -> Iterator[tuple[int, bytes]]:
    """Yield the data with one bit flipped, at every byte."""
    changed = bytearray(data)
    for at, bit in itertools.product(range(len(data)), range(bits)):
        changed[at] ^= 1 << bit
        yield at, bytes(changed)
        changed[at] ^= 1 << bit


def test_every_bit_of_an_envelope_matters_except_the_time_of_a_wrap(
    context: Context, dek: bytes
) -> None:
    blob = make(context, dek, b"content", created=0x1234_5678_9ABC)
    inline = encode(dataclasses.replace(blob.envelope, body=blob.body))
    # Each wrap authenticates itself, which leaves its time a note for the rotation tool.
    time = inline.rindex(bytes.fromhex("123456789abc"))
    for at, changed in flips(inline):
        try:
            envelope = decode(changed)
            assert envelope.body is not None
            opened = open_blob(Blob(envelope, envelope.body), envelope.core.context)
        except EnvelopeError:
            continue
        assert at in range(time - 2, time + 6)
        assert opened == b"content"


def test_every_byte_of_a_header_and_a_first_chunk_matters(
    context: Context, dek: bytes, seal: Seal
) -> None:
    _, sealed = seal(PLAINTEXT)
    for _, changed in flips(sealed[: HEADER + SEALED_CHUNK], bits=1):
        opener = SegmentOpener(dek, context)
        with pytest.raises(CannotOpen):
            opener.update(changed)


@pytest.mark.parametrize("chunk", [1, 2])
def test_every_byte_of_a_middle_and_a_last_chunk_matters(
    chunk: int, context: Context, dek: bytes, seal: Seal
) -> None:
    segment, sealed = seal(PLAINTEXT)
    start = chunk * CHUNK
    (extent,) = plan([segment], start, min(start + CHUNK, len(PLAINTEXT)))
    for _, changed in flips(sealed[extent.start : extent.stop], bits=1):
        opener = RangeOpener(dek, context, segment, extent)
        with pytest.raises(CannotOpen):
            opener.update(changed)


def test_a_body_cut_anywhere_does_not_open(context: Context, dek: bytes, seal: Seal) -> None:
    _, sealed = seal(PLAINTEXT)
    ends = [HEADER + chunk * SEALED_CHUNK for chunk in range(3)]
    near = {end + offset for end in ends for offset in range(-TAG - 1, TAG + 2)}
    for size in sorted({0, 1, *range(80), *near, len(sealed) - 1} & set(range(len(sealed)))):
        opener = SegmentOpener(dek, context)
        with pytest.raises(CannotOpen):
            opener.update(sealed[:size]) + opener.finalize()


def test_a_blob_opens_in_its_own_place_only(context: Context, dek: bytes) -> None:
    blob = make(context, dek, b"content")
    assert open_blob(blob, context) == b"content"
    for change in ({"tenant": "d4" * 16}, {"attachment": "d4" * 16}, {"version": "d4" * 16}):
        with pytest.raises(CannotOpen):
            open_blob(blob, dataclasses.replace(context, **change))


def test_nothing_of_one_blob_fits_into_another(context: Context, dek: bytes) -> None:
    """Even in the same place, under the same data key, with content of the same size."""
    one, two = (make(context, dek, plaintext) for plaintext in (b"content", b"kontent"))
    mixed = [
        Blob(one.envelope, two.body),
        Blob(dataclasses.replace(one.envelope, core=two.envelope.core), one.body),
        Blob(dataclasses.replace(one.envelope, core=two.envelope.core), two.body),
        Blob(dataclasses.replace(one.envelope, attributes=two.envelope.attributes), one.body),
    ]
    for blob in mixed:
        with pytest.raises(CannotOpen):
            open_blob(blob, context)


def test_a_wrap_of_another_data_key_opens_nothing(context: Context, dek: bytes) -> None:
    """The wraps are outside what is authenticated, so a store can exchange them."""
    one, two = make(context, dek, b"content"), make(context, b"o" * 32, b"content")
    with pytest.raises(CannotOpen):
        open_blob(Blob(dataclasses.replace(one.envelope, wraps=two.envelope.wraps), b""), context)


def test_segments_of_two_attempts_do_not_mix(context: Context, dek: bytes, seal: Seal) -> None:
    (one, first), (two, second) = seal(PLAINTEXT), seal(PLAINTEXT)
    cut = HEADER + SEALED_CHUNK
    for spliced in (first[:cut] + second[cut:], first[:HEADER] + second[HEADER:]):
        for segment in (None, one, two):
            opener = SegmentOpener(dek, context, segment)
            with pytest.raises(CannotOpen):
                opener.update(spliced) + opener.finalize()


def test_segments_do_not_change_places(context: Context, dek: bytes, seal: Seal) -> None:
    (one, first), (two, second) = seal(b"content"), seal(b"kontent")
    core = Core(context, 0, (one, two))
    sealed = seal_attributes(dek, core, Attributes(None, None, "", {}, {}))
    for segments in ((two, one), (one, one), (one,), (one, two, two)):
        with pytest.raises(CannotOpen):
            open_attributes(dek, dataclasses.replace(core, segments=segments), sealed)
    swapped = second + first
    extent = plan(core.segments, 0, 14)[0]
    opener = RangeOpener(dek, context, one, extent)
    with pytest.raises(CannotOpen):
        opener.update(swapped[extent.start : extent.stop])


def test_an_older_envelope_has_another_digest(context: Context, dek: bytes) -> None:
    """A store that replays one is refused by whoever pins the digest that is current."""
    older, newer = (make(context, dek, b"content", created=time) for time in (1, 2))
    assert older.envelope.core.digest() != newer.envelope.core.digest()
    assert open_blob(older, context) == b"content"


def test_concurrent_rewraps_touch_wraps_only(context: Context, dek: bytes) -> None:
    blob = make(context, dek, b"content")
    bound = context.encode(Purpose.DEK)
    rewrapped = [
        dataclasses.replace(blob.envelope, wraps=(Wrap(name, wrap(KEK, name, dek, bound), time),))
        for time, name in enumerate(("kek-2", "kek-3"))
    ]
    for envelope in rewrapped:
        again = decode(encode(envelope))
        assert again.core.digest() == blob.envelope.core.digest()
        assert open_blob(Blob(again, blob.body), context) == b"content"


def salamander(context: Context, keys: tuple[bytes, bytes]) -> tuple[bytes, list[bytes]]:
    """Return a sealed segment whose one chunk plain GCM opens under both keys."""
    salt = bytes(SALT)
    one, two = (independent.derive(key, salt, context.encode(Purpose.BODY)) for key in keys)
    chunk = independent.salamander(one, two)
    opened = [AESGCM(side.key).decrypt(side.nonce, chunk, None) for side in (one, two)]
    return salt + one.commitment + chunk, opened


def test_plain_gcm_accepts_a_salamander_and_a_segment_does_not(context: Context) -> None:
    keys = (b"1" * 32, b"2" * 32)
    sealed, (first, second) = salamander(context, keys)
    assert first != second
    segment = Segment(len(first), sealed[:SALT], b"")
    opener = SegmentOpener(keys[0], context, segment)
    assert opener.update(sealed) + opener.finalize() == first
    opener = SegmentOpener(keys[1], context, segment)
    with pytest.raises(CannotOpen):
        opener.update(sealed)
    (extent,) = plan([segment], 0, len(first))
    assert RangeOpener(keys[0], context, segment, extent).update(sealed) == first
    with pytest.raises(CannotOpen):
        RangeOpener(keys[1], context, segment, extent).update(sealed)


def test_attributes_commit_to_the_key_for_chunks_without_a_header(context: Context) -> None:
    """A chunk in the middle carries no commitment, so its reader opens the attributes first."""
    keys = (b"1" * 32, b"2" * 32)
    core = Core(context, 0, (Segment(CHUNK + 64, bytes(SALT), bytes(32)),))
    sealed = seal_attributes(keys[0], core, Attributes(None, None, "", {}, {}))
    open_attributes(keys[0], core, sealed)
    with pytest.raises(CannotOpen):
        open_attributes(keys[1], core, sealed)


def test_no_ciphertext_of_one_purpose_serves_another(context: Context, dek: bytes) -> None:
    core = Core(context, 0, (Segment(0, bytes(SALT), bytes(32)),))
    attributes = seal_attributes(dek, core, Attributes(None, None, "", {}, {}))
    opener = SegmentOpener(dek, context)
    with pytest.raises(CannotOpen):
        opener.update(attributes) + opener.finalize()
    sealer = SegmentSealer(dek, context)
    body = sealer.update(attributes) + sealer.finalize()
    with pytest.raises(CannotOpen):
        open_attributes(dek, core, body)
    for purpose in (Purpose.BODY, Purpose.ATTRIBUTES):
        wrapped = wrap(KEK, "kek", dek, context.encode(purpose))
        with pytest.raises(CannotOpen):
            unwrap(KEK, wrapped, context.encode(Purpose.DEK))


def test_the_package_asks_for_nothing_but_its_three_libraries() -> None:
    allowed = ("cryptography", "cbor2", "blake3", "envelope")
    stdlib = (
        "__future__",
        "base64",
        "binascii",
        "json",
        "dataclasses",
        "enum",
        "hashlib",
        "hmac",
        "io",
        "re",
        "struct",
        "typing",
        "collections",
    )
    folder = Path(__file__).parents[3] / "envelope"
    for path in folder.glob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("import ", "from ")):
                root = line.split()[1].split(".")[0]
                assert root in allowed + stdlib, f"{path.name} imports {root}"
