"""What no linter checks: the format's few libraries, file sizes, test names."""

import ast
import collections
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("envelope", "gateway", "keyservice", "thirdparty", "benchmarks", "tests")
LONGEST = 400


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def imported(source: Path) -> Iterator[str]:
    """Yield the top-level name of everything that the file imports."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def patched(source: Path) -> Iterator[str]:
    """Yield the dotted names that a file's calls of `setattr` patch."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            name = node.args[0]
            if node.func.attr == "setattr" and isinstance(name, ast.Constant):
                yield str(name.value)


def test_the_format_needs_three_libraries_only() -> None:
    allowed = {"envelope", "blake3", "cbor2", "cryptography"} | sys.stdlib_module_names
    found = {name for source in sources("envelope") for name in imported(source)}
    assert found <= allowed


def test_no_file_is_long() -> None:
    sizes = {source: len(source.read_text().splitlines()) for source in sources(*PACKAGES)}
    assert not {str(source): size for source, size in sizes.items() if size > LONGEST}


def test_test_files_have_names_of_their_own() -> None:
    names = collections.Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_no_patch_of_a_module_of_ours_changes_the_library_behind_it() -> None:
    """Threads that other tests left behind use `os` and `time` as well: patch what the module imports."""
    found = [
        (source.name, name)
        for source in sources("tests")
        for name in patched(source)
        if name.startswith(PACKAGES)
        and name.split(".")[-2] in sys.stdlib_module_names
        and not ROOT.joinpath(*name.split(".")[:-1]).with_suffix(".py").exists()
    ]
    assert not found
