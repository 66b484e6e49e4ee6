"""Every vector does with the library what it says, and the generator still writes them all."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envelope import wrap
from envelope.context import Context, Purpose
from envelope.core import Core, Segment
from envelope.envelope import Attributes, decode, encode, open_attributes
from envelope.errors import CannotOpen, EnvelopeError, Malformed, TooLarge
from envelope.ranges import RangeOpener, plan
from envelope.segment import SegmentOpener
from tests.vectors.generate import generate

FOLDER = Path(__file__).with_name("cases")
ERRORS: dict[str, type[EnvelopeError]] = {
    "cannot-open": CannotOpen,
    "malformed": Malformed,
    "too-large": TooLarge,
}
# Divides the header and a sealed chunk, so that no chunk waits for the bytes of the next.
PUSH = 8

Case = dict[str, Any]


@functools.cache
def case_of(name: str) -> Case:
    case: Case = json.loads((FOLDER / f"{name}.json").read_text())
    return case


def names(kind: str) -> list[str]:
    paths = sorted(FOLDER.glob("*.json"))
    return [path.stem for path in paths if case_of(path.stem)["kind"] == kind]


def unpack(pieces: list[Any]) -> bytes:
    return b"".join(
        bytes.fromhex(piece) if isinstance(piece, str) else bytes(piece["zeros"])
        for piece in pieces
    )


def context_of(case: Case) -> Context:
    return Context(**case["context"])


def check(case: Case, plaintexts: Iterator[bytes]) -> None:
    """Hold what comes out, and how it ends, against the case."""
    released = bytearray()
    error: type[EnvelopeError] | None = None
    try:
        for plaintext in plaintexts:
            released += plaintext
    except EnvelopeError as failure:
        error = type(failure)
    assert error is ERRORS.get(case["expect"])
    assert len(released) == case["released"]["size"]
    assert hashlib.sha256(released).hexdigest() == case["released"]["sha256"]


def test_there_are_vectors_of_every_kind() -> None:
    kinds = ("context", "segment", "range", "wrap", "attributes", "envelope")
    assert all(len(names(kind)) >= 3 for kind in kinds)
    assert sum(len(names(kind)) for kind in kinds) == len(list(FOLDER.glob("*.json")))


@pytest.mark.parametrize("name", names("context"))
def test_a_context_encodes_as_written(name: str) -> None:
    case = case_of(name)
    encoded = context_of(case).encode(
        Purpose[case["purpose"].upper()], bytes.fromhex(case["extra"])
    )
    assert encoded.hex() == case["encoded"]


@pytest.mark.parametrize("name", names("segment"))
def test_a_segment_releases_what_is_written(name: str) -> None:
    case = case_of(name)
    sealed = unpack(case["sealed"])

    def opened() -> Iterator[bytes]:
        opener = SegmentOpener(bytes.fromhex(case["dek"]), context_of(case), record(case))
        for at in range(0, len(sealed), PUSH):
            yield opener.update(sealed[at : at + PUSH])
        yield opener.finalize()

    check(case, opened())


@pytest.mark.parametrize("name", names("segment"))
def test_a_segment_in_one_push_releases_no_more(name: str) -> None:
    case = case_of(name)
    opener = SegmentOpener(bytes.fromhex(case["dek"]), context_of(case), record(case))
    released = b""
    try:
        released += opener.update(unpack(case["sealed"]))
        released += opener.finalize()
    except CannotOpen:
        assert case["expect"] == "cannot-open"
    else:
        assert case["expect"] == "opens"
    assert len(released) <= case["released"]["size"]


def record(case: Case) -> Segment | None:
    written = case["record"]
    return written and Segment(written["plaintext_size"], bytes.fromhex(written["salt"]), b"")


def push_range(case: Case, push: Callable[[RangeOpener, bytes], bytes]) -> Iterator[bytes]:
    segments = segments_of(case)
    body = unpack(case["body"])
    for extent in plan(segments, case["start"], case["stop"]):
        opener = RangeOpener(
            bytes.fromhex(case["dek"]), context_of(case), segments[extent.segment], extent
        )
        for at in range(extent.start, extent.stop, PUSH):
            yield push(opener, body[at : min(at + PUSH, extent.stop)])
        opener.finalize()


def segments_of(case: Case) -> list[Segment]:
    return [
        Segment(segment["plaintext_size"], bytes.fromhex(segment["salt"]), b"")
        for segment in case["segments"]
    ]


@pytest.mark.parametrize("name", names("range"))
def test_a_range_releases_what_is_written(name: str) -> None:
    case = case_of(name)
    extents = plan(segments_of(case), case["start"], case["stop"])
    assert [[e.segment, e.start, e.stop, e.first_chunk, e.skip, e.take] for e in extents] == case[
        "extents"
    ]
    check(case, push_range(case, lambda opener, data: opener.update(data)))


@pytest.mark.parametrize("name", names("range"))
def test_a_range_into_a_buffer_releases_the_same(name: str) -> None:
    case = case_of(name)
    room = bytearray(RangeOpener.room_for(PUSH))
    check(
        case,
        push_range(case, lambda opener, data: bytes(room[: opener.update_into(data, room)])),
    )


@pytest.mark.parametrize("name", names("wrap"))
def test_a_wrapped_key_opens_or_not_as_written(name: str) -> None:
    case = case_of(name)
    kek, wrapped, context = (bytes.fromhex(case[key]) for key in ("kek", "wrapped", "context"))
    if case["expect"] == "opens":
        assert wrap.unwrap(kek, wrapped, context).hex() == case["dek"]
    else:
        with pytest.raises(ERRORS[case["expect"]]):
            wrap.unwrap(kek, wrapped, context)


@pytest.mark.parametrize("name", names("attributes"))
def test_attributes_open_or_not_as_written(name: str) -> None:
    case = case_of(name)
    dek, core = bytes.fromhex(case["dek"]), Core.decode(bytes.fromhex(case["core"]))
    sealed = unpack(case["sealed"])
    if case["expect"] == "opens":
        assert open_attributes(dek, core, sealed) == attributes_of(case)
    else:
        with pytest.raises(ERRORS[case["expect"]]):
            open_attributes(dek, core, sealed)


def attributes_of(case: Case) -> Attributes:
    written = case["attributes"]
    digests = {name: bytes.fromhex(digest) for name, digest in written["digests"].items()}
    return Attributes(**{**written, "digests": digests})


@pytest.mark.parametrize("name", names("envelope"))
def test_an_envelope_decodes_or_not_as_written(name: str) -> None:
    case = case_of(name)
    data = unpack(case["envelope"])
    if case["expect"] == "opens":
        assert encode(decode(data)) == data
    else:
        with pytest.raises(ERRORS[case["expect"]]):
            decode(data)


def test_the_inline_envelope_opens_from_the_kek_down() -> None:
    case = case_of("envelope-inline")
    envelope = decode(unpack(case["envelope"]))
    context = envelope.core.context
    dek = wrap.unwrap(
        bytes.fromhex(case["kek"]), envelope.wraps[0].wrapped, context.encode(Purpose.DEK)
    )
    assert dek.hex() == case["dek"]
    assert envelope.core.digest().hex() == case["core_digest"]
    assert open_attributes(dek, envelope.core, envelope.attributes) == attributes_of(case)
    opener = SegmentOpener(dek, context, envelope.core.segments[0])
    assert envelope.body is not None
    assert opener.update(envelope.body) + opener.finalize() == bytes.fromhex(case["body"])


def test_the_generator_writes_the_same_files(tmp_path: Path) -> None:
    generate(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in FOLDER.iterdir()}


def test_the_generator_removes_cases_that_are_no_more(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    generate(tmp_path)
    assert not (tmp_path / "gone.json").exists()
