"""What a client calls things: attachment ids, file names, types and metadata, in and out again."""

from urllib.parse import quote, unquote

import pytest

from tests.service.http.application import Application
from tests.service.http.site import Site
from tests.service.http.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

IDS = {
    "slash": "reports/2026/q3.pdf",
    "escaped slash": "a%2Fb",
    "percent": "100%",
    "percent twice": "%2525",
    "unicode": "Übersicht 2026 — 概要",
    "emoji": "👩‍👩‍👧.png",  # joined with characters that Unicode does not call printable
    "narrow space": "Screenshot at 9.41\u202fAM.png",
    "dots": "...",
    "hidden": ".htaccess",
    "climbing": "../../etc/passwd",
    "braces": "{id}",
    "plus": "a+b c",
    "question": "what?#&=;:@!$'()*,",
    "quotes": "\"'`\\",
    "versions": "versions",
    "a name like a route": "x/versions",
    "long": "x" * 1024,
    "long in bytes": "ü" * 512,
    "decomposed": "u\u0308",
    "composed": "\u00fc",
}


@pytest.mark.parametrize("name", IDS.values(), ids=IDS.keys())
async def test_an_id_is_kept_to_the_letter(client: Application, tenant: str, name: str) -> None:
    place = f"/v1/tenants/{tenant}/attachments/{quote(name, safe='')}"

    answer = await client.put(place, name.encode())

    assert answer.status == 201, answer.body
    assert answer.json["attachment"] == name
    assert (await client.get(place)).body == name.encode()
    assert (await client.get(answer.headers["Location"])).body == name.encode()
    assert len((await client.get(f"{place}/versions")).json["versions"]) == 1
    listed = (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"]
    assert [row["attachment"] for row in listed] == [name]
    assert (await client.send("DELETE", place)).status == 204
    assert (await client.get(place)).status == 404


async def test_ids_that_look_alike_are_different(client: Application, tenant: str) -> None:
    place = f"/v1/tenants/{tenant}/attachments"
    for name in IDS.values():
        await client.stored(f"{place}/{quote(name, safe='')}", name.encode())

    for name in IDS.values():
        assert (await client.get(f"{place}/{quote(name, safe='')}")).body == name.encode()
    listed = (await client.get(place)).json["attachments"]
    assert [row["attachment"] for row in listed] == sorted(IDS.values())


REFUSED = {
    "one byte too long": "x" * 1025,
    "too long in bytes": quote("ü" * 513),
    "control": "a%0Ab",
    "nul": "%00",
    "delete": "%7F",
    "C1 control": quote("\x85"),
    "line separator": quote("\u2028"),
    "not UTF-8": "%FF",
    "overlong UTF-8": "%C0%AF",
    "surrogate": "%ED%A0%80",
    "half an escape": "a%2",
    "no escape": "a%zz",
    "bare percent": "100%",
    "dot": ".",
    "dots": "%2E%2e",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
async def test_an_id_that_cannot_be_one_is_refused(
    site: Site, client: Application, tenant: str, raw: str
) -> None:
    field = f"Authorization: Bearer {client.token}"
    place = f"/v1/tenants/{tenant}/attachments/{raw}"

    async with Wire(site.url) as wire:
        await wire.request("PUT", place, field, "Content-Length: 1", body=b"x")
        answer = await wire.answer()
        await wire.request("GET", place, field)
        again = await wire.answer()

    assert answer.status == again.status == 400
    assert b"urn:sealgate:problem:invalid-request" in answer.body
    assert (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"] == []


async def test_an_id_may_be_sent_without_escapes(
    site: Site, client: Application, tenant: str
) -> None:
    place = f"/v1/tenants/{tenant}/attachments/"
    async with Wire(site.url) as wire:
        field = f"Authorization: Bearer {client.token}"
        await wire.request("PUT", place + "grün{x}|y^", field, "Content-Length: 1", body=b"x")
        answer = await wire.answer()

    assert answer.status in {201, 400}  # a parser may insist on escapes
    if answer.status == 201:
        assert (await client.get(place + quote("grün{x}|y^"))).body == b"x"


NAMES = {
    "plain": "report.pdf",
    "unicode": "Übersicht — 概要 👩‍👩‍👧.pdf",
    "quotes": 'a "quoted" name.txt',
    "semicolons": "a; filename=evil.exe; b.txt",
    "backslash": "C:\\fakepath\\x.txt",
    "percent": "100%25 %41.txt",
    "apostrophes": "UTF-8''x.txt",
    "path": "../../etc/passwd",
    "spaces": "  two  spaces  ",
    "long": "x" * 1024,
    "comma": "a,b=c",
    "narrow space": "9.41\u202fAM",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
async def test_a_file_name_comes_back(client: Application, path: str, name: str) -> None:
    sent = f"attachment; filename*=UTF-8''{quote(name, safe='')}"

    await client.stored(path, b"content", Content_Disposition=sent)

    shown = (await client.get(path)).headers["Content-Disposition"]
    kind, plain, extended = shown.split("; filename")[0], shown.partition("filename*=")[0], shown
    assert kind == "attachment"
    assert unquote(extended.rpartition("filename*=UTF-8''")[2], errors="strict") == name
    assert plain.isascii()
    # What was sent can be sent again.
    await client.stored(path, b"content", Content_Disposition=shown)
    assert (await client.get(path)).headers["Content-Disposition"] == shown


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ('attachment; filename="a.txt"', "a.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ("ATTACHMENT; FILENAME=a.txt", "a.txt"),
        ("inline ;  filename = a.txt ;", "a.txt"),
        ("attachment; filename=my file.txt", "my file.txt"),
        ('attachment; filename="a\\"b\\\\c.txt"', 'a"b\\c.txt'),
        ('attachment; filename="a;b.txt"; size=3', "a;b.txt"),
        ("attachment; filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("attachment; filename*=utf-8'en'%e2%82%ac.txt; filename=x", "€.txt"),
        ("attachment; filename*=iso-8859-1''%FCber.txt", "über.txt"),
        ("attachment; filename=\"filename*=UTF-8''evil\"", "filename*=UTF-8''evil"),
        ('attachment; filename="grün.txt"', "grün.txt"),
        ("attachment; filename=100%25.txt", "100%25.txt"),
        ("form-data; name=file; filename=a.txt", "a.txt"),
        ("attachment", None),
        ('attachment; filename=""', None),
    ],
)
async def test_ways_to_say_a_file_name(
    client: Application, tenant: str, path: str, sent: str, name: str | None
) -> None:
    await client.stored(path, b"content", Content_Disposition=sent)

    rows = (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"]
    assert rows[0]["name"] == name


@pytest.mark.parametrize(
    "sent",
    [
        'attachment; filename="open',
        "attachment; filename=a; filename=b",
        "attachment; filename*=UTF-8''%FF",
        "attachment; filename*=UTF-8''%4",
        "attachment; filename*=klingon''x",
        "attachment; filename*=x",
        "attachment; filename*=UTF-8''a%0D%0ASet-Cookie:%20x=y",
        "attachment; filename*=UTF-8''a%00b",
        f"attachment; filename={'x' * 1025}",
        "attachment; filename",
        "",
        "; filename=x",
        'attachment "x"',
    ],
)
async def test_a_disposition_that_cannot_be_read_is_refused(
    client: Application, path: str, sent: str
) -> None:
    answer = await client.put(path, b"content", {"Content-Disposition": sent})

    assert answer.problem == "invalid-request"
    assert "evil" not in answer.json["detail"]
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize(
    "sent", ["nonsense", "text/", "/html", "text/html; x=\u00fc", "x/" + "y" * 255]
)
async def test_a_type_that_is_none_is_refused(client: Application, path: str, sent: str) -> None:
    answer = await client.put(path, b"content", {"Content-Type": sent})

    assert answer.status == 400


async def test_metadata_comes_back(client: Application, tenant: str, path: str) -> None:
    values = {
        "color": "blue",
        "percent": "100%",
        "unicode": "grün 概要",
        "quotes": "\"'\\;,",
        "empty": "",
        "escaped": "%41",
    }
    fields = {f"X-Sealgate-Meta-{name}": quote(value) for name, value in values.items()}

    answer = await client.put(path, b"content", fields)

    assert answer.status == 201
    headers = (await client.get(path)).headers
    for name, value in values.items():
        assert unquote(headers[f"x-sealgate-meta-{name}"], errors="strict") == value
    rows = (await client.get(f"/v1/tenants/{tenant}/attachments")).json["attachments"]
    assert rows[0]["metadata"] == values


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Sealgate-Meta-": "x"},
        {"X-Sealgate-Meta-" + "x" * 129: "x"},
        {"X-Sealgate-Meta-a": "%0D%0Ax"},
        {"X-Sealgate-Meta-a": "%FF"},
        {"X-Sealgate-Meta-a": "x" * 2049},
        {f"X-Sealgate-Meta-{n}": "x" for n in range(65)},
        {f"X-Sealgate-Meta-{n}": "x" * 2000 for n in range(5)},
    ],
    ids=["no name", "long name", "line end", "not UTF-8", "long", "too many", "too much"],
)
async def test_metadata_out_of_bounds_is_refused(
    client: Application, path: str, fields: dict[str, str]
) -> None:
    assert (await client.put(path, b"content", fields)).problem == "invalid-request"


async def test_metadata_said_twice_is_refused(client: Application, path: str) -> None:
    lines = [("X-Sealgate-Meta-a", "1"), ("X-Sealgate-Meta-a", "2")]
    async with client.open("PUT", path, headers=lines, data=b"x") as answer:
        assert answer.status == 400
