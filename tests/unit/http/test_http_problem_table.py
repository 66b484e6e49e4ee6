"""Every error has its own row, every row its place in the documentation, and nothing else is there."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from gateway import errors
from gateway.http.problem_types import INTERNAL, PROBLEMS, ROUTING, Problem
from gateway.http.problems import problem_of
from gateway.targets import quorum
from keyservice import wire

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (\d{3}) \|", re.MULTILINE)


def _errors(module: ModuleType) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and (module is wire or kind.__module__ == module.__name__)
    ]


KINDS = [*_errors(errors), *_errors(quorum), *_errors(wire)]
ANSWERS: set[Problem] = {*PROBLEMS.values(), *ROUTING.values(), INTERNAL}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_has_a_row_of_its_own(kind: type[Exception]) -> None:
    assert kind in PROBLEMS


def test_an_error_that_nobody_foresaw_is_internal() -> None:
    assert problem_of(ValueError("x")) == INTERNAL


def test_a_new_error_takes_the_row_of_its_nearest_kin() -> None:
    class Sunk(errors.StoreFull):
        """New."""

    assert problem_of(Sunk()).slug == "store-full"


def test_a_type_means_one_status_and_one_title() -> None:
    assert len({problem.slug for problem in ANSWERS}) == len(ANSWERS)


def test_the_documentation_has_exactly_these_rows() -> None:
    documented = {(slug, int(status)) for slug, status in _ROW.findall(DOCUMENT.read_text())}

    assert documented == {(problem.slug, problem.status) for problem in ANSWERS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_statuses_are_those_of_errors(kind: type[Exception]) -> None:
    assert 400 <= PROBLEMS[kind].status < 600
