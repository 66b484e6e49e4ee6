"""The tour's own instruments: they find what they look for, so that finding nothing means something."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.wiring.dev import evidence, tour
from gateway.wiring.dev.client import Client
from gateway.wiring.dev.errors import TourFailed, Unexpected
from gateway.wiring.dev.place import Place
from gateway.wiring.dev.sample import BLOCK, Sample
from gateway.wiring.dev.screen import Screen, amount, hexadecimal

SAMPLE = Sample(3 * BLOCK + 17)
WHOLE = b"".join(SAMPLE.pieces())


@given(st.integers(0, SAMPLE.size), st.integers(0, SAMPLE.size))
def test_any_part_of_a_sample_is_that_of_the_whole(one: int, other: int) -> None:
    start, stop = sorted((one, other))
    assert SAMPLE.slice(start, stop) == WHOLE[start:stop]


def test_a_sample_knows_its_digest_and_its_words() -> None:
    assert len(WHOLE) == SAMPLE.size
    assert SAMPLE.digest() == hashlib.sha256(WHOLE).digest()
    assert SAMPLE.count() == WHOLE.count(SAMPLE.words[0]) == 3
    assert len(set(SAMPLE.words)) == 4
    assert Sample(1).canary != Sample(1).canary


@pytest.mark.parametrize("at", [0, 1000, 70_000])
def test_a_word_is_found_wherever_it_lies(tmp_path: Path, at: int) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "empty").touch()
    path = tmp_path / "deep" / "er" / "file"
    path.write_bytes(bytes(at) + SAMPLE.words[1] + bytes(100))
    found = evidence.search(tmp_path, SAMPLE.words)
    assert (found.files, found.hits) == (2, (path,))
    assert evidence.search(tmp_path, [b"nowhere"]).hits == ()


def test_files_that_are_gone_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_bytes(b"word")
    listed = [tmp_path / "gone", tmp_path / "kept"]
    monkeypatch.setattr(Path, "rglob", lambda _, __: iter(listed))
    found = evidence.search(tmp_path, [b"word"])
    assert (found.files, found.hits) == (1, (tmp_path / "kept",))


async def test_damage_is_one_bit_of_each_and_ends_with_the_block(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(WHOLE)
    other.write_bytes(WHOLE)
    assert evidence.same([one, other])
    async with tour.damaged([one]):
        assert not evidence.same([one, other])
        assert sum(a != b for a, b in zip(one.read_bytes(), WHOLE, strict=True)) == 1
    assert evidence.same([one, other])
    async with tour.damaged([one, other]):
        assert evidence.same([one, other])
        assert one.read_bytes() != WHOLE
    assert one.read_bytes() == other.read_bytes() == WHOLE
    other.write_bytes(WHOLE + b"x")
    assert not evidence.same([one, other])


async def test_what_was_repaired_meanwhile_is_not_damaged_by_putting_it_back(
    tmp_path: Path,
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(WHOLE)
    other.write_bytes(WHOLE)
    async with tour.damaged([one, other]):
        one.write_bytes(WHOLE)
        other.unlink()  # as for a moment in a repair
    assert one.read_bytes() == WHOLE
    assert not other.exists()


def test_only_the_tenants_objects_are_looked_at(tmp_path: Path) -> None:
    for tenant in ("ours", "another"):
        (tmp_path / "t" / tenant / "blob").mkdir(parents=True)
        (tmp_path / "t" / tenant / "blob" / "body").write_bytes(b"12345")
    assert evidence.objects(tmp_path, "ours") == {"t/ours/blob/body": 5}


class _Liar:
    """Answers as the tour wishes it would not."""

    def __init__(self, body: bytes, *, length: int | None = None) -> None:
        self.body = body
        self.length = len(body) if length is None else length

    async def get(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = self.length
        await response.prepare(request)
        await response.write(self.body)
        if self.length > len(self.body):
            assert request.transport is not None
            request.transport.abort()
        return response

    async def put(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({"detail": "no room"}, status=507)


async def _served(liar: _Liar) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/x", liar.get)
    app.router.add_put("/x", liar.put)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/x"


@pytest.mark.parametrize(
    ("body", "length", "right", "whole"),
    [
        (WHOLE, None, True, True),
        (WHOLE[:-1], None, True, False),
        (WHOLE[:BLOCK], len(WHOLE), True, False),
        (WHOLE[:99] + b"!" + WHOLE[100:], None, False, True),
        (WHOLE + b"!", None, False, False),
    ],
    ids=["good", "short", "cut", "wrong byte", "long"],
)
async def test_a_download_is_judged_byte_by_byte(
    body: bytes, length: int | None, *, right: bool, whole: bool
) -> None:
    runner, url = await _served(_Liar(body, length=length))
    async with ClientSession() as session:
        got = await Client(session, url).download(SAMPLE, lambda _: None)
    await runner.cleanup()
    assert (got.right, got.whole) == (right, whole)


async def test_an_answer_that_should_not_be_is_told_with_its_reason() -> None:
    runner, url = await _served(_Liar(b""))
    async with ClientSession() as session:
        client = Client(session, url)
        with pytest.raises(Unexpected, match="PUT was answered 507 instead of 201: no room"):
            await client.upload(Sample(10), b"", lambda _: None)
    await runner.cleanup()


class _Careless(Client):
    """A gateway that keeps the file as it came, on three stores."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def upload(self, sample: Sample, digest: bytes, advance: Any) -> dict[str, Any]:
        assert digest
        assert advance
        for name in ("primary", "backup-1", "backup-2"):
            folder = self._place.store(name) / "t" / "tenant" / "blob"
            folder.mkdir(parents=True)
            (folder / "body").write_bytes(b"".join(sample.pieces()))
            (folder / "envelope").touch()
        return {"stored": ["backup-1", "backup-2", "primary"]}


async def test_the_tour_fails_when_plaintext_lies_in_a_store(tmp_path: Path) -> None:
    place = Place(tmp_path / "dev")
    place.make()
    screen = Screen(Console(quiet=True))
    with pytest.raises(TourFailed, match="plaintext lies in"):
        await tour.Tour(_Careless(place), screen, place, Sample(BLOCK), "tenant").take()


def test_amounts_and_dumps_read_well() -> None:
    assert amount(1) == "1 bytes"
    assert amount(5 << 20) == "5.0 MiB"
    assert amount(3 << 29) == "1.5 GiB"
    assert hexadecimal(b"a\x00\xff ~\x7f") == "61 00 ff 20 7e 7f  a.. ~."
