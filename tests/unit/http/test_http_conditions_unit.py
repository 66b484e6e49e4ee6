"""Preconditions against what RFC 9110 says, for any list of tags and any date."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.attachments import dated
from gateway.errors import Invalid, PreconditionFailed
from gateway.http import conditions
from gateway.model import Precondition, Version

CREATED = datetime(2026, 11, 22, 11, 0, 0, 999_999, tzinfo=UTC)
OPAQUE = st.text(st.sampled_from("abc012,-!#/ ".replace(" ", "")), max_size=6)
TAGS = st.lists(st.tuples(st.booleans(), OPAQUE), min_size=1, max_size=5)
COMMAS = st.sampled_from([",", ", ", " , ", ",,", ", ,"])


def _version(name: str) -> Version:
    return Version(name, "a", "t", "b", CREATED, 0, 0, b"", "k1")


def _headers(*fields: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(fields))


def _value(tags: list[tuple[bool, str]], comma: str) -> str:
    return comma.join(("W/" if weak else "") + f'"{name}"' for weak, name in tags)


@given(TAGS, COMMAS)
def test_writing_compares_strongly(tags: list[tuple[bool, str]], comma: str) -> None:
    headers = _headers(("If-Match", _value(tags, comma)))

    found = conditions.for_change(headers)

    assert found == Precondition(versions=frozenset(name for weak, name in tags if not weak))


@given(TAGS, COMMAS, st.data())
def test_reading_compares_strongly_or_weakly(
    tags: list[tuple[bool, str]], comma: str, data: st.DataObject
) -> None:
    version = _version(data.draw(st.sampled_from([name for _, name in tags] + ["other"])))
    value = _value(tags, comma)

    assert conditions.not_modified(_headers(("If-None-Match", value)), version) == any(
        name == version.id for _, name in tags
    )
    matches = any(name == version.id and not weak for weak, name in tags)
    if matches:
        assert not conditions.not_modified(_headers(("If-Match", value)), version)
    else:
        with pytest.raises(PreconditionFailed):
            conditions.not_modified(_headers(("If-Match", value)), version)


@given(TAGS, TAGS)
def test_several_lines_are_one_list(
    first: list[tuple[bool, str]], second: list[tuple[bool, str]]
) -> None:
    apart = _headers(("If-Match", _value(first, ",")), ("if-match", _value(second, ",")))
    together = _headers(("If-Match", _value(first + second, ",")))

    assert conditions.for_change(apart) == conditions.for_change(together)


@given(st.text())
def test_any_text_is_a_list_or_invalid(text: str) -> None:
    for name in ("If-Match", "If-None-Match"):
        for judge in (conditions.for_change, lambda h: conditions.not_modified(h, _version("v"))):
            try:
                judge(_headers((name, text)))
            except (Invalid, PreconditionFailed):
                continue


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_ignored(text: str) -> None:
    headers = _headers(("If-Modified-Since", text), ("If-Unmodified-Since", text))

    conditions.unmodified_since(headers)
    try:
        conditions.not_modified(headers, _version("v"))
    except PreconditionFailed:
        assert conditions.unmodified_since(headers) is not None


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:60 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999",
        "Sun, 06 Nov 99999999999999 08:49:37 GMT",
        "0",
        "-1",
    ],
)
def test_dates_out_of_this_world_are_ignored(date: str) -> None:
    assert conditions.unmodified_since(_headers(("If-Unmodified-Since", date))) is None


@given(st.integers(-3, 3))
def test_dates_count_whole_seconds(seconds: int) -> None:
    version = _version("v")
    date = format_datetime(CREATED + timedelta(seconds=seconds), usegmt=True)

    assert conditions.not_modified(_headers(("If-Modified-Since", date)), version) == (seconds >= 0)
    limit = conditions.unmodified_since(_headers(("If-Unmodified-Since", date)))
    assert limit is not None
    if seconds >= 0:
        pinned = dated.pinned(Precondition(must_exist=False), version, limit)
        assert pinned == Precondition(must_exist=False, versions=frozenset({"v"}))
    else:
        with pytest.raises(PreconditionFailed):
            dated.pinned(Precondition(), version, limit)


def test_a_tag_goes_before_a_date() -> None:
    old = format_datetime(CREATED - timedelta(days=1), usegmt=True)

    assert (
        conditions.unmodified_since(_headers(("If-Match", '"v"'), ("If-Unmodified-Since", old)))
        is None
    )


@given(OPAQUE)
def test_only_the_strong_tag_lets_a_range_through(name: str) -> None:
    version = _version(name)

    assert conditions.range_applies(_headers(), version)
    assert conditions.range_applies(_headers(("If-Range", f' "{name}" ')), version)
    for other in (f'W/"{name}"', f'"{name}x"', name, conditions.modified(version), "*"):
        assert not conditions.range_applies(_headers(("If-Range", other)), version)


@pytest.mark.parametrize("current", [None, "a", "b"])
@pytest.mark.parametrize("must_exist", [None, True, False])
@pytest.mark.parametrize("versions", [None, frozenset[str](), frozenset({"a"})])
def test_what_a_precondition_demands(
    current: str | None, *, must_exist: bool | None, versions: frozenset[str] | None
) -> None:
    holds = Precondition(must_exist, versions).holds(current)

    exists_as_demanded = must_exist is None or must_exist == (current is not None)
    assert holds == (exists_as_demanded and (versions is None or current in versions))
