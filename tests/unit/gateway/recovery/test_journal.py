"""A journal holds what was done, survives a crash at any byte, and is nobody else's."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import new_id
from gateway.recovery.journal import Entry, Journal, JournalRefused

ABOUT = {"mode": "restore", "scope": {"tenant": None}}
DONE = ("restored", "skipped")


def entry(outcome: str = "restored", version: str | None = None, size: int = 10) -> Entry:
    return Entry(version or new_id(), "0" * 32, outcome, size, source="east", reason="")


def begin(path: Path, *entries: Entry) -> Journal:
    journal = Journal.open(path, ABOUT, done=DONE)
    journal.write(entries)
    return journal


def test_what_was_done_is_known_to_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    done, failed = entry(), entry("failed")
    first = begin(path, done, failed)
    first.close()
    again = Journal.open(path, ABOUT, done=DONE)
    assert again.resumed
    assert again.run == first.run
    assert again.tally.settled == {bytes.fromhex(done.version): "restored"}
    assert again.tally.counts == {"restored": 1, "failed": 0}
    assert again.tally.sizes["restored"] == 10
    assert list(again.entries()) == [done, failed]
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_version_that_is_done_twice_counts_once(tmp_path: Path) -> None:
    done = entry()
    first = begin(
        tmp_path / "a.journal", done, entry("skipped", done.version), entry("failed", done.version)
    )
    first.close()
    again = Journal.open(tmp_path / "a.journal", ABOUT, done=DONE)
    assert not +again.tally.counts
    assert not +again.tally.sizes
    assert not again.tally.settled
    again.tally.add(entry("restored", done.version))
    assert +again.tally.counts == {"restored": 1}
    again.close()


def test_a_run_that_ended_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    first = begin(path, entry())
    digest = first.digest()
    kept = first.finish()
    first.close()
    assert digest["bytes"] == kept.stat().st_size
    assert digest["lines"] == 2
    again = Journal.open(path, ABOUT, done=DONE)
    assert not again.resumed
    assert again.run != first.run
    again.close()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(min_value=0, max_value=2000))
def test_cut_off_anywhere_it_is_read_up_to_the_last_whole_line(cut: int) -> None:
    path = Path(tempfile.gettempdir()) / f"{new_id()}.journal"
    entries = [entry() for _ in range(5)]
    begin(path, *entries).close()
    try:
        os.truncate(path, min(cut, path.stat().st_size))
        journal = Journal.open(path, ABOUT, done=DONE)
        known = list(journal.tally.settled)
        assert known == [bytes.fromhex(each.version) for each in entries[: len(known)]]
        journal.write([entry()])
        journal.close()
        again = Journal.open(path, ABOUT, done=DONE)
        assert len(again.tally.settled) == len(known) + 1
        again.close()
    finally:
        path.unlink()


def test_the_journal_of_another_restore_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "a.journal").close()
    with pytest.raises(JournalRefused, match="another restore"):
        Journal.open(tmp_path / "a.journal", {"mode": "open"}, done=DONE)


def test_two_runs_do_not_share_one(tmp_path: Path) -> None:
    first = begin(tmp_path / "a.journal")
    with pytest.raises(JournalRefused, match="wait for it to end"):
        Journal.open(tmp_path / "a.journal", ABOUT, done=DONE)
    first.close()
    Journal.open(tmp_path / "a.journal", ABOUT, done=DONE).close()


def test_one_that_nobody_wrote_to_for_long_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    begin(path, entry()).close()
    os.utime(path, (1, 1))
    again = Journal.open(path, ABOUT, done=DONE, oldest=timedelta(days=1))
    assert not again.resumed
    assert not again.tally.settled
    assert len(list(tmp_path.glob("a.journal.*.old"))) == 1
    again.close()


def test_a_fresh_one_goes_on_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    begin(path, entry()).close()
    again = Journal.open(path, ABOUT, done=DONE, fresh=True)
    assert not again.resumed
    again.close()


@pytest.mark.parametrize(
    "line",
    [b"garbage\n", b"{}\n", b'{"version": "zz", "tenant": "", "outcome": "", "size": 0}\n'],
)
def test_a_damaged_one_is_not_half_believed(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.journal"
    begin(path, entry()).close()
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(JournalRefused, match="damaged"):
        Journal.open(path, ABOUT, done=DONE)
    path.write_bytes(line)
    with pytest.raises(JournalRefused, match="no journal"):
        Journal.open(path, ABOUT, done=DONE)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "a.journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Journal.open(tmp_path / "a.journal", ABOUT, done=DONE)
