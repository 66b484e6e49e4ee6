"""What is asked of every subject: three sizes, each as many times at once as it comes in practice."""

from collections.abc import Iterator
from dataclasses import dataclass

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
RANGE = 1 * MiB
LARGE, MIDDLE, SMALL = "large", "middle", "small"


@dataclass(frozen=True, slots=True)
class Workload:
    """`count` objects of `size` bytes, `at_once` of them under way, and `ranges` into the first.

    `per_operation` where CPU seconds say more of a thousand operations than of a GiB.
    """

    name: str
    title: str
    size: int
    count: int
    at_once: int
    ranges: int = 0
    per_operation: bool = False


FULL = (
    Workload(LARGE, "1 GiB", 1 * GiB, count=1, at_once=1, ranges=64),
    Workload(MIDDLE, "8 MiB", 8 * MiB, count=48, at_once=8),
    Workload(SMALL, "64 KiB", 64 * KiB, count=768, at_once=32, per_operation=True),
)
QUICK = (
    Workload(LARGE, "256 MiB", 256 * MiB, count=1, at_once=1, ranges=32),
    Workload(MIDDLE, "8 MiB", 8 * MiB, count=24, at_once=8),
    Workload(SMALL, "64 KiB", 64 * KiB, count=320, at_once=32, per_operation=True),
)


def spans(workload: Workload) -> Iterator[tuple[int, int]]:
    """Yield ranges of 1 MiB, first and last byte, the same ones for everybody and aligned to nothing."""
    at = 12_345_677
    for _ in range(workload.ranges):
        at = (at * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        start = at % (workload.size - RANGE)
        yield start, start + RANGE - 1
