"""Preconditions over real sockets: strong ETags, dates, and the race for a name."""

import asyncio
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
OTHER = '"' + "0" * 32 + '"'


async def _tag(client: Application, path: str, data: bytes = b"content") -> str:
    return f'"{(await client.stored(path, data))["version"]}"'


async def _dates(client: Application, path: str) -> tuple[str, str, str]:
    """Return the dates a minute before, at, and a minute after the last change."""
    at = parsedate_to_datetime((await client.get(path)).headers["Last-Modified"])
    minute = timedelta(minutes=1)
    before, now, after = (
        format_datetime(at + d, usegmt=True) for d in (-minute, 0 * minute, minute)
    )
    return before, now, after


async def test_the_etag_is_strong_and_stable(client: Application, path: str) -> None:
    tag = await _tag(client, path)

    assert (await client.get(path)).headers["ETag"] == tag
    assert (await client.get(path, Range="bytes=0-1")).headers["ETag"] == tag
    assert (await client.send("HEAD", path)).headers["ETag"] == tag
    assert await _tag(client, path) != tag


async def test_not_modified(client: Application, path: str) -> None:
    tag = await _tag(client, path)

    for value in (tag, "*", f"W/{tag}", f"{OTHER}, {tag}", f"{OTHER},,W/{tag},"):
        for method in ("GET", "HEAD"):
            answer = await client.send(method, path, {"If-None-Match": value})
            assert answer.status == 304, value
            assert answer.body == b""
            assert answer.headers["ETag"] == tag
            assert "Content-Type" not in answer.headers
    assert (await client.get(path, If_None_Match=OTHER)).status == 200
    assert (await client.get(path, If_None_Match=f"{OTHER}, W/{OTHER}")).status == 200


async def test_several_lines_make_one_list(client: Application, path: str) -> None:
    tag = await _tag(client, path)
    lines = [("If-None-Match", OTHER), ("If-None-Match", tag)]

    async with client.open("GET", path, headers=lines) as answer:
        assert answer.status == 304


async def test_not_modified_since(client: Application, path: str) -> None:
    tag = await _tag(client, path)
    before, now, after = await _dates(client, path)

    assert (await client.get(path, If_Modified_Since=before)).status == 200
    assert (await client.get(path, If_Modified_Since=now)).status == 304
    assert (await client.get(path, If_Modified_Since=after)).status == 304
    assert (await client.get(path, If_Modified_Since="yesterday")).status == 200
    # The tag goes before the date.
    assert (await client.get(path, If_Modified_Since=after, If_None_Match=OTHER)).status == 200
    assert (await client.get(path, If_Modified_Since=before, If_None_Match=tag)).status == 304


async def test_reading_with_if_match(client: Application, path: str) -> None:
    tag = await _tag(client, path)
    before, now, _ = await _dates(client, path)

    for value in (tag, "*", f"{OTHER}, {tag}"):
        assert (await client.get(path, If_Match=value)).status == 200
    for value in (OTHER, f"W/{tag}", ""):
        assert (await client.get(path, If_Match=value)).problem == "precondition-failed"
    assert (await client.get(path, If_Match="nonsense")).problem == "invalid-request"
    assert (await client.get(path, If_Unmodified_Since=before)).status == 412
    assert (await client.get(path, If_Unmodified_Since=now)).status == 200
    assert (await client.get(path, If_Unmodified_Since=before, If_Match=tag)).status == 200


async def test_conditions_without_an_attachment(client: Application, path: str) -> None:
    assert (await client.get(path, If_None_Match="*")).status == 404
    assert (await client.put(path, b"x", {"If-Match": "*"})).problem == "precondition-failed"
    assert (await client.put(path, b"x", {"If-Match": OTHER})).problem == "precondition-failed"
    assert (await client.send("DELETE", path, {"If-Match": "*"})).status == 404
    before = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert (await client.put(path, b"x", {"If-Unmodified-Since": before})).status == 201


async def test_create_only(client: Application, path: str) -> None:
    fields = {"If-None-Match": "*"}

    assert (await client.put(path, b"first", fields)).status == 201
    assert (await client.put(path, b"second", fields)).problem == "precondition-failed"
    assert (await client.get(path)).body == b"first"
    assert (await client.send("DELETE", path)).status == 204
    assert (await client.put(path, b"third", fields)).status == 201


async def test_replace_only_what_was_seen(client: Application, path: str) -> None:
    tag = await _tag(client, path, b"first")

    assert (await client.put(path, b"lost", {"If-Match": OTHER})).status == 412
    assert (await client.put(path, b"lost", {"If-Match": f"W/{tag}"})).status == 412
    assert (await client.put(path, b"second", {"If-Match": f"{OTHER}, {tag}"})).status == 201
    assert (await client.put(path, b"lost", {"If-Match": tag})).status == 412
    assert (await client.get(path)).body == b"second"


async def test_replace_only_what_is_not_newer(client: Application, path: str) -> None:
    await _tag(client, path, b"first")
    before, now, _ = await _dates(client, path)

    assert (await client.put(path, b"lost", {"If-Unmodified-Since": before})).status == 412
    assert (await client.put(path, b"second", {"If-Unmodified-Since": now})).status == 201
    assert (await client.send("DELETE", path, {"If-Unmodified-Since": before})).status == 412
    assert (await client.get(path)).body == b"second"


async def test_delete_only_what_was_seen(client: Application, path: str) -> None:
    tag = await _tag(client, path)

    assert (await client.send("DELETE", path, {"If-Match": OTHER})).problem == "precondition-failed"
    assert (await client.send("DELETE", path, {"If-None-Match": "*"})).status == 412
    assert (await client.send("DELETE", path, {"If-Match": tag})).status == 204


@pytest.mark.parametrize(
    "fields",
    [
        {"If-None-Match": OTHER},
        {"If-None-Match": "nonsense"},
        {"If-Match": "nonsense"},
        {"If-Match": '"open'},
        {"If-Match": "*", "If-None-Match": "*"},
    ],
)
async def test_a_condition_that_makes_no_sense_changes_nothing(
    client: Application, path: str, fields: dict[str, str]
) -> None:
    await _tag(client, path, b"first")

    assert (await client.put(path, b"second", fields)).problem == "invalid-request"
    assert (await client.send("DELETE", path, fields)).problem == "invalid-request"
    assert (await client.get(path)).body == b"first"


async def test_a_lost_condition_is_told_before_the_body_is_read(
    site: Site, client: Application, path: str
) -> None:
    await _tag(client, path)
    site.mend()

    answer = await client.put(path, bytes(1000), {"If-None-Match": "*"})

    assert answer.status == 412
    assert site.keys.calls["data_keys"] == 0


@pytest.mark.parametrize("size", [100, 300_000])
async def test_of_many_that_create_one_wins(
    site: Site, client: Application, path: str, size: int
) -> None:
    bodies = [bytes([number]) * size for number in range(12)]

    answers = await asyncio.gather(
        *(client.put(path, body, {"If-None-Match": "*"}) for body in bodies)
    )

    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [201] + [412] * 11
    assert (await client.get(path)).body == bodies[statuses.index(201)]
    assert len((await client.get(f"{path}/versions")).json["versions"]) == 1
    await site.settled()
    assert len(await site.objects_of(path)) == (3 if size < 65536 else 6)


async def test_of_many_that_replace_one_wins(client: Application, path: str) -> None:
    tag = await _tag(client, path)

    answers = await asyncio.gather(
        *(client.put(path, bytes([n]) * 1000, {"If-Match": tag}) for n in range(8))
    )

    assert sorted(answer.status for answer in answers) == [201] + [412] * 7
