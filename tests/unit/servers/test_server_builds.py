"""Where a server's program comes from when it is missing, with a toolchain that only pretends."""

import threading
from pathlib import Path

import pytest

from tests.servers import binary, install, toolchain
from tests.servers.binary import VERSITYGW, CannotBuild

BUILDS = """\
#!/bin/sh
if [ "$1" = env ]; then echo go1.25.1; exit; fi
echo "go: downloading a/module v1" >&2
echo run >> "$GO_RUNS"
/bin/sleep 0.3
while [ "$1" != -o ]; do shift; done
echo made > "$2"; /bin/chmod +x "$2"
"""
FAILS = """\
#!/bin/sh
if [ "$1" = env ]; then echo go1.25.1; exit; fi
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


def test_an_old_toolchain_fetches_a_new_one(path: Path, tmp_path: Path) -> None:
    newer = tmp_path / "module" / "bin" / "go"
    newer.parent.mkdir(parents=True)
    newer.write_text("#!/bin/sh\n")
    newer.chmod(0o444)  # as Go unpacks a module
    program(
        path / "go",
        f"""#!/bin/sh
case "$*" in
"env GOVERSION") echo go1.19.8 ;;
"env GOOS GOARCH") echo linux; echo amd64 ;;
"mod download -json golang.org/toolchain@v0.0.1-{toolchain.WANTED}.linux-amd64")
  echo '{{"Dir": "{tmp_path}/module"}}' ;;
*) exit 1 ;;
esac
""",
    )
    assert toolchain.find_go() == newer
    assert newer.stat().st_mode & 0o111


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
