"""Keeps the gate's policy equal to its file, without a restart.

Guarantees: a new file takes effect within the interval or at `reload`; a file that is missing or
wrong changes nothing, and is reported loudly until it is put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from keyservice.access.policy import Gate, Policy, parse
from keyservice.ports import RootStatus

INTERVAL = 2.0
MAX_POLICY = 1 << 20

log = structlog.get_logger(__name__)


def load(path: Path) -> Policy:
    """Return the policy of the file; raise OSError or ValueError. Blocks."""
    with path.open("rb") as file:
        text = file.read(MAX_POLICY + 1)
    if len(text) > MAX_POLICY:
        raise ValueError("policy is not valid: file is too large")
    return parse(text.decode("utf-8"))


class PolicyFile:
    """One policy file and the gate that it rules."""

    def __init__(
        self, path: Path, gate: Gate, *, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._gate = gate
        self._on_failure = on_failure
        self._seen: tuple[int, ...] | None = None
        self._fault: str | None = None
        self._reading = asyncio.Lock()  # one after another: an older file must not come last

    async def watch(self, interval: float = INTERVAL) -> None:
        """Look at the file again and again; ends only by cancellation."""
        while True:
            await asyncio.sleep(interval)
            await self.refresh()

    async def refresh(self) -> None:
        """Load the file if it changed since it was last looked at."""
        mark = await asyncio.to_thread(_mark, self._path)
        if mark != self._seen or mark is None:
            await self.reload()

    async def reload(self) -> bool:
        """Load the file now; return False, with the old policy in force, when it is no good."""
        async with self._reading:
            return await self._reload()

    async def _reload(self) -> bool:
        # Marked before it is read, also when that fails: a change in between is seen the next time.
        self._seen = await asyncio.to_thread(_mark, self._path)
        try:
            policy = await asyncio.to_thread(load, self._path)
        except (OSError, ValueError) as error:
            fault = str(error) if isinstance(error, ValueError) else "policy file cannot be read"
            self._fault = fault
            self._on_failure()
            log.error("policy not reloaded; the old one stays in force", fault=fault)  # noqa: TRY400 - the fault says it all
            return False
        self._gate.policy = policy
        self._fault = None
        log.info("policy loaded", rules=len(policy.rule))
        return True

    def status(self) -> RootStatus:
        """Say whether the policy in force is that of the file."""
        if self._fault is not None:
            return RootStatus(healthy=False, detail=f"old policy in force: {self._fault}")
        return RootStatus(healthy=True, detail=f"{len(self._gate.policy.rule)} rules")


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)
