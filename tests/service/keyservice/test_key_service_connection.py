"""What is not HTTP, or only the beginning of it: a problem for the caller, and a quiet log."""

import asyncio
import contextlib
import json
import logging
import re
from urllib.parse import urlsplit

import pytest

from keyservice.protocol.problems import PREFIX
from keyservice.wiring.app import Running, running
from tests.service.keyservice.conftest import Site

SECRET = "s3cret-of-the-caller"


async def _send(service: Running, *pieces: bytes, end: bool = False) -> bytes:
    place = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        if end:
            return b""
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            return head + await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "sent",
    [
        f"POST /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\x01\x00x\r\n\r\n",
        f"POST /x HTTP/1.1\r\nHost: a\r\nAuthorization {SECRET}\r\n\r\n",
        f"GET /{SECRET} HTTP/9.x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: {SECRET * 1000}\r\n\r\n",
        f"\x16\x03\x01 {SECRET}\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_problem_and_not_in_the_log(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    sent: str,
) -> None:
    caplog.set_level(logging.INFO)
    async with running(site.settings()) as service:
        head, _, body = (await _send(service, sent.encode("latin-1"))).partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1.[01] 400 ", head)
    assert b"application/problem+json" in head
    assert b"Server: sealgate-keyservice\r\n" in head + b"\r\n"
    assert json.loads(body)["type"] == PREFIX + "invalid"
    assert SECRET.encode() not in head + body
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert SECRET not in caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize("body", [f"zz{SECRET}\r\n", f"5\r\n{SECRET}\r\n"])
async def test_a_body_that_breaks_is_refused_and_on_record(
    *,
    site: Site,
    tenant: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    body: str,
) -> None:
    monkeypatch.setattr("keyservice.http.asked.BODY_TIMEOUT", 0.5)
    head = _head(site, tenant, "Transfer-Encoding: chunked")
    async with running(site.settings()) as service:
        answer = await _send(service, head, body.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert _last_record(site)["outcome"] == "invalid"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert SECRET not in caplog.text + "".join(capsys.readouterr())


async def test_a_caller_who_leaves_in_the_middle_is_no_error(
    site: Site, tenant: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(site.settings()) as service:
        await _send(service, _head(site, tenant, "Content-Length: 99"), b"{", end=True)
        async with asyncio.timeout(60):
            while not (site.folder / "audit.jsonl").stat().st_size:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)
    assert _last_record(site)["outcome"] == "invalid"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "nobody foresaw" not in "".join(capsys.readouterr())


def _head(site: Site, tenant: str, framing: str) -> bytes:
    lines = [
        f"POST /v1/tenants/{tenant}/unwrap HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {site.token}",
        framing,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _last_record(site: Site) -> dict[str, str]:
    lines = (site.folder / "audit.jsonl").read_text().splitlines()
    found: dict[str, str] = json.loads(lines[-1])
    return found
