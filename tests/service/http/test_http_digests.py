"""Digests (RFC 9530): verified on the way in, kept, and given back."""

import base64
import hashlib
import os

import pytest

from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
BODY = os.urandom(200_000)


def _field(data: bytes, *names: str) -> str:
    return ", ".join(
        f"{name}=:{base64.b64encode(ALGORITHMS[name](data).digest()).decode()}:" for name in names
    )


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize("names", [["sha-256"], ["sha-512"], ["sha-256", "sha-512"]])
@pytest.mark.parametrize("data", [b"", b"content", BODY], ids=len)
async def test_a_right_digest_is_kept_and_given_back(
    client: Application, path: str, field: str, names: list[str], data: bytes
) -> None:
    sent = _field(data, *names)

    receipt = await client.put(path, data, {field: sent})

    assert receipt.status == 201, receipt.body
    assert receipt.json["digests"] == {
        name: base64.b64encode(ALGORITHMS[name](data).digest()).decode() for name in names
    }
    # The receipt is a content of its own, so the field would speak of that.
    assert "Repr-Digest" not in receipt.headers
    whole = await client.get(path)
    assert whole.headers["Repr-Digest"] == whole.headers["Content-Digest"] == sent
    assert (await client.send("HEAD", path)).headers["Repr-Digest"] == sent
    if data:
        part = await client.get(path, Range="bytes=0-0")
        assert part.headers["Repr-Digest"] == sent
        assert "Content-Digest" not in part.headers


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("data", [b"", b"content", BODY], ids=len)
async def test_a_wrong_digest_leaves_nothing(
    site: Site, client: Application, path: str, name: str, data: bytes
) -> None:
    field = "Repr-Digest" if name == "sha-256" else "Content-Digest"

    answer = await client.put(path, data, {field: _field(b"other", name)})

    assert answer.status == 400
    assert answer.problem == "digest-mismatch"
    assert (await client.get(path)).status == 404
    await site.settled()
    assert not await site.objects_of(path)


async def test_one_wrong_of_several_is_wrong(client: Application, path: str) -> None:
    sent = f"{_field(b'content', 'sha-256')}, {_field(b'other', 'sha-512')}"

    assert (await client.put(path, b"content", {"Repr-Digest": sent})).problem == "digest-mismatch"


async def test_a_wrong_digest_keeps_the_version_before(client: Application, path: str) -> None:
    await client.stored(path, b"first")

    await client.put(path, b"second", {"Repr-Digest": _field(b"other", "sha-256")})

    assert (await client.get(path)).body == b"first"


async def test_an_unknown_algorithm_is_ignored(client: Application, path: str) -> None:
    sent = f"md5=:AAAA:, {_field(b'content', 'sha-256')}, unixsum=:Kg==:"

    await client.stored(path, b"content", Repr_Digest=sent)

    assert (await client.get(path)).headers["Repr-Digest"] == _field(b"content", "sha-256")


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "nonsense",
        "sha-256",
        "sha-256=abc",
        "sha-256=:not base64:",
        "sha-256=:QUJD:",
        "SHA-256=:AAAA:",
        "sha-256=:" + "A" * 43 + ":",
        _field(b"a", "sha-256") + ", " + _field(b"b", "sha-256"),
    ],
)
async def test_a_digest_that_is_none_is_refused(client: Application, path: str, sent: str) -> None:
    answer = await client.put(path, b"content", {"Repr-Digest": sent})

    assert answer.problem == "invalid-request"
    assert (await client.get(path)).status == 404


async def test_two_fields_that_contradict_are_refused(client: Application, path: str) -> None:
    fields = {
        "Repr-Digest": _field(b"content", "sha-256"),
        "Content-Digest": _field(b"other", "sha-256"),
    }

    assert (await client.put(path, b"content", fields)).problem == "invalid-request"


@pytest.mark.parametrize("field", ["Want-Repr-Digest", "Want-Content-Digest"])
async def test_a_digest_is_computed_when_wanted(client: Application, path: str, field: str) -> None:
    wish = {field: "sha-512=10, sha-256=0, md5=3"}

    receipt = await client.put(path, BODY, wish)

    assert list(receipt.json["digests"]) == ["sha-512"]
    assert (await client.get(path)).headers["Repr-Digest"] == _field(BODY, "sha-512")


async def test_nothing_is_hashed_unasked(client: Application, path: str) -> None:
    receipt = await client.stored(path, b"content")

    assert receipt["digests"] == {}
    assert "Repr-Digest" not in (await client.get(path)).headers
