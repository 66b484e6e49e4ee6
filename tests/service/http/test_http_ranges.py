"""Ranges over real sockets, read with parsers that are not ours."""

import os
from email import message_from_bytes
from email.message import Message

import pytest
import pytest_asyncio

from tests.service.http.application import Answer, Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
SIZES = {"inline": 60_000, "one": 200_000, "several": 11 * 1024 * 1024}
DATA = os.urandom(max(SIZES.values()))


@pytest_asyncio.fixture(loop_scope="session", params=SIZES.values(), ids=SIZES.keys())
async def content(request: pytest.FixtureRequest, client: Application, path: str) -> bytes:
    """Store an attachment that travels inline, in one object, or in several parts."""
    data = DATA[: request.param]
    await client.stored(path, data, Content_Type="image/png")
    return data


def _slices(size: int) -> list[tuple[str, int, int]]:
    middle = size // 2
    return [
        ("0-0", 0, 1),
        ("0-", 0, size),
        (f"0-{size - 1}", 0, size),
        (f"0-{size}", 0, size),
        (f"{size - 1}-", size - 1, size),
        (f"{size - 1}-{size + 100}", size - 1, size),
        ("-1", size - 1, size),
        (f"-{size}", 0, size),
        (f"-{size + 1}", 0, size),
        ("16383-16384", 16383, 16385),
        ("16384-32767", 16384, 32768),
        (f"{middle}-{middle + 20000}", middle, middle + 20001),
        ("1-18446744073709551615", 1, size),
    ]


async def test_one_range(client: Application, path: str, content: bytes) -> None:
    size = len(content)
    for text, start, stop in _slices(size):
        answer = await client.get(path, Range=f"bytes={text}")

        assert answer.status == 206, text
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.headers["Content-Length"] == str(stop - start)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.body == content[start:stop], text
        assert "Content-Digest" not in answer.headers


def _parts(answer: Answer) -> list[Message]:
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.body)
    assert message.is_multipart()
    assert not message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    return parts  # type: ignore[return-value]


async def test_several_ranges(client: Application, path: str, content: bytes) -> None:
    size = len(content)
    asked = [(50_000, 50_010), (0, 1), (20_000, 40_000), (size - 5, size)]
    text = f"{50_000}-{50_009}, 0-0,,20000-39999 ,-5"

    answer = await client.get(path, Range=f"bytes={text}")

    assert answer.status == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert "Content-Range" not in answer.headers
    assert answer.headers["Content-Length"] == str(len(answer.body))
    parts = _parts(answer)
    assert [part["Content-Range"] for part in parts] == [
        f"bytes {start}-{stop - 1}/{size}" for start, stop in asked
    ]
    assert {part["Content-Type"] for part in parts} == {"image/png"}
    for part, (start, stop) in zip(parts, asked, strict=True):
        # The parser takes line ends for its own, so look for the bytes where they stand.
        assert answer.body.count(b"\r\n\r\n" + content[start:stop] + b"\r\n--") == 1, part


async def test_ranges_that_overlap_or_touch_become_one(
    client: Application, path: str, content: bytes
) -> None:
    answer = await client.get(path, Range="bytes=100-199,150-299,300-399")

    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes 100-399/{len(content)}"
    assert answer.body == content[100:400]


async def test_what_lies_outside_is_left_out(
    client: Application, path: str, content: bytes
) -> None:
    answer = await client.get(path, Range=f"bytes=0-9,{len(content)}-")

    assert answer.status == 206
    assert answer.body == content[:10]


@pytest.mark.parametrize("text", ["{size}-", "{size}-{more}", "-0", "{more}-,-0"])
async def test_nothing_inside_is_416(
    client: Application, path: str, content: bytes, text: str
) -> None:
    size = len(content)

    answer = await client.get(path, Range="bytes=" + text.format(size=size, more=size + 5))

    assert answer.status == 416
    assert answer.problem == "range-not-satisfiable"
    assert answer.headers["Content-Range"] == f"bytes */{size}"


NONSENSE = [
    "bytes=",
    "bytes=-",
    "bytes=5-2",
    "bytes=a-b",
    "bytes=1-2-3",
    "bytes 0-1",
    "lines=0-1",
    "bytes=0-1;2-3",
    "bytes=\u0660-\u0661",
    "bytes=" + ",".join("0-0" for _ in range(33)),
    "bytes=" + "9" * 30 + "-",
    "",
]


@pytest.mark.parametrize("text", NONSENSE)
async def test_nonsense_is_ignored(client: Application, path: str, text: str) -> None:
    await client.stored(path, b"0123456789")

    answer = await client.get(path, Range=text)

    assert answer.status == 200
    assert answer.body == b"0123456789"


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=-5", "bytes=0-0,5-9"])
async def test_an_empty_content_has_no_ranges(client: Application, path: str, text: str) -> None:
    await client.stored(path, b"")

    answer = await client.get(path, Range=text)

    assert answer.status == 200
    assert answer.body == b""


async def test_if_range(client: Application, path: str) -> None:
    receipt = await client.stored(path, b"0123456789")
    tag = f'"{receipt["version"]}"'

    async def status(value: str) -> int:
        answer = await client.get(path, Range="bytes=2-4", If_Range=value)
        assert answer.body == (b"234" if answer.status == 206 else b"0123456789")
        return answer.status

    assert await status(tag) == 206
    assert await status(f"W/{tag}") == 200
    assert await status('"another"') == 200
    assert await status("nonsense") == 200
    # Two versions may come within a second, so a date proves nothing.
    assert await status((await client.get(path)).headers["Last-Modified"]) == 200
    await client.stored(path, b"abcdefghij")
    answer = await client.get(path, Range="bytes=2-4", If_Range=tag)
    assert (answer.status, answer.body) == (200, b"abcdefghij")


async def test_a_range_outside_is_ignored_when_if_range_fails(
    client: Application, path: str
) -> None:
    await client.stored(path, b"0123456789")

    answer = await client.get(path, Range="bytes=100-", If_Range='"another"')

    assert answer.status == 200


async def test_head_ignores_ranges(client: Application, path: str) -> None:
    await client.stored(path, b"0123456789")

    answer = await client.send("HEAD", path, {"Range": "bytes=2-4"})

    assert answer.status == 200
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Accept-Ranges"] == "bytes"


async def test_a_range_reads_only_its_chunks(site: Site, client: Application, path: str) -> None:
    await client.stored(path, DATA)
    site.mend()

    answer = await client.get(path, Range="bytes=5000000-5000099")

    assert answer.body == DATA[5_000_000:5_000_100]
    assert site.store_calls() == 1
    assert site.stores["primary"].read_bytes <= 2 * (16384 + 16)
