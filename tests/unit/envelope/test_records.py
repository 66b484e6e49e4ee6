"""Core, attributes, wraps and envelope: bounds, canonical form, and what stays secret."""

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from envelope import attributes as bounds
from envelope.attributes import Attributes, open_attributes, seal_attributes
from envelope.context import Context, Purpose
from envelope.core import MAX_SEGMENTS, MAX_TIME, Core, Segment
from envelope.envelope import (
    MAX_ENVELOPE,
    MAX_INLINE,
    MAX_WRAPS,
    Envelope,
    Wrap,
    decode,
    encode,
    encode_bare,
)
from envelope.errors import CannotOpen, EnvelopeError, Malformed, TooLarge
from envelope.sizes import CHUNK, MAX_PLAINTEXT, sealed_size
from envelope.wrap import MAX_WRAPPED, kek_id, unwrap, wrap

SEGMENT = Segment(16, bytes(24), bytes(32))
PLAIN = Attributes("name", "text/plain", "reference", {"b": "1", "aa": "2"}, {"sha-256": bytes(32)})


@pytest.fixture
def core(context: Context) -> Core:
    return Core(context, 1_767_225_600_000_000, (SEGMENT,))


@pytest.fixture
def envelope(dek: bytes, core: Core) -> Envelope:
    wrapped = wrap(bytes(32), "kek", dek, core.context.encode(Purpose.DEK))
    sealed = seal_attributes(dek, core, PLAIN)
    return Envelope(core, sealed, (Wrap("kek", wrapped, 7),), bytes(sealed_size(16)))


def largest(context: Context) -> Core:
    return Core(context, MAX_TIME, (dataclasses.replace(SEGMENT, salt=b"s" * 24),) * MAX_SEGMENTS)


def test_an_envelope_survives_its_encoding(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope
    apart = dataclasses.replace(envelope, body=None)
    assert decode(encode(apart)) == apart
    assert encode_bare(envelope) == encode_bare(apart) == encode(apart)
    assert Core.decode(envelope.core.encode()) == envelope.core


def test_it_is_plain_deterministic_cbor(envelope: Envelope) -> None:
    fields = cbor2.loads(encode(envelope))
    assert fields[0] == "sealgate/1"
    assert cbor2.loads(fields[1])[:2] == [1, bytes.fromhex(envelope.core.context.tenant)]
    assert fields[3] == [[envelope.wraps[0].wrapped, 7]]
    assert cbor2.dumps(fields, canonical=True) == encode(envelope)


def test_the_largest_envelope_fits(dek: bytes, context: Context) -> None:
    core = largest(context)
    user = {f"{index:0128}": "v" * bounds.MAX_USER_VALUE for index in range(bounds.MAX_USER)}
    digests = {f"{index:032}": bytes(bounds.MAX_DIGEST) for index in range(bounds.MAX_DIGESTS)}
    attributes = Attributes(
        "n" * bounds.MAX_NAME,
        "t" * bounds.MAX_CONTENT_TYPE,
        "r" * bounds.MAX_REFERENCE,
        user,
        digests,
    )
    sealed = seal_attributes(dek, core, attributes)
    assert open_attributes(dek, core, sealed) == attributes
    wraps = tuple(
        Wrap(name, wrap(bytes(32), name, dek, b""), MAX_TIME)
        for name in (f"{index:064}" for index in range(MAX_WRAPS))
    )
    data = encode(Envelope(core, sealed, wraps))
    assert decode(data).wraps == wraps
    assert len(data) + MAX_INLINE < MAX_ENVELOPE


def test_a_body_of_many_segments_has_exact_sizes(context: Context) -> None:
    core = largest(context)
    assert core.plaintext_size == 16 * MAX_SEGMENTS
    assert core.ciphertext_size == sealed_size(16) * MAX_SEGMENTS


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"segments": ()}, Malformed),
        ({"segments": (SEGMENT,) * (MAX_SEGMENTS + 1)}, TooLarge),
        ({"segments": (dataclasses.replace(SEGMENT, digest=b""),)}, Malformed),
        ({"segments": (Segment(MAX_PLAINTEXT, bytes(24), bytes(32)), SEGMENT)}, TooLarge),
        ({"created": -1}, Malformed),
        ({"created": MAX_TIME + 1}, Malformed),
        ({"created": 7, "resealed": 7}, Malformed),
        ({"resealed": MAX_TIME + 1}, Malformed),
    ],
)
def test_a_core_has_bounds(change: dict[str, Any], error: type[Exception], core: Core) -> None:
    with pytest.raises(error):
        dataclasses.replace(core, **change)


@pytest.mark.parametrize(
    ("size", "salt", "digest", "error"),
    [
        (-1, 24, 32, TooLarge),
        (MAX_PLAINTEXT + 1, 24, 32, TooLarge),
        (1, 23, 32, Malformed),
        (1, 24, 31, Malformed),
        (1, 24, 33, Malformed),
    ],
)
def test_a_segment_has_bounds(size: int, salt: int, digest: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        Segment(size, bytes(salt), bytes(digest))


def test_the_digest_of_a_core_is_of_all_of_it(core: Core) -> None:
    others = [
        dataclasses.replace(core, created=core.created + 1),
        dataclasses.replace(core, resealed=core.created + 1),
        dataclasses.replace(core, segments=core.segments * 2),
        dataclasses.replace(core, context=dataclasses.replace(core.context, version="d4" * 16)),
        dataclasses.replace(core, segments=(dataclasses.replace(SEGMENT, plaintext_size=17),)),
        dataclasses.replace(core, segments=(dataclasses.replace(SEGMENT, salt=b"s" * 24),)),
        dataclasses.replace(core, segments=(dataclasses.replace(SEGMENT, digest=b"d" * 32),)),
    ]
    assert len({core.digest(), *(other.digest() for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"attributes": bytes(71)}, Malformed),
        ({"attributes": bytes(bounds.MAX_SEALED_ATTRIBUTES + 1)}, Malformed),
        ({"wraps": ()}, Malformed),
        ({"body": b""}, Malformed),
    ],
)
def test_an_envelope_has_bounds(
    change: dict[str, Any], error: type[Exception], envelope: Envelope
) -> None:
    with pytest.raises(error):
        dataclasses.replace(envelope, **change)


def test_an_envelope_has_at_most_eight_wraps_under_as_many_keks(envelope: Envelope) -> None:
    (one,) = envelope.wraps
    with pytest.raises(Malformed):
        dataclasses.replace(envelope, wraps=(one, one))
    wraps = tuple(
        Wrap(name, wrap(bytes(32), name, bytes(32), b""), 0) for name in map(str, range(9))
    )
    dataclasses.replace(envelope, wraps=wraps[:8])
    with pytest.raises(Malformed):
        dataclasses.replace(envelope, wraps=wraps)


def test_an_inline_body_has_a_bound(envelope: Envelope) -> None:
    large = dataclasses.replace(
        envelope.core, segments=(Segment(MAX_INLINE, bytes(24), bytes(32)),)
    )
    with pytest.raises(TooLarge):
        Envelope(large, envelope.attributes, envelope.wraps, bytes(large.ciphertext_size))


def test_a_wrap_names_the_kek_of_its_wrapped_key(envelope: Envelope) -> None:
    (one,) = envelope.wraps
    with pytest.raises(Malformed):
        dataclasses.replace(one, kek="other")
    with pytest.raises(Malformed):
        dataclasses.replace(one, created=MAX_TIME + 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": "é" * 513}, TooLarge),
        ({"content_type": "t" * 256}, TooLarge),
        ({"reference": "r" * 1025}, TooLarge),
        ({"user": {str(index): "" for index in range(65)}}, TooLarge),
        ({"user": {"k" * 129: ""}}, TooLarge),
        ({"user": {"k": "v" * 2049}}, TooLarge),
        ({"user": {"": "v"}}, Malformed),
        ({"digests": {str(index): b"d" for index in range(9)}}, TooLarge),
        ({"digests": {"SHA-256": bytes(32)}}, Malformed),
        ({"digests": {"": bytes(32)}}, Malformed),
        ({"digests": {"sha-256": b""}}, Malformed),
        ({"digests": {"sha-256": bytes(65)}}, Malformed),
        ({"name": "\ud800"}, Malformed),
        ({"user": {"k": "\udfff"}}, Malformed),
    ],
)
def test_attributes_have_bounds(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as refusal:
        dataclasses.replace(PLAIN, **change)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "attributes",
    [
        PLAIN,
        Attributes(None, None, "", {}, {}),
        Attributes("", "", "", {"k": ""}, {}),
        Attributes("名前\n\0.txt", "x", "🔒", {"ключ": "значение"}, {"blake3": bytes(32)}),
    ],
)
def test_attributes_open_as_they_were_sealed(
    attributes: Attributes, dek: bytes, core: Core
) -> None:
    assert open_attributes(dek, core, seal_attributes(dek, core, attributes)) == attributes


def test_the_order_of_entries_leaves_no_trace(dek: bytes, core: Core) -> None:
    turned = dataclasses.replace(PLAIN, user=dict(reversed(list(PLAIN.user.items()))))
    assert turned.encode() == PLAIN.encode()
    assert seal_attributes(dek, core, PLAIN) != seal_attributes(dek, core, PLAIN)


def test_too_large_attributes_are_not_even_opened(dek: bytes, core: Core) -> None:
    with pytest.raises(TooLarge):
        open_attributes(dek, core, bytes(bounds.MAX_SEALED_ATTRIBUTES + 1))


def test_no_attribute_shows_in_a_repr(dek: bytes, core: Core, envelope: Envelope) -> None:
    secret = Attributes("canary", "canary", "canary", {"canary": "canary"}, {"canary": b"canary"})
    assert "canary" not in repr(secret)
    sealed = seal_attributes(dek, core, secret)
    assert "canary" not in repr(dataclasses.replace(envelope, attributes=sealed))


def test_a_wrapped_key_has_the_size_that_its_kek_id_says(dek: bytes) -> None:
    wrapped = wrap(bytes(32), "k" * 64, dek, b"context")
    assert len(wrapped) == MAX_WRAPPED
    assert kek_id(wrapped) == "k" * 64
    assert unwrap(bytes(32), wrapped, b"context") == dek


@pytest.mark.parametrize("name", ["", "k" * 65, "with space", "é", "new\n", "\x7f"])
def test_a_kek_id_is_printable_ascii(name: str, dek: bytes) -> None:
    with pytest.raises(Malformed):
        wrap(bytes(32), name, dek, b"")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_are_32_bytes(size: int, dek: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        wrap(bytes(32), "kek", bytes(size), b"")
    with pytest.raises(ValueError, match="32 bytes"):
        wrap(bytes(size), "kek", dek, b"")


def test_context_and_kek_id_do_not_run_into_each_other(dek: bytes) -> None:
    wrapped = wrap(bytes(32), "kek", dek, b"context")
    renamed = wrapped.replace(b"\0\3kek", b"\0\4tkek")
    with pytest.raises(CannotOpen):
        unwrap(bytes(32), renamed, b"contex")


HUGE = [
    "85" + "7b" + "7fffffffffffffff",
    "85" + "6a7365616c676174652f31" + "5b" + "ffffffffffffffff",
    "85" + "6a7365616c676174652f31" + "5a" + "00100000",
    "9b" + "7fffffffffffffff",
    "9a" + "7fffffff",
    "bb" + "7fffffffffffffff",
    "81" * 5000,
    "85" + "6a7365616c676174652f31" + "81" * 5000,
]


def allocated(raw: bytes) -> int:
    """Decode what is refused; return the most memory that it took, the least of some tries.

    A thread that another test has left may take some meanwhile.
    """
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            with pytest.raises(EnvelopeError):
                decode(raw)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)


@pytest.mark.parametrize("data", HUGE)
def test_a_huge_declared_length_allocates_nothing(data: str) -> None:
    assert allocated(bytes.fromhex(data)) < 64 * 1024


def test_small_items_by_the_million_allocate_nothing() -> None:
    raw = b"\x9a\x00\x3f\x00\x00" + b"\x80" * (MAX_ENVELOPE - 5)
    assert allocated(raw) < 64 * 1024


Edit = Callable[[list[Any]], object]


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, -1, "text", b"", [], {}, cbor2.undefined, cbor2.CBORTag(2, b"\1"), 1 << 70],
)
def test_a_field_of_another_type_is_refused_everywhere(value: Any, envelope: Envelope) -> None:
    for at in range(5):
        fields = cbor2.loads(encode(envelope))
        if at == 4 and value is None:
            continue
        fields[at] = value
        with pytest.raises(EnvelopeError):
            decode(cbor2.dumps(fields))
    for at in range(6):
        fields = cbor2.loads(encode(envelope))
        core = cbor2.loads(fields[1])
        core[at] = value
        fields[1] = cbor2.dumps(core)
        with pytest.raises(EnvelopeError):
            decode(cbor2.dumps(fields))


def test_wider_integers_and_floats_are_refused(envelope: Envelope) -> None:
    data = encode(envelope)
    assert data.count(b"\x07\x58\x58") == 1
    for wider in (b"\x18\x07", b"\x19\0\7", b"\xf9\x47\0"):
        with pytest.raises(Malformed):
            decode(data.replace(b"\x07\x58\x58", wider + b"\x58\x58"))


def test_an_inline_body_of_several_segments(context: Context, envelope: Envelope) -> None:
    segments = tuple(Segment(size, bytes(24), bytes(32)) for size in (0, CHUNK, 1))
    core = Core(context, 0, segments)
    several = Envelope(core, envelope.attributes, envelope.wraps, bytes(core.ciphertext_size))
    assert decode(encode(several)) == several
