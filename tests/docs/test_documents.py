"""The documents lead somewhere: links resolve, and the commands they show exist."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.root import cli as gateway_cli
from keyservice.cli.main import cli as keyservice_cli

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_COMMAND = re.compile(
    r"(?:^|[\s/(])(sealgate|sealgate-keyservice|-m gateway|-m keyservice)"
    r"((?: [a-z][a-z-]*)*)(?=[\s)]|$)"
)
_CLI = {"gateway": gateway_cli, "keyservice": keyservice_cli}
_PACKAGES = {
    "sealgate": "gateway",
    "-m gateway": "gateway",
    "sealgate-keyservice": "keyservice",
    "-m keyservice": "keyservice",
}


def documents() -> list[Path]:
    """List every Markdown file of ours."""
    folders = [ROOT / name for name in ("docs", "deploy", "benchmarks", "tests")]
    found = [place for folder in folders for place in folder.rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *found])


def _shell_commands(document: Path) -> list[list[str]]:
    """List the words of each shell line; a text over several lines counts as no command."""
    commands: list[list[str]] = []
    for language, body in _FENCE.findall(document.read_text()):
        if language not in {"sh", "bash", "console"}:
            continue
        for line in body.replace("\\\n", " ").splitlines():
            with contextlib.suppress(ValueError):
                commands.append(shlex.split(line.removeprefix("$ "), comments=True))
    return commands


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


def _subcommands() -> list[tuple[str, ...]]:
    """List each of our commands in the documents up to its first option or odd argument."""
    found: set[tuple[str, ...]] = set()
    for document in documents():
        for words in _shell_commands(document):
            line = " ".join(words)
            for command, rest in _COMMAND.findall(line):
                found.add((_PACKAGES[command], *rest.split()))
    return sorted(found)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document: Path) -> None:
    text = _FENCE.sub("", document.read_text())
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leaves the project"
        if anchor:
            headings = {_anchor(heading) for heading in _HEADING.findall(target.read_text())}
            assert anchor in headings, f"{link} names no heading"


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(document: Path) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    for words in _shell_commands(document):
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("words", _subcommands(), ids=" ".join)
def test_commands_exist(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(_CLI[words[0]], [*words[1:], "--help"])
    assert shown.exit_code == 0, shown.output
