"""Every command line that the documents and the help show is one that the command line takes.

Options and arguments are parsed as they stand; nothing is run, and no value is believed. What stands in
the middle of a sentence may leave out what a command demands, but names no option that is not there.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from gateway.cli.root import cli as gateway_cli
from keyservice.cli.main import cli as keyservice_cli
from tests.docs.test_documents import ROOT, documents

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(sealgate(?:-keyservice)? [^`]+)`")
_COMMAND = re.compile(r"(?:^|[\s(/])(sealgate(?:-keyservice)? .*)$")
_SHELLS = {"", "sh", "bash", "console", "text"}
_END = {"|", ">", ">>", "&&", "||", ";", "2>", "<"}
_FORM = re.compile(r"sealgate [a-z ]+ \d")  # what the first bytes of a signed text are called
COMMANDS = {
    "sealgate": get_command(gateway_cli),
    "sealgate-keyservice": get_command(keyservice_cli),
}


def _words(line: str) -> list[str]:
    """Split a line as a shell would, up to where its output goes, without a `)` of `$(…)`."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    end = next((at for at, word in enumerate(words) if word in _END), len(words))
    return [word.removesuffix(")") for word in words[:end]]


def shown(document: Path) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a document's blocks, and what its sentences name, marked as spoken."""
    text = document.read_text()
    for language, block in _FENCE.findall(text):
        lines = block.replace("\\\n", " ").splitlines() if language in _SHELLS else ()
        for line in lines:
            if found := _COMMAND.search(line.strip()):
                yield found[1], False
    for line in _INLINE.findall(re.sub(r"\s*\n\s*", " ", _FENCE.sub("", text))):
        if not _FORM.fullmatch(line):
            yield line, True


def taught(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    """Yield the examples in the help of a command and of those below it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from taught(inner, (*words, name))
    for line in (command.help or "").splitlines():
        if (found := re.match(r" *\$ (.*)", line)) and (told := _COMMAND.search(found[1])):
            yield told[1]


def wrong(line: str, *, spoken: bool) -> str:
    """Return what the command line would say against a line; empty where it takes it."""
    program, *words = _words(line)
    command, context = COMMANDS[program], None
    while hasattr(command, "commands"):
        context = typer.Context(command, info_name=program, parent=context)
        if not words or words[0] == "…" or words[0].startswith("-"):
            return ""
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    context = typer.Context(command, info_name=program, parent=context)
    flags = {
        name for each in command.params if getattr(each, "is_flag", False) for name in each.opts
    }
    if spoken and words and words[-1].startswith("--") and words[-1] not in flags:
        words.append("its value")
    try:
        given, rest, _ = command.make_parser(context).parse_args([*words])
    except Exception as error:  # noqa: BLE001 - whatever the library says of it
        return str(error)
    if rest and rest != ["…"]:
        return f"more than it takes: {rest}"
    missing = [
        each.name
        for each in command.params
        if each.required and given.get(each.name) in {None, ()} and not spoken
    ]
    return f"left out: {missing}" if missing else ""


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_show_lines_that_are_taken(document: Path) -> None:
    said = {line: wrong(line, spoken=spoken) for line, spoken in shown(document)}
    assert {line: text for line, text in said.items() if text} == {}


@pytest.mark.parametrize("program", COMMANDS)
def test_help_shows_lines_that_are_taken(program: str) -> None:
    examples = list(taught(COMMANDS[program], (program,)))
    assert len(examples) > 5
    said = {line: wrong(line, spoken=False) for line in examples}
    assert {line: text for line, text in said.items() if text} == {}
