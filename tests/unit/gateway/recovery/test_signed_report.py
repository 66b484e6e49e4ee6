"""A report says what was signed, by the key that the reader trusts, or it is refused."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.recovery.report import ReportRefused, Signer, canonical, load, make, put, verify
from tests.doubles.system import system_calls

REPORT = {"kind": "sealgate restore 1", "counts": {"restored": 3}, "failed": {}, "ü": None}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make(tmp_path / "keys" / "report.key")


def text(signed: dict[str, Any]) -> bytes:
    return json.dumps(signed, indent=2).encode()


def test_what_was_signed_is_what_is_read(signer: Signer) -> None:
    assert verify(text(signer.sign(REPORT)), signer.public) == REPORT


def test_any_report_comes_back_as_it_was(tmp_path: Path) -> None:
    signer = make(tmp_path / "report.key")

    @settings(deadline=None)
    @given(st.dictionaries(st.text(), VALUES, max_size=4))
    def proves(report: dict[str, Any]) -> None:
        assert verify(text(signer.sign(report)), signer.public) == report

    proves()


def test_an_altered_report_is_refused(signer: Signer) -> None:
    signed = signer.sign(REPORT)
    signed["report"]["counts"] = {"restored": 4}
    with pytest.raises(ReportRefused, match="it was altered"):
        verify(text(signed), signer.public)


def test_the_key_that_a_report_names_is_not_believed(signer: Signer, tmp_path: Path) -> None:
    forged = make(tmp_path / "other.key").sign(REPORT)
    with pytest.raises(ReportRefused, match="another key signed it"):
        verify(text(forged), signer.public)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b"{}",
        b'{"report": 1, "signature": 2}',
        b'{"report": {}, "report": {}, "signature": {"algorithm": "ed25519", "value": ""}}',
        b'{"report": {"a": 1.5}, "signature": {"algorithm": "ed25519", "value": ""}}',
        b'{"report": {}, "signature": {"algorithm": "none", "value": ""}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_signed_report_is_refused(signer: Signer, damaged: bytes) -> None:
    with pytest.raises(ReportRefused):
        verify(damaged, signer.public)


@pytest.mark.parametrize("public", ["", "x", "é", base64.b64encode(b"short").decode()])
def test_what_is_no_public_key_is_refused(signer: Signer, public: str) -> None:
    with pytest.raises(ReportRefused, match="public key"):
        verify(text(signer.sign(REPORT)), public)


def test_the_canonical_form_is_written_out() -> None:
    assert canonical({"b": [1, True, None], "a": "ü"}) == b'{"a":"\\u00fc","b":[1,true,null]}'
    with pytest.raises(ReportRefused):
        canonical({"a": 0.5})


def test_the_key_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "report.key"
    first = make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert make(path).public == load(path).public == first.public
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.key"]
    assert repr(first) == "Signer()"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.key"
    make(path)
    path.chmod(0o640)
    with pytest.raises(ReportRefused, match="0600"):
        load(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.key"
    put(path, b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ReportRefused, match="cannot read the key"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def test_a_file_is_put_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    put(path, b"old")

    def fail(_: int) -> None:
        raise OSError

    system_calls(monkeypatch, "gateway.recovery.report", fsync=fail)
    with pytest.raises(OSError):  # noqa: PT011 - ours, without a text
        put(path, b"new")
    assert path.read_bytes() == b"old"
