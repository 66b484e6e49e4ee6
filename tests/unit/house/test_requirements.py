"""What is installed is what was reviewed: versions and hashes, from wherever it is fetched."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements"
_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^ ;]+( ; .+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = re.sub(r"^ *#.*$", "", (REQUIREMENTS / name).read_text(), flags=re.MULTILINE)
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]

    assert entries
    for entry in entries:
        requirement, *hashes = re.split(r" +(?=--hash)", entry.strip())
        assert _PINNED.fullmatch(requirement), requirement
        assert hashes, requirement
        assert all(_HASH.fullmatch(each.strip()) for each in hashes), requirement
