"""Who is asked first after somebody failed."""

from gateway.quorum import Role, Target
from gateway.ranking import Ranking
from gateway.stores.memory import MemoryStore

TARGETS = [Target(name, Role.BACKUP, MemoryStore()) for name in ("one", "two", "three")]


class Clock:
    """Shows the time that it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(ranking: Ranking) -> list[str]:
    return [target.name for target in ranking.order(TARGETS)]


def test_targets_are_asked_as_configured() -> None:
    assert asked(Ranking()) == ["one", "two", "three"]


def test_those_that_failed_are_asked_last_but_asked() -> None:
    ranking = Ranking()
    ranking.failed("one")
    assert asked(ranking) == ["two", "three", "one"]
    ranking.failed("two")
    assert asked(ranking) == ["three", "one", "two"]


def test_after_a_rest_one_finds_out_for_all() -> None:
    clock = Clock()
    ranking = Ranking(rest=10.0, clock=clock)
    ranking.failed("one")
    clock.now = 9.9
    assert asked(ranking) == ["two", "three", "one"]
    clock.now = 10.0
    assert asked(ranking) == ["one", "two", "three"]
    assert asked(ranking) == ["two", "three", "one"]  # meanwhile nobody else waits for it
    clock.now = 20.0
    assert asked(ranking) == ["one", "two", "three"]


def test_what_worked_is_asked_in_its_turn_again() -> None:
    ranking = Ranking()
    ranking.failed("one")
    ranking.worked("one")
    assert asked(ranking) == ["one", "two", "three"]
