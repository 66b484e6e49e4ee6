"""What the README and `sealgate dev` tell people to paste does what they say."""

import re
import shutil

import pytest

from gateway.wiring.dev.place import Place
from gateway.wiring.dev.welcome import lines
from tests.service.dev.embedded import ROOT, Embedded, shell

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
_FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"\s{2,}# (.+)$")


def tour() -> list[tuple[str, str]]:
    """Return the commands of the README's five minutes, each with what it says that it answers."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("## Five minutes with curl")[2].partition("\n## ")[0]
    commands: list[tuple[str, str]] = []
    for block in _FENCE.findall(section):
        for line in block.replace("\\\n", " ").splitlines():
            expected = _EXPECTED.search(line)
            commands.append((_EXPECTED.sub("", line), expected[1] if expected else ""))
    return commands


def test_the_tour_of_the_readme_is_true(stack: Embedded) -> None:
    commands = tour()
    assert len(commands) > 15
    separator = "=== next ==="
    script = f"\necho; echo '{separator}'\n".join(command for command, _ in commands)
    answers = shell(script, stack.cwd).split(separator)
    assert len(answers) == len(commands)
    for (command, expected), answer in zip(commands, answers, strict=True):
        assert expected in answer, f"{command}\nanswered: {answer}"


def test_every_printed_line_works_when_pasted(
    stack: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stack.cwd)
    first, *rest = lines(Place(stack.data))
    expected = ['"attachment": "hello"', "hello, sealed world", "sealed", '"attachments"', "", "ok"]
    for line, answer in zip(rest, expected, strict=True):
        assert line in stack.output
        assert answer in shell(f"{first}\n{line}", stack.cwd), line
    assert first in stack.output
