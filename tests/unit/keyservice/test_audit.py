"""No answer without a record: the file of records, and the time it is given."""

# ruff: noqa: ASYNC240 - a test may wait for its disk

import asyncio
import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyservice.access.audit import Auditor, AuditRecord
from keyservice.access.audit_file import GENESIS, FileAuditSink
from keyservice.errors import Unavailable
from tests.doubles.system import system_calls
from tests.service.http.eventually import eventually
from tests.unit.keyservice.fakes import FakeSink

RECORD = AuditRecord(
    time=dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
    request_id="r",
    caller="dns:g",
    tenant="a" * 32,
    operation="unwrap",
    key="k",
    reason="download\nforged",
    outcome="ok",
    count=3,
)


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def check_chain(path: Path) -> int:
    previous, number = GENESIS, 0
    for line in path.read_bytes().splitlines():
        number += 1
        document = json.loads(line)
        assert (document["sequence"], document["previous"]) == (number, previous)
        previous = hashlib.sha256(line).hexdigest()
    return number


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Give a path for the file."""
    yield tmp_path / "audit" / "k.jsonl"
    assert not [thread for thread in threading.enumerate() if thread.name == "audit"]


@pytest.mark.parametrize("fsync", [True, False])
async def test_a_record_is_one_line_with_all_it_says(*, path: Path, fsync: bool) -> None:
    sink = FileAuditSink(path, fsync=fsync)
    await sink.write([RECORD])
    assert lines(path) == [
        {
            "sequence": 1,
            "previous": GENESIS,
            "time": "2026-01-02T03:04:05.000006+00:00",
            "request_id": "r",
            "caller": "dns:g",
            "tenant": "a" * 32,
            "operation": "unwrap",
            "key": "k",
            "reason": "download\nforged",
            "outcome": "ok",
            "count": 3,
        }
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await sink.close()
    await sink.close()
    with pytest.raises(OSError, match="closed"):
        await sink.write([RECORD])


async def test_many_at_once_are_numbered_without_gaps(path: Path) -> None:
    sink = FileAuditSink(path)
    await asyncio.gather(*(sink.write([RECORD, RECORD]) for _ in range(100)))
    await sink.close()
    assert check_chain(path) == 200


async def test_a_restart_goes_on_where_it_stopped(path: Path) -> None:
    for _ in range(3):
        sink = FileAuditSink(path)
        await sink.write([RECORD])
        await sink.close()
    assert check_chain(path) == 3


@pytest.mark.parametrize("torn", [b'{"sequence":3,"prev', b"\x00" * 100, b"{}"])
async def test_a_line_torn_by_a_crash_is_cut_off(path: Path, torn: bytes) -> None:
    sink = FileAuditSink(path)
    await sink.write([RECORD, RECORD])
    await sink.close()
    with path.open("ab") as file:
        file.write(torn)
    sink = FileAuditSink(path)
    await sink.write([RECORD])
    await sink.close()
    assert check_chain(path) == 3


async def test_what_is_not_an_audit_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("somebody's notes\n")
    with pytest.raises(ValueError, match="move it away"):
        FileAuditSink(path)
    assert path.read_text() == "somebody's notes\n"


async def test_a_second_process_is_refused(path: Path) -> None:
    sink = FileAuditSink(path)
    with pytest.raises(BlockingIOError, match="another process"):
        FileAuditSink(path)
    await sink.close()


async def test_a_disk_that_fills_refuses_and_leaves_whole_lines(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FileAuditSink(path)
    await sink.write([RECORD])
    real = os.pwrite
    with monkeypatch.context() as patch:

        def half(descriptor: int, data: memoryview, offset: int) -> int:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[: len(data) // 2], offset)

        system_calls(patch, "keyservice.access.audit_file", pwrite=half)
        with pytest.raises(OSError, match="audit file"):
            await sink.write([RECORD])
    assert check_chain(path) == 1
    await sink.write([dataclasses.replace(RECORD, reason="x")])
    await sink.close()
    assert check_chain(path) == 2


async def test_a_disk_that_hangs_refuses_in_time_and_recovers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, go = FileAuditSink(path), threading.Event()
    real = os.fdatasync

    def hang(descriptor: int) -> None:
        go.wait(60)
        real(descriptor)

    system_calls(monkeypatch, "keyservice.access.audit_file", fdatasync=hang)
    auditor = Auditor(sink, timeout=0.1)
    started = time.monotonic()
    found = await asyncio.gather(
        *(auditor.write([RECORD]) for _ in range(5)), return_exceptions=True
    )
    assert time.monotonic() - started < 30
    assert all(isinstance(error, Unavailable) for error in found)
    assert not auditor.status().healthy
    go.set()

    async def written() -> bool:
        with contextlib.suppress(Unavailable):  # a busy disk may take longer than it may
            await auditor.write([RECORD])
            return True
        return False

    await eventually(written)
    assert auditor.status().healthy
    await auditor.close()
    check_chain(path)


async def test_a_sink_that_fails_is_unavailable() -> None:
    sink = FakeSink()
    auditor = Auditor(sink)
    sink.fails = True
    with pytest.raises(Unavailable) as refused:
        await auditor.write([RECORD])
    assert refused.value.retry_after
    sink.fails = False
    await auditor.write([RECORD])
    assert sink.records == [RECORD]


async def test_by_default_a_sink_has_one_second() -> None:
    sink = FakeSink()
    sink.hangs = True
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await Auditor(sink).write([RECORD])
    assert 0.9 < time.monotonic() - started < 60
