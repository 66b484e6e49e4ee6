"""Who is calling: from a certificate or, in development, a token."""

import pytest

from keyservice.access.callers import TokenCheck, of_certificate
from keyservice.errors import Unauthenticated

TOKEN = "t" * 40


def test_a_caller_is_all_its_names_uris_first() -> None:
    names = (("DNS", "g"), ("IP Address", "127.0.0.1"), ("URI", "spiffe://g"), ("DirName", "x"))
    caller = of_certificate({"subject": ((("commonName", "other"),),), "subjectAltName": names})
    assert caller.names == ("uri:spiffe://g", "dns:g", "ip:127.0.0.1")
    assert caller.name == "uri:spiffe://g"


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        {},
        {"subject": ((("commonName", "g"),),)},
        {"subjectAltName": ()},
        {"subjectAltName": (("DNS", "g\n"),)},
        {"subjectAltName": (("DNS", "g" * 300),)},
        {"subjectAltName": (("DirName", "g"),)},
    ],
)
def test_without_a_usable_name_there_is_no_caller(certificate: dict[str, object] | None) -> None:
    with pytest.raises(Unauthenticated):
        of_certificate(certificate)


def test_a_certificate_cannot_pretend_to_be_the_token() -> None:
    caller = of_certificate({"subjectAltName": (("URI", "token:development"),)})
    assert caller.names == ("uri:token:development",)


def test_the_token_is_known() -> None:
    assert TokenCheck(TOKEN).caller(f"Bearer {TOKEN}").name == "token:development"
    assert TokenCheck(TOKEN).caller(f"bearer {TOKEN}").name == "token:development"


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "\udcff"]
)
def test_nothing_else_is(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        TokenCheck(TOKEN).caller(header)


def test_the_token_is_not_shown() -> None:
    check = TokenCheck(TOKEN)
    assert TOKEN not in repr(check) + repr(vars(check))
