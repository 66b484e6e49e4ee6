"""The worked example of docs/format.md is what both implementations make of it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from blake3 import blake3

from envelope.attributes import Attributes, open_attributes
from envelope.context import Context, Purpose
from envelope.core import Core, Segment
from envelope.envelope import decode, encode
from envelope.segment import SegmentOpener, opened_size, sealed_size
from envelope.wrap import kek_id, unwrap
from tests.vectors import independent

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def example() -> dict[str, bytes]:
    """Give the hex blocks of the document by their first line."""
    text = (ROOT / "docs" / "format.md").read_text()
    blocks = re.findall(r"^```hex\n# (.*?)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {name: bytes.fromhex(re.sub(r"#.*", "", body)) for name, body in blocks}


@pytest.fixture
def place(example: dict[str, bytes]) -> Context:
    return Core.decode(example["core"]).context


def test_the_context(example: dict[str, bytes], place: Context) -> None:
    assert place.encode(Purpose.BODY) == example["context of the body"]
    assert independent.context(place.ids(), "body") == example["context of the body"]


def test_the_derivation(example: dict[str, bytes]) -> None:
    context = example["context of the body"]
    derived = independent.derive(example["dek"], example["body"][:24], context)
    assert derived.key + derived.nonce + derived.commitment == example["derived"]
    assert example["body"][24:56] == derived.commitment


def test_the_body(example: dict[str, bytes], place: Context) -> None:
    body, plaintext = example["body"], example["plaintext"]
    opener = SegmentOpener(example["dek"], place)
    assert opener.update(body) + opener.finalize() == plaintext == b"hello, sealgate\n"
    assert sealed_size(len(plaintext)) == len(body)
    assert opened_size(len(body)) == len(plaintext)
    again = independent.seal(example["dek"], body[:24], example["context of the body"], plaintext)
    assert again == body


def test_the_core(example: dict[str, bytes]) -> None:
    core = Core.decode(example["core"])
    body = example["body"]
    assert core.segments == (Segment(16, body[:24], blake3(body).digest()),)
    assert core.encode() == example["core"]
    assert core.digest() == hashlib.sha512(example["core"]).digest()
    assert core.digest() == example["digest of the core"]


def test_the_attributes(example: dict[str, bytes]) -> None:
    core = Core.decode(example["core"])
    attributes = open_attributes(example["dek"], core, example["sealed attributes"])
    assert attributes.encode() == example["attributes"]
    assert attributes == Attributes(
        name="hello.txt",
        content_type="text/plain",
        reference="note-1",
        user={"a": "first", "team": "blue"},
        digests={"sha-256": hashlib.sha256(example["plaintext"]).digest()},
    )


def test_the_wrapped_dek(example: dict[str, bytes], place: Context) -> None:
    wrapped = example["wrapped dek"]
    assert kek_id(wrapped) == "kek-1"
    assert unwrap(example["kek"], wrapped, place.encode(Purpose.DEK)) == example["dek"]


def test_the_envelope(example: dict[str, bytes]) -> None:
    envelope = decode(example["envelope"])
    assert encode(envelope) == example["envelope"]
    assert envelope.core.encode() == example["core"]
    assert envelope.attributes == example["sealed attributes"]
    assert [wrap.wrapped for wrap in envelope.wraps] == [example["wrapped dek"]]
    assert envelope.body == example["body"]


def test_it_is_the_vector(example: dict[str, bytes]) -> None:
    case = json.loads((ROOT / "tests/vectors/cases/envelope-inline.json").read_text())
    assert "".join(case["envelope"]) == example["envelope"].hex()
    assert case["kek"] == example["kek"].hex()
    assert case["core_digest"] == example["digest of the core"].hex()


def test_the_bounds_that_the_document_states() -> None:
    text = (ROOT / "docs" / "format.md").read_text()
    assert sealed_size(0) == 72
    assert "72 bytes when sealed" in text
    for size in (0, 1, 16383, 16384, 5_000_000):
        assert sealed_size(size) == 56 + size + 16 * (size // 16384 + 1)
