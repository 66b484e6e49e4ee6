"""What no well-behaved client sends, by hand on a socket."""

import asyncio

import pytest

from tests.service.http.application import Application
from tests.service.http.site import Site
from tests.service.http.wire import Raw, Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _field(client: Application) -> str:
    return f"Authorization: Bearer {client.token}"


def _problem(answer: Raw) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Server"] == "sealgate"
    assert answer.headers["X-Request-Id"].encode() in answer.body
    return answer.body.partition(b"urn:sealgate:problem:")[2].partition(b'"')[0].decode()


async def test_expect_is_answered_once_authorised(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path, _field(client), "Content-Length: 5", "Expect: 100-continue")
        assert (await wire.answer()).status == 100
        await wire.send(b"hello")
        assert (await wire.answer()).status == 201
        await wire.request("GET", path, _field(client))
        assert (await wire.answer()).body == b"hello"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Authorization: Bearer wrong"], 401),
        (["If-Match: *"], 412),
        (["Content-Encoding: gzip"], 415),
        (["Repr-Digest: nonsense"], 400),
        (["Content-Length: 2199023255552"], 413),
    ],
    ids=str,
)
async def test_expect_is_not_answered_when_the_request_fails(
    site: Site, client: Application, path: str, fields: list[str], status: int
) -> None:
    token = [] if fields[0].startswith("Authorization") else [_field(client)]
    length = [] if fields[0].startswith("Content-Length") else ["Content-Length: 5"]

    async with Wire(site.url) as wire:
        await wire.request("PUT", path, *token, *length, *fields, "Expect: 100-continue")
        answer = await wire.answer()

    assert answer.status == status
    # The body may come or not, so nobody could tell where the next request begins.
    assert answer.headers["Connection"] == "close"


async def test_expect_is_not_answered_on_json_routes_either(site: Site) -> None:
    async with Wire(site.url) as wire:
        await wire.request("POST", "/v1/tenants", "Content-Length: 2", "Expect: 100-continue")
        assert (await wire.answer()).status == 401
    async with Wire(site.url) as wire:
        field = f"Authorization: Bearer {await site.token()}"
        await wire.request(
            "POST", "/v1/tenants", field, "Content-Length: 2", "Expect: 100-continue"
        )
        assert (await wire.answer()).status == 100
        await wire.send(b"{}")
        assert (await wire.answer()).status == 201


async def test_an_old_client_is_never_told_to_continue(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request(
            "PUT",
            path,
            _field(client),
            "Content-Length: 5",
            "Expect: 100-continue",
            version="1.0",
            body=b"hello",
        )
        assert (await wire.answer()).status == 201
        assert await wire.closed() == b""


async def test_another_expectation_is_refused(site: Site, client: Application, path: str) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path, _field(client), "Content-Length: 0", "Expect: miracles")
        answer = await wire.answer()

    assert answer.status == 417
    assert _problem(answer) == "expectation-failed"


async def test_an_old_client_gets_its_answer_and_the_end(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, bytes(200_000))

    async with Wire(site.url) as wire:
        await wire.request("GET", path, _field(client), version="1.0")
        assert (await wire.answer()).body == bytes(200_000)
        assert await wire.closed() == b""


async def test_requests_in_a_row_are_answered_in_order(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, b"content")
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n{_field(client)}\r\n"

    async with Wire(site.url) as wire:
        ranges = [(0, 0), (1, 3), (4, 6)]
        await wire.send(
            *(f"{request}Range: bytes={a}-{b}\r\n\r\n".encode() for a, b in ranges),
            f"DELETE {path} HTTP/1.1\r\nHost: x\r\n{_field(client)}\r\n\r\n".encode(),
            f"{request}\r\n".encode(),
        )
        assert [(await wire.answer()).body for _ in ranges] == [b"c", b"ont", b"ent"]
        assert (await wire.answer()).status == 204
        assert (await wire.answer()).status == 404


async def test_a_refused_small_body_does_not_cost_the_connection(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request(
            "PUT", path, _field(client), "Content-Length: 5", "If-Match: *", body=b"hello"
        )
        answer = await wire.answer()
        if "Connection" not in answer.headers:
            await wire.request("GET", path, _field(client))
            assert (await wire.answer()).status == 404

    assert answer.status == 412


async def test_what_is_left_of_a_refused_body_is_no_request(
    site: Site, client: Application, tenant: str, path: str
) -> None:
    smuggled = f"PUT {path} HTTP/1.1\r\nHost: x\r\n{_field(client)}\r\nContent-Length: 1\r\n\r\nx"
    body = smuggled.encode().ljust(100_000, b" ")

    async with Wire(site.url) as wire:
        await wire.request("PUT", path, f"Content-Length: {len(body)}", body=body[:50_000])
        answer = await wire.answer()
        assert answer.status == 401
        assert answer.headers["Connection"] == "close"
        await wire.send(body[50_000:])
        assert await wire.closed() == b""

    assert (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"] == []


async def test_bytes_behind_a_chunked_body_are_the_next_request(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request(
            "PUT",
            path,
            _field(client),
            "Transfer-Encoding: chunked",
            body=b"5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        )
        assert (await wire.answer()).status == 201
        await wire.send(b"garbage\r\n\r\n")
        second = await wire.answer()
        assert second.status == 400
        assert _problem(second) == "malformed"
        assert await wire.closed() == b""

    assert (await client.get(path)).body == b"hello"


BROKEN_BODIES = {
    "bad chunk size": ("Transfer-Encoding: chunked", b"5\r\nhello\r\nzz\r\n"),
    "chunk too long": ("Transfer-Encoding: chunked", b"5\r\nhello world\r\n0\r\n\r\n"),
    "negative chunk": ("Transfer-Encoding: chunked", b"-5\r\nhello\r\n"),
    "no last chunk": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    "half a chunk": ("Transfer-Encoding: chunked", b"5\r\nhel"),
    "half a body": ("Content-Length: 10", b"hello"),
    "no body": ("Content-Length: 10", b""),
}


@pytest.mark.parametrize(("framing", "body"), BROKEN_BODIES.values(), ids=BROKEN_BODIES.keys())
async def test_a_broken_body_leaves_nothing(
    site: Site, client: Application, path: str, framing: str, body: bytes
) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path, _field(client), framing, body=body)
        await asyncio.sleep(0.1)
        wire.writer.write_eof()
        said = await wire.closed()

    assert not said or said.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    await site.settled()
    assert (await client.get(path)).status == 404
    assert not await site.objects_of(path)


async def test_a_body_that_breaks_later_ends_at_once(
    site: Site, client: Application, path: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request(
            "PUT", path, _field(client), "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"
        )
        await site.under_way()
        await wire.send(b"zz\r\n")
        answer = await wire.answer()
        assert b"HTTP" not in await wire.closed()

    assert answer.status == 400
    assert _problem(answer) == "incomplete-body"
    await site.settled()
    assert not await site.objects_of(path)


MALFORMED = {
    "not HTTP": b"garbage\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": b"GET /livez HTTP/3.7\r\nHost: x\r\n\r\n",
    "no colon": b"GET /livez HTTP/1.1\r\nHost: x\r\ncanary-token\r\n\r\n",
    "space in a name": b"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization : canary-token\r\n\r\n",
    "control in a value": b"GET /livez HTTP/1.1\r\nHost: x\r\nX: canary-token\x00\r\n\r\n",
    "two lengths": b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "unknown coding": b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: canary\r\n\r\n",
    "no method": b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_http_is_a_problem_too_and_not_in_the_log(
    site: Site, sent: bytes, log: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(site.url) as wire:
        await wire.send(sent)
        answer = await wire.answer()
        assert answer.status == 400
        assert _problem(answer) == "malformed"
        assert await wire.closed() == b""

    assert b"canary" not in answer.body
    assert "canary" not in str(log) + caplog.text


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET /" + b"c" * 9000 + b" HTTP/1.1", b"Host: x"],
        [b"GET /livez HTTP/1.1", b"Host: x", b"Authorization: canary" + b"c" * 9000],
        [b"GET /livez HTTP/1.1", b"Host: x", b"X" * 9000 + b": canary"],
    ],
    ids=["path", "value", "name"],
)
async def test_what_is_too_long_is_431_and_not_in_the_log(
    site: Site, lines: list[bytes], log: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire(site.url) as wire:
        await wire.send(b"\r\n".join([*lines, b"", b""]))
        answer = await wire.answer()
        assert await wire.closed() == b""

    assert answer.status == 431
    assert _problem(answer) == "fields-too-large"
    assert "canary" not in str(log) + caplog.text + answer.body.decode()
    assert "ccccc" not in str(log) + caplog.text + answer.body.decode()


async def test_a_great_many_fields_are_refused(site: Site) -> None:
    async with Wire(site.url) as wire:
        await wire.request("GET", "/livez", *(f"X-{number}: x" for number in range(2000)))
        assert (await wire.answer()).status in {400, 431}


@pytest.mark.parametrize("method", ["BREW", "OPTIONS", "TRACE", "PATCH", "POST"])
async def test_a_method_that_does_not_apply(
    site: Site, client: Application, path: str, method: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request(method, path, _field(client))
        answer = await wire.answer()

    if method == "BREW":  # the parser knows a list of methods
        assert answer.status in {400, 405}
        return
    assert answer.status == 405
    assert _problem(answer) == "method-not-allowed"
    assert set(answer.headers["Allow"].split(",")) == {"DELETE", "GET", "HEAD", "PUT"}


@pytest.mark.parametrize(
    "place", ["/", "/v1", "/v2/tenants", "/v1/tenants/", "//", "/livez/", "/%2e%2e/livez", "*"]
)
async def test_no_such_route(site: Site, place: str) -> None:
    async with Wire(site.url) as wire:
        await wire.request("GET", place)
        answer = await wire.answer()

    assert answer.status in {400, 404}
    assert _problem(answer) in {"no-route", "malformed"}


async def test_a_request_id_is_echoed_or_made(site: Site) -> None:
    async with Wire(site.url) as wire:
        for sent, kept in {
            "abc-123_4.5": True,
            "x" * 64: True,
            "x" * 65: False,
            "a b": False,
            "é": False,
            '"><script>': False,
            "": False,
        }.items():
            await wire.request("GET", "/livez", f"X-Request-Id: {sent}")
            got = (await wire.answer()).headers["X-Request-Id"]
            assert (got == sent) == kept
            assert len(got) >= 11
        await wire.request("GET", "/livez")
        first = (await wire.answer()).headers["X-Request-Id"]
        await wire.request("GET", "/livez")
        assert (await wire.answer()).headers["X-Request-Id"] != first


async def test_a_target_with_a_host_is_read(site: Site, client: Application, path: str) -> None:
    await client.stored(path, b"content")

    async with Wire(site.url) as wire:
        await wire.request("GET", f"http://localhost{path}", _field(client))
        assert (await wire.answer()).body == b"content"


@pytest.mark.parametrize("mark", ["#part", "#", "%23x#y", "?part", "?part=1", "?limit=1", "?a=b#c"])
async def test_a_target_of_which_a_part_would_be_lost_is_refused(
    site: Site, client: Application, tenant: str, path: str, mark: str
) -> None:
    async with Wire(site.url) as wire:
        await wire.request("PUT", path + mark, _field(client), "Content-Length: 1", body=b"x")
        answer = await wire.answer()

    assert (answer.status, _problem(answer)) == (400, "invalid-request")
    assert (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"] == []


async def test_a_body_nobody_asked_for_is_passed_over(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, b"content")

    async with Wire(site.url) as wire:
        for _ in range(2):
            await wire.request("GET", path, _field(client), "Content-Length: 5", body=b"hello")
            assert (await wire.answer()).body == b"content"
