"""Requests with and without something beside them: what is told of times with known answers."""

import pytest

from benchmarks.foreground import Comparison, Times, quantile


def times(reads: float, writes: float) -> Times:
    return Times([reads] * 50, [writes] * 50)


def test_the_table_tells_the_ratio_of_all_rounds_and_of_each() -> None:
    found = Comparison(
        alone=[times(0.01, 0.02), times(0.01, 0.02)],
        beside={"a scrub": [times(0.01, 0.02), times(0.03, 0.02)]},
        rates={"a scrub": 100.0},
    )
    lines = found.table().splitlines()
    assert "| **a scrub**, 100 a second | | | | |" in lines
    assert "| reads, p99 | 10.0 ms | 30.0 ms | 3.00 | 1.00, 3.00 |" in lines
    assert "| writes, p50 | 20.0 ms | 20.0 ms | 1.00 | 1.00, 1.00 |" in lines
    told = found.figures()["beside"]["a scrub"][1]
    assert (told["title"], told["alone"], told["beside"]) == ("reads, p99", 0.01, 0.03)


@pytest.mark.parametrize(("part", "value"), [(0.5, 500), (0.99, 990), (0.001, 1)])
def test_a_quantile_is_the_time_below_which_that_part_is(part: float, value: float) -> None:
    assert quantile(range(1001), part) == value
