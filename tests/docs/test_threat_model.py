"""The documents name what exists: threats with their tests, functions, layers, refusals."""

import ast
import functools
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

from keyservice.errors import Conflict
from keyservice.protocol.problems import STATUS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MODEL = DOCS / "threat-model.md"
CHECKED = [MODEL, DOCS / "architecture.md", DOCS / "keyservice-api.md", *DOCS.glob("adr/*.md")]
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_THREAT = re.compile(r"^### (T\d+)\. .+$", re.MULTILINE)
_PART = re.compile(r"^\*\*([A-Z][a-z ]+)\.\*\* ", re.MULTILINE)
_NAME = re.compile(r"`((?:gateway|keyservice|envelope)(?:\.\w+)+)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_FILE = re.compile(r"`([\w-]+(?:/[\w.-]+)+\.\w+)`")
_ROW = re.compile(r"^\| `([a-z-]+)` \| (\d+) \|", re.MULTILINE)
_SETTING = re.compile(r"`((?:limits|reaper|quorum|cache|keyservice)\.\w+)`")


def threats() -> dict[str, dict[str, str]]:
    """Return the parts of each threat by its number: the adversary, and what stands in bold."""
    pieces = _THREAT.split(MODEL.read_text().partition("\n## Not yet")[0])
    found: dict[str, dict[str, str]] = {}
    for number, body in zip(pieces[1::2], pieces[2::2], strict=True):
        text = body.partition("\n## ")[0]
        parts = _PART.split(text)
        assert number not in found, f"{number} comes twice"
        found[number] = {
            "Adversary": parts[0].strip(),
            **dict(zip(parts[1::2], parts[2::2], strict=True)),
        }
    return found


@functools.cache
def functions_in(path: Path) -> frozenset[str]:
    """Return the functions of a file of tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, kinds))


@functools.cache
def settings() -> frozenset[str]:
    """Return the settings that the examples of both services show, as section.name."""
    found: set[str] = set()
    for name in ("sealgate", "keyservice"):
        example = tomllib.loads((ROOT / f"deploy/{name}.example.toml").read_text())
        for section, values in example.items():
            if isinstance(values, dict):
                found |= {f"{section}.{setting}" for setting in values}
    return frozenset(found)


def test_threats_are_numbered_without_gaps() -> None:
    assert list(threats()) == [f"T{number}" for number in range(1, len(threats()) + 1)]


@pytest.mark.parametrize("number", threats())
def test_a_threat_says_who_and_what_holds_it_off_or_what_remains(number: str) -> None:
    parts = threats()[number]

    assert parts["Adversary"].startswith("An adversary ")
    assert parts.keys() <= {"Adversary", "Held off by", "Shown by", "Residual"}
    assert "Residual" in parts or _TEST.search(parts["Shown by"]), "neither a test nor a residual"
    assert ("Held off by" in parts) == ("Shown by" in parts)
    if "Shown by" in parts:
        held = parts["Held off by"]
        assert _NAME.search(held) or _FILE.search(held), "no function and no file is named"
        assert _TEST.search(parts["Shown by"]), "no test is named"


@pytest.mark.parametrize("document", CHECKED, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = _FENCE.sub("", document.read_text())
    for name in _NAME.findall(text):
        if name not in settings():
            pkgutil.resolve_name(name)
    for path, test in _TEST.findall(text):
        assert (ROOT / path).is_file(), f"no file {path}"
        assert test in functions_in(ROOT / path), f"no test {test} in {path}"
    for path in _FILE.findall(text):
        assert (ROOT / path).exists(), f"no file {path}"
    for setting in _SETTING.findall(text):
        known = setting in settings() or _resolves(setting)
        assert known, f"no setting {setting}"


def _resolves(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_layer_table_is_what_the_linter_enforces() -> None:
    """A module that the table leaves out is allowed; one in another place is not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["name"] == "Layers of the gateway")
    place = {
        module.strip(): number
        for number, layer in enumerate(layers)
        for module in re.split(r"[:|]", layer)
    }
    section = (DOCS / "architecture.md").read_text().partition("\n## Layers\n")[2]
    table = [line.split("|") for line in section.partition("\n## ")[0].splitlines() if "|" in line]
    rows = [re.findall(r"`(\w+)`", cells[2]) for cells in table[2:]]
    shown = [{place[module] for module in row} for row in rows]

    assert all(len(places) == 1 for places in shown)
    assert sorted(shown, key=min) == shown


def test_the_table_of_refusals_is_the_key_services() -> None:
    table = dict(_ROW.findall((DOCS / "keyservice-api.md").read_text()))

    assert table == {kind.code: str(s) for kind, s in STATUS.items() if kind is not Conflict}
