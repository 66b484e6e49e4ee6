"""Every error has an answer, those that adapters refine for themselves too."""

import pytest

from keyservice.errors import Unavailable
from keyservice.protocol.problems import STATUS, from_problem, to_problem
from keyservice.vault.login import Refused
from keyservice.vault.session import Sealed
from keyservice.wire import ERRORS, KeyServiceError


@pytest.mark.parametrize("kind", ERRORS.values())
def test_every_error_comes_back_as_it_was(kind: type[KeyServiceError]) -> None:
    error = kind("said", retry_after=3)
    again = from_problem(to_problem(error))
    assert (type(again), str(again), again.retry_after) == (kind, "said", 3)


@pytest.mark.parametrize("kind", [Refused, Sealed])
def test_a_finer_error_is_told_as_what_it_is(kind: type[Unavailable]) -> None:
    problem = to_problem(kind("said"))
    assert problem.status == STATUS[Unavailable]
    assert type(from_problem(problem)) is Unavailable
