"""Every way in which stores write times is read; what is no time is refused with one error."""

import contextlib
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.s3_times import read_time

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:00.000Z",
        "2026-11-22T12:00:00.000000000Z",
        "2026-11-22T13:00:00+01:00",
        "2026-11-22T12:00:00",
        "20261122T120000Z",
        "Sun, 22 Nov 2026 12:00:00 GMT",
        "Sun, 22 Nov 2026 12:00:00 -0000",
        "Sun, 22 Nov 2026 07:00:00 -0500",
    ],
)
def test_all_ways_name_one_moment(text: str) -> None:
    assert read_time(text) == NOON
    assert read_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026", "0001-01-01T00:00:00+14:00", f"Sun, 22 Nov {'9' * 30} 12:00:00 GMT"],
)
def test_what_is_no_time_is_one_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whose text nobody sees
        read_time(text)


@given(st.text(max_size=40) | st.text("0123456789TZ:.+- ,GMTSunov", max_size=40))
def test_nothing_else_is_raised(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_time(text).tzinfo is UTC


@given(st.datetimes(min_value=datetime(1970, 1, 1)))  # noqa: DTZ001  hypothesis wants it so
def test_both_ways_are_read_back(time: datetime) -> None:
    moment = time.replace(tzinfo=UTC)
    assert read_time(moment.isoformat()) == moment
    assert read_time(format_datetime(moment, usegmt=True)) == moment.replace(microsecond=0)
