"""Who is asked first after somebody failed."""

from gateway.stores.memory import MemoryStore
from gateway.targets.quorum import Role, Target
from gateway.targets.ranking import Ranking

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
    ranking.answered("one", 0.01)
    assert asked(ranking) == ["one", "two", "three"]


def test_each_further_failure_doubles_the_rest_up_to_the_longest() -> None:
    clock = Clock()
    ranking = Ranking(rest=10.0, longest=30.0, clock=clock)
    for rest in (10.0, 20.0, 30.0, 30.0):
        ranking.failed("one")
        ranking.failed("one")  # of those that fail at once, one counts
        clock.now += rest - 0.1
        assert asked(ranking)[-1] == "one"
        clock.now += 0.1
        assert asked(ranking)[0] == "one"
    ranking.answered("one", 0.01)
    ranking.failed("one")
    clock.now += 10.0
    assert asked(ranking)[0] == "one"


def test_only_a_clearly_slower_target_loses_its_turn() -> None:
    ranking = Ranking()
    ranking.answered("one", 0.06)
    ranking.answered("two", 0.01)
    assert asked(ranking) == ["one", "two", "three"]
    for _ in range(9):
        ranking.answered("one", 0.5)
    assert asked(ranking) == ["two", "three", "one"]


def test_what_was_overtaken_is_slower_than_it_waited() -> None:
    ranking = Ranking()
    ranking.slower("one", 0.5)
    ranking.answered("two", 0.01)
    assert asked(ranking) == ["two", "three", "one"]


def test_a_slow_target_is_tried_again_after_a_rest() -> None:
    clock = Clock()
    ranking = Ranking(rest=10.0, clock=clock)
    ranking.answered("one", 1.0)
    ranking.answered("two", 0.01)
    clock.now = 10.0
    assert asked(ranking) == ["one", "two", "three"]
    assert asked(ranking) == ["two", "three", "one"]  # meanwhile nobody else waits for it
    ranking.answered("one", 0.01)
    assert asked(ranking) == ["one", "two", "three"]
