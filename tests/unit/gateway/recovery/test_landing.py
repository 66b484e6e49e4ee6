"""No stored name chooses where a file goes, and no file appears half or over another."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import new_id
from gateway.recovery.landing import MANIFEST, Landing, LandingRefused, named
from tests.doubles.system import system_calls

TENANT = "a" * 32


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    made = Landing(tmp_path / "restored")
    made.prepare()
    return made


@settings(deadline=None)
@given(shown=st.text(max_size=300), version=st.uuids())
def test_a_name_is_one_harmless_file(shown: str, version: object) -> None:
    text = str(version).replace("-", "")
    name = named(shown, text)
    assert name == Path(name).name
    assert not name.startswith((".", "-", " "))
    assert len(name.encode()) < 120
    assert name.count("~") == 1
    assert f"~{text[:16]}" in name
    assert all(letter.isalnum() or letter in " -_.~" for letter in name)
    assert name.encode()


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("report.pdf", "report~0123456789abcdef.pdf"),
        ("../../etc/passwd", "passwd~0123456789abcdef"),
        ("..\\..\\evil.exe", "evil~0123456789abcdef.exe"),
        (".bashrc", "bashrc~0123456789abcdef"),
        ("", "unnamed~0123456789abcdef"),
        ("..", "unnamed~0123456789abcdef"),
        ("a\nb\x1b[2J.txt", "a b__2J~0123456789abcdef.txt"),
        ("$(rm -rf ~).sh", "__rm -rf __~0123456789abcdef.sh"),
        ("résumé.docx", "résumé~0123456789abcdef.docx"),
        ("x" * 500 + ".txt", "x" * 80 + "~0123456789abcdef.txt"),
        ("tar.gz.\u202egnp", "tar.gz._gnp~0123456789abcdef"),
    ],
)
def test_names_that_mean_harm_mean_nothing(shown: str, name: str) -> None:
    assert named(shown, "0123456789abcdef" * 2) == name


def test_a_file_appears_whole_and_private(landing: Landing, tmp_path: Path) -> None:
    version = new_id()
    draft = landing.begin(TENANT, version, "report.pdf")
    draft.write(b"con")
    assert Landing(tmp_path / "restored").find(TENANT, version) is None
    draft.write(b"tent")
    draft.finish()
    draft.discard()
    path = Landing(tmp_path / "restored").find(TENANT, version)
    assert path is not None
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "restored", tmp_path / "restored" / TENANT):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_was_begun_leaves_nothing(landing: Landing, tmp_path: Path) -> None:
    with landing.begin(TENANT, new_id(), "report.pdf") as draft:
        draft.write(b"content")
    assert not list((tmp_path / "restored" / TENANT).iterdir())


def test_a_file_that_is_there_stays(landing: Landing) -> None:
    version = new_id()
    draft = landing.begin(TENANT, version, "report.pdf")
    draft.path.write_bytes(b"theirs")
    draft.write(b"ours")
    with pytest.raises(LandingRefused, match="has the name"):
        draft.finish()
    draft.discard()
    assert draft.path.read_bytes() == b"theirs"


@pytest.mark.parametrize("links", [True, False])
def test_where_there_are_no_hard_links_it_is_the_same(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    if not links:
        system_calls(monkeypatch, "gateway.recovery.landing", link=refuse)
    version = new_id()
    draft = landing.begin(TENANT, version, "a.txt")
    draft.write(b"1")
    draft.finish()
    second = landing.begin(TENANT, version, "a.txt")
    with pytest.raises(LandingRefused):
        second.finish()
    second.discard()
    assert draft.path.read_bytes() == b"1"


def test_what_a_killed_run_left_is_written_anew(landing: Landing) -> None:
    version = new_id()
    killed = landing.begin(TENANT, version, "a.txt")
    killed.write(b"half")
    killed._file.close()
    draft = landing.begin(TENANT, version, "a.txt")
    draft.write(b"whole")
    draft.finish()
    assert draft.path.read_bytes() == b"whole"


def test_a_link_is_not_followed(landing: Landing, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "restored" / TENANT).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LandingRefused, match="not a folder"):
        landing.begin(TENANT, new_id(), "a.txt")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LandingRefused, match="not a folder"):
        Landing(link).prepare()
    (tmp_path / "elsewhere" / "file").touch()
    other = Landing(tmp_path / "second")
    other.prepare()
    (tmp_path / "second" / TENANT).mkdir(mode=0o700)
    (tmp_path / "second" / TENANT / MANIFEST).symlink_to(tmp_path / "elsewhere" / "file")
    with pytest.raises(LandingRefused):
        other.note(TENANT, {"a": 1})
    assert not (tmp_path / "elsewhere" / "file").read_bytes()


def test_a_folder_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(LandingRefused, match="others may write"):
        Landing(shared).prepare()
