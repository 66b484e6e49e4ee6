"""A context has one encoding, and no two places share it."""

import itertools

import pytest

from envelope.context import Context, Purpose
from envelope.errors import Malformed, TooLarge

TENANT, ATTACHMENT, VERSION = "a1" * 16, "b2" * 16, "c3" * 16


def test_it_encodes_to_the_bytes_of_the_document() -> None:
    encoded = Context(TENANT, ATTACHMENT, VERSION).encode(Purpose.BODY)
    assert encoded == (
        b"\x00\x0asealgate/1"
        b"\x00\x04body"
        b"\x00\x10"
        + b"\xa1" * 16
        + b"\x00\x10"
        + b"\xb2" * 16
        + b"\x00\x10"
        + b"\xc3" * 16
        + b"\x00\x00"
    )


def test_every_place_and_purpose_has_its_own_encoding() -> None:
    ids = ("00" * 16, "01" * 16, "10" * 16)
    encodings = [
        Context(*places).encode(purpose, extra)
        for places in itertools.product(ids, repeat=3)
        for purpose in Purpose
        for extra in (b"", b"\0", b"\0\0")
    ]
    assert len(set(encodings)) == len(encodings)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a1" * 15,
        "a1" * 17,
        "A1" * 16,
        "g1" * 16,
        "a1" * 15 + "a ",
        "a1" * 16 + "\n",
        "\u0661" * 32,
    ],
)
def test_an_id_is_32_lower_case_hex_characters(bad: str) -> None:
    for ids in ((bad, ATTACHMENT, VERSION), (TENANT, bad, VERSION), (TENANT, ATTACHMENT, bad)):
        with pytest.raises(Malformed):
            Context(*ids)


def test_a_field_has_at_most_65535_bytes() -> None:
    context = Context(TENANT, ATTACHMENT, VERSION)
    assert context.encode(Purpose.BODY, bytes(65535)).endswith(bytes(65535))
    with pytest.raises(TooLarge):
        context.encode(Purpose.BODY, bytes(65536))
