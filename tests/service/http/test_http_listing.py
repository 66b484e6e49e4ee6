"""The listing: pages, sizes and ETags from the catalog alone, names by one unwrap a page."""

from urllib.parse import quote, urlencode

import pytest

from keyservice.wire import Suspended, Unavailable
from tests.service.http.application import Application
from tests.service.http.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _fill(client: Application, path: str, names: list[str]) -> None:
    place = path.rpartition("/")[0]
    for name in names:
        disposition = f"attachment; filename={len(name)}.txt"
        await client.stored(
            f"{place}/{quote(name, safe='')}", name.encode(), Content_Disposition=disposition
        )


async def _page(client: Application, path: str, **query: str) -> tuple[list[str], str | None]:
    place = f"{path.rpartition('/')[0]}?{urlencode(query)}"
    answer = await client.get(place)
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    return [row["attachment"] for row in answer.json["attachments"]], answer.json["cursor"]


async def test_pages_go_on_where_the_last_ended(client: Application, path: str) -> None:
    names = sorted(["a", "a/b", "a/c", "b", "é", "zz", "💾", "\uffee", "A", "Z"])
    await _fill(client, path, names)

    for limit in (1, 3, 9, 10, 11):
        seen: list[str] = []
        query = {"limit": str(limit)}
        while True:
            rows, cursor = await _page(client, path, **query)
            assert len(rows) <= limit
            seen += rows
            if cursor is None:
                break
            assert len(rows) == limit
            query["cursor"] = cursor
        assert seen == names, limit


async def test_a_prefix_narrows(client: Application, path: str) -> None:
    await _fill(client, path, ["a", "a/b", "a/c", "a%", "a_", "ab", "b"])

    assert (await _page(client, path, prefix="a/"))[0] == ["a/b", "a/c"]
    assert (await _page(client, path, prefix="a%"))[0] == ["a%"]
    assert (await _page(client, path, prefix="a_"))[0] == ["a_"]
    assert (await _page(client, path, prefix=""))[0] == ["a", "a%", "a/b", "a/c", "a_", "ab", "b"]
    assert (await _page(client, path, prefix="nothing"))[0] == []
    rows, cursor = await _page(client, path, prefix="a/", limit="1")
    assert (rows, cursor is None) == (["a/b"], False)
    assert (await _page(client, path, prefix="a/", limit="1", cursor=cursor or ""))[0] == ["a/c"]


async def test_a_row_says_what_get_would(client: Application, path: str) -> None:
    fields = {
        "Content-Type": "text/plain",
        "Content-Disposition": "attachment; filename=a.txt",
        "X-Sealgate-Meta-Color": "blue",
    }
    receipt = (await client.put(path, bytes(300_000), fields)).json

    (row,) = (await client.get(path.rpartition("/")[0])).json["attachments"]

    assert row == {
        "attachment": "one",
        "version": receipt["version"],
        "size": 300_000,
        "etag": f'"{receipt["version"]}"',
        "created": receipt["created"],
        "name": "a.txt",
        "content_type": "text/plain",
        "metadata": {"color": "blue"},
    }


async def test_a_page_costs_no_store_request_and_one_unwrap(
    site: Site, client: Application, path: str
) -> None:
    await _fill(client, path, [f"{number:02}" for number in range(25)])
    site.mend()

    rows, _ = await _page(client, path)

    assert len(rows) == 25
    assert site.store_calls() == 0
    assert site.keys.calls == {"unwrap": 1}
    site.mend()
    await _page(client, path, names="false")
    assert site.store_calls() == 0
    assert not site.keys.calls


async def test_without_names_nothing_is_opened(client: Application, path: str) -> None:
    await client.stored(path, b"content")

    (row,) = (await client.get(path.rpartition("/")[0] + "?names=false")).json["attachments"]

    assert set(row) == {"attachment", "version", "size", "etag", "created"}


async def test_without_keys_sizes_are_still_listed(
    site: Site, client: Application, path: str
) -> None:
    await client.stored(path, b"content")
    site.keys.refuse = Unavailable("gone", retry_after=7)

    names = await client.get(path.rpartition("/")[0])
    plain = await client.get(path.rpartition("/")[0] + "?names=false")

    assert names.problem == "keys-unavailable"
    assert names.headers["Retry-After"] == "7"
    assert plain.json["attachments"][0]["size"] == 7


async def test_one_that_cannot_be_opened_hides_no_other(
    site: Site, client: Application, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(client, path, ["one", "two"])
    unwrap = type(site.keys).unwrap

    async def first_refused(*arguments: object, **named: object) -> list[object]:
        (_, *others) = await unwrap(*arguments, **named)  # type: ignore[arg-type]
        return [Suspended(), *others]

    monkeypatch.setattr(type(site.keys), "unwrap", first_refused)

    first, second = (await client.get(path.rpartition("/")[0])).json["attachments"]

    assert (first["attachment"], first["error"]) == ("one", "suspended")
    assert "name" not in first
    assert second["name"] == "3.txt"


async def test_only_the_current_version_of_what_is_not_deleted(
    client: Application, path: str
) -> None:
    await client.stored(path, b"first")
    second = await client.stored(path, b"second")
    await client.stored(path + "-gone", b"gone")
    await client.send("DELETE", path + "-gone")

    (row,) = (await client.get(path.rpartition("/")[0])).json["attachments"]

    assert row["version"] == second["version"]


async def test_versions_come_in_pages_too(client: Application, path: str) -> None:
    made = [(await client.stored(path, b"content"))["version"] for _ in range(3)]
    answer = await client.get(f"{path}/versions?limit=2")
    assert [row["version"] for row in answer.json["versions"]] == [made[2], made[1]]
    answer = await client.get(f"{path}/versions?limit=2&cursor={answer.json['cursor']}")
    assert [row["version"] for row in answer.json["versions"]] == [made[0]]
    assert answer.json["cursor"] is None
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await client.get(f"{path}/versions?limit=0")).problem == "invalid-request"
    assert (await client.get(f"{path}/versions?cursor=YWJj")).problem == "not-found"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=many",
        "limit=",
        "limit=" + "9" * 5000,
        "limit=%D9%A1",
        "cursor=!!",
        "cursor=",
        "cursor=/w",
        "cursor=AA",
        "names=maybe",
    ],
)
async def test_a_query_that_makes_no_sense(client: Application, path: str, query: str) -> None:
    answer = await client.get(f"{path.rpartition('/')[0]}?{query}")

    assert answer.problem == "invalid-request"


async def test_strange_prefixes_find_nothing(client: Application, path: str) -> None:
    await client.stored(path, b"content")

    for prefix in ("%00", "%FF", "%ED%A0%80", "%F4%8F%BF%BF", "x" * 3000):
        answer = await client.get(f"{path.rpartition('/')[0]}?prefix={prefix}")
        assert answer.status == 200
        assert answer.json == {"attachments": [], "cursor": None}
