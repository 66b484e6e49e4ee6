"""Runs in memory, by the clock of this process."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.model import new_id, now
from gateway.ports import Run, RunState


class MemoryRuns:
    """Satisfies `gateway.ports.Runs`."""

    def __init__(self) -> None:
        self.rows: list[Run] = []  # oldest first

    async def claim(
        self,
        kind: str,
        subject: str,
        *,
        holder: str,
        every: timedelta,
        lease: timedelta,
        retry: timedelta | None = None,
    ) -> Run | None:
        of_kind = [run for run in self.rows if (run.kind, run.subject) == (kind, subject)]
        last = of_kind[-1] if of_kind else None
        if last is not None and last.state is RunState.RUNNING:
            if last.touched + lease > now() and last.holder != holder:
                return None
            taken = replace(last, holder=holder, touched=now())
            self.rows[self.rows.index(last)] = taken
            return taken
        if last is not None:
            failed = last.state is RunState.FAILED
            wait = min(every, retry or every) if failed else every
            if last.started + wait > now():
                return None
        run = Run(new_id(), kind, subject, holder, RunState.RUNNING, now(), now())
        self.rows.append(run)
        return run

    async def save(self, run: Run) -> bool:
        return self._put(run, replace(run, touched=now()))

    async def release(self, run: Run) -> None:
        self._put(run, replace(run, touched=datetime.fromtimestamp(0, UTC)))

    async def latest(self, state: RunState) -> Sequence[Run]:
        newest = {(run.kind, run.subject): run for run in self.rows if run.state is state}
        return [newest[key] for key in sorted(newest)]

    async def end(self, run: Run, state: RunState, outcome: Mapping[str, object]) -> bool:
        return self._put(run, replace(run, state=state, ended=now(), outcome=outcome))

    async def history(
        self, kind: str | None = None, subject: str | None = None, limit: int = 100
    ) -> Sequence[Run]:
        found = [
            run
            for run in reversed(self.rows)
            if kind in {None, run.kind} and subject in {None, run.subject}
        ]
        return found[:limit]

    async def prune(self, age: timedelta) -> int:
        del age
        return 0

    def _put(self, run: Run, new: Run) -> bool:
        for place, row in enumerate(self.rows):
            if (row.id, row.holder, row.state) == (run.id, run.holder, RunState.RUNNING):
                self.rows[place] = new
                return True
        return False
