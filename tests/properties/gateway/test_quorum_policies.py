"""Quorum policies against a naive reading of their text."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.memory import MemoryStore
from gateway.targets.quorum import Quorum, Role, Target

STORE = MemoryStore()
TERMS = st.one_of(
    st.just("primary"),
    st.integers(1, 4).map(lambda n: f"primary+{n}"),
    st.just("majority"),
    st.just("all"),
    st.integers(1, 4).map(lambda n: f"regions:{n}"),
)
POLICIES = st.lists(TERMS, min_size=1, max_size=4, unique_by=lambda term: term[:3]).map(",".join)


@st.composite
def sites(draw: st.DrawFn) -> tuple[Target, ...]:
    """Draw a primary and up to four backups, in up to three regions or none."""
    regions = draw(st.lists(st.sampled_from(["eu", "us", "asia", None]), min_size=1, max_size=5))
    return tuple(
        Target(f"t{n}", Role.BACKUP if n else Role.PRIMARY, STORE, region)
        for n, region in enumerate(regions)
    )


def naive(policy: str, targets: Sequence[Target], names: set[str]) -> bool:
    """Read a policy word by word."""
    for term in policy.split(","):
        word, _, number = term.replace(":", "+").partition("+")
        if word == "primary":
            enough = "t0" in names and len(names - {"t0"}) >= int(number or 0)
        elif word == "majority":
            enough = len(names) > len(targets) / 2
        elif word == "all":
            enough = names == {target.name for target in targets}
        else:
            seen = {t.region for t in targets if t.name in names} - {None}
            enough = len(seen) >= int(number)
        if not enough:
            return False
    return True


@given(policy=POLICIES, targets=sites(), data=st.data())
def test_satisfied_is_what_the_words_say(
    policy: str, targets: tuple[Target, ...], data: st.DataObject
) -> None:
    names = data.draw(st.sets(st.sampled_from([target.name for target in targets])))

    assert Quorum.parse(policy).satisfied(targets, names) is naive(policy, targets, names)


@given(policy=POLICIES, targets=sites(), data=st.data())
def test_one_more_target_never_hurts(
    policy: str, targets: tuple[Target, ...], data: st.DataObject
) -> None:
    every = st.sampled_from([target.name for target in targets])
    names, more, quorum = data.draw(st.sets(every)), data.draw(every), Quorum.parse(policy)

    assert quorum.satisfied(targets, names | {more}) or not quorum.satisfied(targets, names)


@given(policy=POLICIES, targets=sites())
def test_what_no_targets_could_satisfy_is_refused(policy: str, targets: tuple[Target, ...]) -> None:
    quorum, every = Quorum.parse(policy), {target.name for target in targets}
    if naive(policy, targets, every):
        quorum.demand(targets)
    else:
        with pytest.raises(ValueError, match="asks for more"):
            quorum.demand(targets)


@given(POLICIES)
def test_a_policy_is_written_as_it_is_read(policy: str) -> None:
    quorum = Quorum.parse(policy)

    assert Quorum.parse(str(quorum)) == quorum
    assert set(str(quorum).split(",")) == set(policy.split(","))


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "primary+0", "primary+", "primary+x", "regions", "regions:0", "all,"),
        *("PRIMARY", "primary,primary+1", "regions:1,regions:2", "majority:2", "primary+100"),
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match="quorum policy"):
        Quorum.parse(text)
