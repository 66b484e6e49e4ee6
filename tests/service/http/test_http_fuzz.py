"""Requests drawn from the OpenAPI document, sensible and not, and bytes that are no requests at all.

Whatever comes, the answer is one that the document describes, it is never 500, and the gateway goes on.
"""

import asyncio
import random
import string
from typing import Any
from urllib.parse import quote

import pytest

from tests.service.http.application import Application
from tests.service.http.contract import DOCUMENT
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROUNDS = 40
STRANGE = [
    "",
    " ",
    "*",
    "0",
    "-1",
    "\u00fc",
    "\U0001f4be",
    "\u202f",
    '"',
    "'",
    ";",
    ",",
    "%",
    "%00",
    "%zz",
]
LIKELY = {
    "If-Match": ["*", '"x"', 'W/"x"', '"a", "b"', '"open'],
    "If-None-Match": ["*", '"x"', 'W/"x"', ",,"],
    "If-Modified-Since": ["Sun, 22 Nov 2026 11:00:00 GMT", "yesterday"],
    "If-Unmodified-Since": ["Sun, 22 Nov 2026 11:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"],
    "If-Range": ['"x"', "Sun, 22 Nov 2026 11:00:00 GMT"],
    "Range": ["bytes=0-", "bytes=-1", "bytes=0-0,5-", "bytes=9-1", "bytes=99999-"],
    "Repr-Digest": ["sha-256=:AAAA:", "md5=:AAAA:", "sha-256=:" + "A" * 43 + "=:"],
    "Content-Digest": ["sha-512=:AAAA:", "x"],
    "Want-Repr-Digest": ["sha-256=1", "sha-512=0", "="],
    "Content-Disposition": [
        "attachment; filename=x",
        'x; filename="',
        "; ;",
        "a; filename*=utf-8''%ff",
    ],
    "Idempotency-Key": ["one", "two", "x" * 256],
    "X-Request-Id": ["abc", "x" * 65],
    "limit": ["1", "1000", "1001", "x"],
    "cursor": ["eA", "!", "AAAA"],
    "prefix": ["one", "%", "x" * 2000],
    "names": ["true", "false", "maybe"],
    "version": ["0" * 32, "x"],
    "token": ["0" * 16, "x"],
}


def _text(dice: random.Random, name: str) -> str:
    kind = dice.random()
    if kind < 0.6:
        return dice.choice(LIKELY.get(name, STRANGE))
    if kind < 0.8:
        return dice.choice(STRANGE)
    return "".join(dice.choices(string.printable[:95] + "\u00fc\u6982", k=dice.randrange(40)))


def _segment(dice: random.Random, name: str, tenant: str) -> str:
    if name == "tenant" and dice.random() < 0.9:
        return tenant
    if name == "attachment" and dice.random() < 0.7:
        return dice.choice(["one", "two"])
    return quote(_text(dice, name), safe="") or "x"


def _body(dice: random.Random) -> bytes:
    bodies = [b"", b"{}", b'{"rights": ["read"]}', b'{"tier": "business"}', b"[]", b"\xff" * 70_000]
    return dice.choice([*bodies, dice.randbytes(dice.randrange(2000))])


def _drawn(
    dice: random.Random, path: str, operation: dict[str, Any], tenant: str
) -> dict[str, Any]:
    headers: dict[str, str] = {}
    query: list[str] = []
    for reference in operation["parameters"]:
        parameter = DOCUMENT["components"]["parameters"][reference["$ref"].rpartition("/")[2]]
        name = parameter["name"]
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", _segment(dice, name, tenant))
        elif dice.random() < 0.3 and parameter["in"] == "query":
            query.append(f"{name}={quote(_text(dice, name))}")
        elif dice.random() < 0.2:
            headers[name] = _text(dice, name)
    for name in ("Content-Type", "Content-Encoding", "X-Sealgate-Meta-A", "Accept"):
        if dice.random() < 0.1:
            headers[name] = _text(dice, name)
    drawn = {"path": path + ("?" + "&".join(query) if query else ""), "headers": headers}
    return {**drawn, "data": _body(dice)} if "requestBody" in operation else drawn


@pytest.mark.parametrize("seed", range(2))
async def test_every_answer_is_described(admin: Application, tenant: str, seed: int) -> None:
    dice = random.Random(seed)
    operations = [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]
    statuses: set[int] = set()

    for _ in range(ROUNDS):
        for method, path, operation in operations:
            drawn = _drawn(dice, path, operation, tenant)
            answer = await admin.send(method.upper(), **drawn)
            assert answer.status != 500, drawn
            statuses.add(answer.status)

    assert {200, 201, 204, 400, 404, 412} <= statuses  # most draws make sense


async def test_bytes_that_are_no_requests(site: Site, client: Application, log: list[Any]) -> None:
    dice = random.Random(7)
    start = f"PUT /v1/tenants/{'0' * 32}/attachments/x HTTP/1.1\r\nHost: x\r\n".encode()

    for _ in range(150):
        noise = bytearray(start if dice.random() < 0.7 else b"")
        noise += dice.choice(
            [b"", b"Transfer-Encoding: chunked\r\n\r\n", b"Content-Length: 9\r\n\r\n"]
        )
        noise += dice.randbytes(dice.randrange(60))
        for _ in range(dice.randrange(3)):
            noise[dice.randrange(len(noise))] = dice.randrange(256) if noise else 0
        async with Wire(site.url) as wire:
            await wire.send(bytes(noise))
            wire.writer.write_eof()
            said = await wire.closed()
        assert not said or said.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), bytes(noise)

    assert (await client.get("/livez")).status == 200
    assert not [
        entry for entry in log if entry["event"] in {"unexpected error", "connection failed"}
    ]


async def test_any_cut_of_a_good_request_leaves_nothing(
    site: Site, client: Application, path: str
) -> None:
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
    whole = (
        f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".encode()
    )

    for cut in range(0, len(whole), 3):
        async with Wire(site.url) as wire:
            await wire.send(whole[:cut])
            await asyncio.sleep(0)
            wire.abort()

    await site.settled()
    assert (await client.get(path)).status == 404
    assert not await site.objects_of(path)
