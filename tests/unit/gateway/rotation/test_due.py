"""Schedules: whose goes first, when a key is due, and when that was missed."""

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from gateway.pacing import spans
from gateway.ports import Rotation, Wraps
from gateway.rotation.due import NEVER, Schedules

DAY = timedelta(days=1)
MADE = datetime(2026, 1, 1, tzinfo=UTC)
AS_CONFIGURED = Rotation()
DEFAULTS = {"business": Rotation(90 * DAY, 365 * DAY), "standard": Rotation(365 * DAY)}


class Own:
    """The part of the port that is asked."""

    def __init__(self, rotation: Rotation) -> None:
        self.rotation = rotation

    async def schedule(self, tenant: str) -> Rotation:
        del tenant
        return self.rotation


def schedules(rotation: Rotation = AS_CONFIGURED, *, at: datetime = MADE) -> Schedules:
    return Schedules(cast("Wraps", Own(rotation)), DEFAULTS, grace=DAY, clock=lambda: at)


@pytest.mark.parametrize(
    ("own", "tier", "kek", "root", "set_by_tenant"),
    [
        (Rotation(), "business", 90 * DAY, 365 * DAY, set()),
        (Rotation(), "standard", 365 * DAY, NEVER, set()),
        (Rotation(), "some other", NEVER, NEVER, set()),
        (Rotation(kek=30 * DAY), "business", 30 * DAY, 365 * DAY, {"kek"}),
        (Rotation(NEVER, NEVER), "business", NEVER, NEVER, {"kek", "root"}),
    ],
)
async def test_a_tenants_own_goes_before_its_tiers(
    own: Rotation, tier: str, kek: timedelta, root: timedelta, set_by_tenant: set[str]
) -> None:
    found = await schedules(own).of("t", tier)
    assert (found.kek, found.root, found.own) == (kek, root, frozenset(set_by_tenant))


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, (False, False)), (9.99, (False, False)), (10, (True, False)), (11, (True, True))],
)
def test_due_by_its_age_and_overdue_after_the_grace(
    days: float, expected: tuple[bool, bool]
) -> None:
    turn = schedules(at=MADE + days * DAY).turn(10 * DAY, MADE)
    assert (turn.is_due, turn.overdue) == expected
    assert turn.due == MADE + 10 * DAY


def test_never_and_unknown_are_never_due() -> None:
    late = schedules(at=MADE + 10_000 * DAY)
    for turn in (late.turn(NEVER, MADE), late.turn(DAY, None)):
        assert (turn.due, turn.is_due, turn.overdue) == (None, False, False)


@pytest.mark.parametrize(
    ("text", "span"),
    [("90d", 90 * DAY), ("12h", DAY / 2), ("30m", timedelta(minutes=30)), ("5s", timedelta(0, 5))],
)
def test_spans_as_people_write_them(text: str, span: timedelta) -> None:
    assert spans.parse(text) == span
    assert spans.text(span) == text


@pytest.mark.parametrize(
    "text", ["", "90", "d", "1.5d", "-1d", "1w", "90 d", "1d2h", "٩d", "1000000d"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="a span is"):
        spans.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (90, "90s"), (3600, "1h"), (5400, "90m"), (200_000, "2d")]
)
def test_a_span_is_told_in_few_figures(seconds: int, text: str) -> None:
    assert spans.text(timedelta(seconds=seconds)) == text
