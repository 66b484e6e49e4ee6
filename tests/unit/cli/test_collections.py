"""The garbage collector of a serving gateway: what was imported is left alone, what is new is found."""

import gc
from collections.abc import Iterator

import pytest

from gateway.cli import serve


@pytest.fixture
def collector() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_was_imported_is_left_alone_and_new_cycles_are_still_found() -> None:
    """Frozen objects are looked at no more; a cycle that is made afterwards goes away by itself."""
    young, *older = gc.get_threshold()
    serve.spare_collections()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] > young
    assert list(gc.get_threshold()[1:]) == older
    assert gc.isenabled()
    gone: list[int] = []

    class Knot:
        def __init__(self) -> None:
            self.self = self

        def __del__(self) -> None:
            gone.append(1)

    for _ in range(3 * gc.get_threshold()[0]):
        Knot()
    assert gone
