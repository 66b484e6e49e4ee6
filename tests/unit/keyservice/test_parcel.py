"""A root key on its way in: what opens, what does not, and that nothing is shown."""

import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from keyservice.errors import Invalid
from keyservice.parcel import KEY_SIZE, pack, unpack

KEY = bytes(range(KEY_SIZE))
PRIVATE = rsa.generate_private_key(65537, 3072)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_what_was_packed_opens() -> None:
    assert unpack(PRIVATE, pack(pem(PRIVATE), KEY)) == KEY


def test_no_two_parcels_are_alike() -> None:
    assert pack(pem(PRIVATE), KEY) != pack(pem(PRIVATE), KEY)


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33, 64])
def test_only_keys_of_the_right_size_are_packed(size: int) -> None:
    with pytest.raises(Invalid, match=f"this has {size}"):
        pack(pem(PRIVATE), b"k" * size)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "junk",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "junk", "curve", "small"],
)
def test_what_is_no_good_wrapping_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        pack(text, KEY)
    assert KEY.hex() not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("place", [0, 100, 383, 384, 400, -1])
def test_damage_does_not_open(place: int) -> None:
    parcel = bytearray(pack(pem(PRIVATE), KEY))
    parcel[place] ^= 1
    with pytest.raises(Invalid, match="does not open"):
        unpack(PRIVATE, bytes(parcel))


@pytest.mark.parametrize("length", [0, 1, 383, 384, 392, 423])
def test_a_part_does_not_open(length: int) -> None:
    with pytest.raises(Invalid, match="does not open"):
        unpack(PRIVATE, pack(pem(PRIVATE), KEY)[:length])


def test_it_opens_for_nobody_else() -> None:
    stranger = rsa.generate_private_key(65537, 3072)
    with pytest.raises(Invalid, match="does not open"):
        unpack(stranger, pack(pem(PRIVATE), KEY))
