"""Where a server's program comes from when it is missing, with a toolchain that only pretends."""

import threading
from pathlib import Path

import pytest

from tests.servers import binary, install
from tests.servers.binary import VERSITYGW, CannotBuild

BUILDS = """\
#!/bin/sh
echo "go: downloading a/module v1" >&2
echo run >> "$GO_RUNS"
/bin/sleep 0.3
while [ "$1" != -o ]; do shift; done
echo made > "$2"; /bin/chmod +x "$2"
"""
FAILS = """\
#!/bin/sh
echo "no required module provides it" >&2
exit 1
"""


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give an empty PATH and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GO_RUNS", str(tmp_path / "runs"))
    return folder


def program(place: Path, text: str = "#!/bin/sh\n") -> Path:
    place.write_text(text)
    place.chmod(0o755)
    return place


def silent(_state: str) -> None:
    """Show no progress."""


def test_path_comes_before_the_cache(path: Path) -> None:
    cached = binary.cache() / f"versitygw-{VERSITYGW.version}"
    cached.parent.mkdir(parents=True)
    program(cached)
    assert binary.find(VERSITYGW) == cached
    own = program(path / "versitygw")
    assert binary.find(VERSITYGW) == own


def test_two_builders_build_once(path: Path, tmp_path: Path) -> None:
    program(path / "go", BUILDS)
    states: list[str] = []
    found: list[Path] = []

    def obtain() -> None:
        found.append(binary.obtain(VERSITYGW, states.append))

    both = [threading.Thread(target=obtain) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert found == [binary.cache() / f"versitygw-{VERSITYGW.version}"] * 2
    assert found[0].read_text() == "made\n"
    assert (tmp_path / "runs").read_text() == "run\n"
    assert states[-1] == "1 modules downloaded, 0 packages compiled"


def test_a_failed_build_leaves_nothing_and_says_why(path: Path) -> None:
    program(path / "go", FAILS)
    with pytest.raises(CannotBuild, match="no required module"):
        binary.obtain(VERSITYGW, silent)
    assert binary.find(VERSITYGW) is None
    assert [place.name for place in binary.cache().iterdir()] == [
        f".versitygw-{VERSITYGW.version}.lock"
    ]


def test_without_a_toolchain_it_says_what_to_install(path: Path) -> None:
    assert path.is_dir()
    with pytest.raises(CannotBuild, match="install Go"):
        binary.obtain(VERSITYGW, silent)


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_missing_servers_fail_only_under_ci(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ci: str,
    status: int,
) -> None:
    assert path.is_dir()
    monkeypatch.setenv("CI", ci)
    assert install.main() == status
    assert capsys.readouterr().out.count("MISSING") == 2
