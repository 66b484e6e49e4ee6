"""No Content-Disposition that fits into a header costs more than a moment."""

import contextlib

import pytest

from gateway.errors import Invalid
from gateway.http.disposition import file_name

SIZE = 8000


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "value",
    [
        "attachment; filename=" + " " * SIZE + '"',
        "attachment;" + " " * SIZE + "x",
        "attachment; " + "a" * SIZE,
        'attachment; filename="' + "\\" * SIZE,
        "attachment; filename*=utf-8''" + "%41" * (SIZE // 3) + "%",
        "attachment" + "; " * SIZE,
        "a" * SIZE + " " * SIZE,
    ],
    ids=range(7),
)
def test_hostile_fields_are_read_in_linear_time(value: str) -> None:
    with contextlib.suppress(Invalid):
        file_name(value)
