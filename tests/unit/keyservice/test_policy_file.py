"""A new policy takes effect without a restart; a bad one changes nothing and is reported."""

import asyncio
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from keyservice.access import policy_file
from keyservice.access.policy import Caller, Gate, Operation, Policy, parse
from keyservice.access.policy_file import PolicyFile, load
from keyservice.errors import Denied

CALLER, TENANT = Caller(("dns:g",)), "a" * 32
ALLOW = """
[[rule]]
name = "all"
effect = "allow"
callers = ["dns:g"]
tenants = ["*"]
operations = ["*"]
"""
DENY = ALLOW.replace('"allow"', '"deny"')


class Reports:
    """A policy file, its gate, and how often a failure was reported."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "policy.toml"
        self.path.write_text(ALLOW)
        self.gate = Gate(load(self.path))
        self.failures = 0
        self.file = PolicyFile(self.path, self.gate, on_failure=self.count)

    def count(self) -> None:
        """Count one failure."""
        self.failures += 1

    def allows(self) -> bool:
        """Say whether the policy in force allows."""
        try:
            self.gate.admit(CALLER, TENANT, Operation.UNWRAP, 1)
        except Denied:
            return False
        return True


async def test_a_changed_file_takes_effect(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    await reports.file.refresh()
    assert reports.allows()
    reports.path.write_text(DENY)
    await reports.file.refresh()
    assert not reports.allows()


async def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    await reports.file.refresh()
    policy = reports.gate.policy
    await reports.file.refresh()
    assert reports.gate.policy is policy
    await reports.file.reload()
    assert reports.gate.policy is not policy


async def test_a_file_that_is_finished_while_its_half_is_refused_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports(tmp_path)
    reports.path.write_text(DENY[:20])

    def slowly(text: str) -> Policy:
        reports.path.write_text(DENY)
        return parse(text)

    with monkeypatch.context() as patch:
        patch.setattr(policy_file, "parse", slowly)
        await reports.file.refresh()
    assert (reports.failures, reports.allows()) == (1, True)
    await reports.file.refresh()
    assert not reports.allows()


async def test_who_reads_an_older_file_undoes_no_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(text: str) -> Policy:
        if text == ALLOW:
            begun.set()
            assert go_on.wait(20)
        return parse(text)

    monkeypatch.setattr(policy_file, "parse", slowly)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reports.file.refresh())
        assert await asyncio.to_thread(begun.wait, 20)
        reports.path.write_text(DENY)
        asked = tasks.create_task(reports.file.reload())  # as by a signal
        await asyncio.wait({asked}, timeout=0.1)  # it would be done by now, if it could
        go_on.set()
    assert not reports.allows()


@pytest.mark.parametrize("content", ["", "[[rule", DENY + "typo = 1", "\udcff", "#" * 2_000_000])
async def test_a_bad_file_keeps_the_old_policy_and_is_reported(
    tmp_path: Path, content: str
) -> None:
    reports = Reports(tmp_path)
    await reports.file.reload()
    reports.path.write_text(content, errors="surrogateescape")
    with capture_logs() as logs:
        await reports.file.refresh()
        await reports.file.refresh()
    assert reports.allows()
    assert reports.failures == 1  # once for each new file, not for each look
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert not reports.file.status().healthy
    reports.path.write_text(ALLOW)
    await reports.file.refresh()
    assert reports.file.status().healthy


async def test_a_file_that_is_gone_keeps_the_old_policy(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    await reports.file.reload()
    reports.path.unlink()
    await reports.file.refresh()
    assert reports.allows()
    assert reports.failures == 1
    reports.path.write_text(DENY)
    await reports.file.refresh()
    assert not reports.allows()


async def test_watching_looks_again_and_again(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(reports.file.watch(0.01))
        reports.path.write_text(DENY)
        while reports.allows():  # noqa: ASYNC110 - what is awaited is a file
            await asyncio.sleep(0.01)
        watch.cancel()
