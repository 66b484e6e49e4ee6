"""The documents lead somewhere: links resolve, and the commands they show exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_COMMANDS = {"sealgate": "gateway", "sealgate-keyservice": "keyservice"}
_WORD = re.compile(r"[a-z][a-z-]*")


def documents() -> list[Path]:
    """List every Markdown file of ours."""
    folders = (ROOT, *(ROOT / name for name in ("docs", "deploy", "benchmarks", "tests")))
    found = [*ROOT.glob("*.md")]
    for folder in folders[1:]:
        found += folder.rglob("*.md")
    return sorted(found)


def _shell_lines(document: Path) -> list[str]:
    lines: list[str] = []
    for language, body in _FENCE.findall(document.read_text()):
        if language in {"sh", "bash", "console"}:
            lines += [line.removeprefix("$ ").strip() for line in body.splitlines()]
    return lines


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


def _subcommands() -> list[tuple[str, ...]]:
    """List each `sealgate …` in the documents up to its first option or argument."""
    found: set[tuple[str, ...]] = set()
    for document in documents():
        for line in _shell_lines(document):
            words = shlex.split(line, comments=True)
            name = Path(words[0]).name if words else ""
            if name in _COMMANDS:
                rest = words[1:]
                stop = next(
                    (i for i, word in enumerate(rest) if not _WORD.fullmatch(word)), len(rest)
                )
                found.add((name, *rest[:stop]))
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
    for line in _shell_lines(document):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("words", _subcommands(), ids=" ".join)
def test_commands_exist(words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", _COMMANDS[words[0]], *words[1:], "--help"]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
