"""The runs of `make test` and `make soak` together leave no test out, and run none twice."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).resolve().parents[3]
MARKS = ("soak", "alone")  # what the runs are told apart by
MAKE = re.compile(r"\$\((?:[^()]|\([^()]*\))*\)")  # a variable or a call
RUN = re.compile(r"-m pytest\b([^|;\n]*)")
HARMLESS = {"-n", "--dist", "loadfile", "--no-loadscope-reorder", "--timeout=7200"}


def runs(target: str) -> list[list[str]]:
    """Return the arguments of every pytest that a target of the Makefile starts."""
    text = (ROOT / "Makefile").read_text()
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert recipe is not None
    return [shlex.split(MAKE.sub("", found)) for found in RUN.findall(recipe[1])]


def selections() -> list[str]:
    """Return the marks that each run asks for. No run may choose its tests in another way."""
    found = []
    for arguments in (*runs("test"), *runs("soak")):
        at = arguments.index("-m")
        found.append(arguments[at + 1])
        assert set(arguments[:at] + arguments[at + 2 :]) <= HARMLESS
    return found


@pytest.mark.parametrize("has", list(itertools.product([False, True], repeat=len(MARKS))))
def test_every_test_is_in_exactly_one_run(has: tuple[bool, ...]) -> None:
    marks = dict(zip(MARKS, has, strict=True))

    def matches(selection: str) -> bool:
        def marked(name: str, /, **_: str | int | bool | None) -> bool:
            return marks[name]

        return Expression.compile(selection).evaluate(marked)

    assert sum(matches(selection) for selection in selections()) == 1


def test_what_loads_the_machine_runs_alone_and_this_does_not(
    request: pytest.FixtureRequest,
) -> None:
    assert len(runs("test")) == 2
    assert not any("-n" in arguments for arguments in runs("test")[1:])
    assert request.node.get_closest_marker("alone") is None
    for item in request.session.items:
        alone = item.get_closest_marker("alone") is not None
        assert alone == ("tests/load/" in item.nodeid), item.nodeid


def test_nothing_is_left_out_by_its_name_or_place() -> None:
    """Every file with tests has a name that pytest collects, below the folder that it looks into."""
    tests = re.compile(r"^(?:async )?def test_|^    (?:async )?def test_", re.MULTILINE)
    for file in (ROOT / "tests").rglob("*.py"):
        assert file.name.startswith("test_") == bool(tests.search(file.read_text())), file
