"""The soft limit on open files is no smaller cap on connections than the one that was configured."""

import resource

import pytest

from gateway.cli import serve

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 1048576), (65536, 1048576)),
        ((1024, INFINITE), (65536, INFINITE)),
        ((100_000, 1048576), None),
        ((INFINITE, INFINITE), None),
        ((4096, 4096), None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_may(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: given.append(pair))
    serve.allow_connections()
    assert given == ([] if expected is None else [expected])
