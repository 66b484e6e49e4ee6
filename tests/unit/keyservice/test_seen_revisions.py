"""What a client remembers of revisions: the highest, unless the key store itself went back."""

from hypothesis import given
from hypothesis import strategies as st

from keyservice.client.transport import Revisions


def test_the_highest_is_remembered() -> None:
    seen = Revisions()
    assert seen.of("a") == 0
    for revision in (3, 2, 5, 4):
        seen.saw("a", revision, asked=0)
    assert (seen.of("a"), seen.of("b")) == (5, 0)


def test_a_store_that_went_back_is_believed() -> None:
    seen = Revisions()
    seen.saw("a", 9, asked=0)
    seen.saw("a", 4, asked=9)
    assert seen.of("a") == 4


def test_an_answer_to_an_older_question_takes_nothing_back() -> None:
    seen = Revisions()
    seen.saw("a", 3, asked=0)
    seen.saw("a", 9, asked=3)
    seen.saw("a", 3, asked=3)  # asked before the other one was answered
    assert seen.of("a") == 9


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 9))))
def test_it_is_bounded(answers: list[tuple[str, int]]) -> None:
    seen = Revisions(size=3)
    for tenant, revision in answers:
        seen.saw(tenant, revision, asked=0)
        assert seen.of(tenant) >= revision
    assert len(seen._seen) <= 3
