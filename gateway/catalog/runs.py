"""Runs of long and periodic work over a SQL database.

A unique index lets at most one run of a kind and subject be under way. A beat from the future means that
the clock went back since, by more than `tables.SETBACK`, and counts as none. So does a run that began then:
what began since is the newest.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from gateway.catalog import tables
from gateway.catalog.clock import Clock
from gateway.catalog.database import Database, bound
from gateway.catalog.upsert import insert_new
from gateway.model import new_id
from gateway.ports import Run, RunState

_RUNS = tables.runs
_NEW = insert_new(_RUNS, ["kind", "subject"], tables.RUNNING)


class SqlRuns:
    """Implements `gateway.ports.Runs`; a `SqlCatalog` has one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

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
        """Implement `Runs.claim`."""
        new = Run(new_id(), kind, subject, holder, RunState.RUNNING, tables.EPOCH, tables.EPOCH)
        waits = {RunState.FAILED.value: every if retry is None else min(every, retry)}
        claimed = bound(_claim, new, lambda state: waits.get(state, every), lease, self._clock)
        return await self._database.write(claimed)

    async def save(self, run: Run) -> bool:
        """Implement `Runs.save`."""
        return await self._database.write(bound(_save, run, self._clock))

    async def release(self, run: Run) -> None:
        """Implement `Runs.release`."""
        await self._database.write(bound(_save, run, lambda _: tables.EPOCH))

    async def end(self, run: Run, state: RunState, outcome: Mapping[str, object]) -> bool:
        """Implement `Runs.end`; true again when the first answer was lost."""
        return await self._database.write(bound(_end, run, state, outcome, self._clock))

    async def history(
        self, kind: str | None = None, subject: str | None = None, limit: int = 100
    ) -> Sequence[Run]:
        """Implement `Runs.history`."""
        return await self._database.read(bound(_history, kind, subject, limit))

    async def latest(self, state: RunState) -> Sequence[Run]:
        """Implement `Runs.latest`."""
        return await self._database.read(bound(_latest, state, self._clock))

    async def prune(self, age: timedelta) -> int:
        """Implement `Runs.prune`."""
        return await self._database.write(bound(_prune, age, self._clock))


def _claim(
    connection: Connection,
    new: Run,
    wait: Callable[[str], timedelta],
    lease: timedelta,
    clock: Clock,
) -> Run | None:
    at = clock(connection)
    named = and_(_RUNS.c.kind == new.kind, _RUNS.c.subject == new.subject)
    running = select(_RUNS).where(named, tables.RUNNING).with_for_update()
    row = connection.execute(running).first()
    if row is not None:
        alive = row.touched + lease > at and row.touched <= at + tables.SETBACK
        if alive and row.holder != new.holder:
            return None
        taken = update(_RUNS).where(_RUNS.c.id == row.id)
        connection.execute(taken.values(holder=new.holder, touched=at))
        return replace(_run(row), holder=new.holder, touched=at)
    newest = select(_RUNS.c.started, _RUNS.c.state).where(named, _begun(at))
    last = connection.execute(newest.order_by(_RUNS.c.started.desc()).limit(1)).first()
    if last is not None and last.started + wait(last.state) > at:
        return None
    begun = replace(new, started=at, touched=at)
    values = {
        "id": begun.id,
        "kind": begun.kind,
        "subject": begun.subject,
        "holder": begun.holder,
        "state": begun.state.value,
        "started": at,
        "touched": at,
        "cursor": "",
        "progress": "{}",
        "outcome": "{}",
    }
    # False when somebody was faster.
    return begun if _NEW.run(connection, **values) else None


def _save(connection: Connection, run: Run, clock: Clock) -> bool:
    kept = update(_RUNS).where(*_held(run), tables.RUNNING)
    values = {"cursor": run.cursor, "progress": json.dumps(dict(run.progress))}
    return connection.execute(kept.values(touched=clock(connection), **values)).rowcount == 1


def _end(
    connection: Connection, run: Run, state: RunState, outcome: Mapping[str, object], clock: Clock
) -> bool:
    at = clock(connection)
    values = {
        "state": state.value,
        "touched": at,
        "ended": at,
        "cursor": run.cursor,
        "progress": json.dumps(dict(run.progress)),
        "outcome": json.dumps(dict(outcome)),
    }
    ended = update(_RUNS).where(*_held(run), tables.RUNNING).values(**values)
    if connection.execute(ended).rowcount == 1:
        return True
    before = select(_RUNS.c.id).where(*_held(run), _RUNS.c.state == state.value)
    return connection.scalar(before) is not None


def _history(
    connection: Connection, kind: str | None, subject: str | None, limit: int
) -> Sequence[Run]:
    query = select(_RUNS).order_by(_RUNS.c.started.desc(), _RUNS.c.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(_RUNS.c.kind == kind)
    if subject is not None:
        query = query.where(_RUNS.c.subject == subject)
    return [_run(row) for row in connection.execute(query)]


def _latest(connection: Connection, state: RunState, clock: Clock) -> Sequence[Run]:
    place = func.row_number().over(
        partition_by=[_RUNS.c.kind, _RUNS.c.subject],
        order_by=[_RUNS.c.started.desc(), _RUNS.c.id.desc()],
    )
    ended = and_(_RUNS.c.state == state.value, _begun(clock(connection)))
    ranked = select(_RUNS.c.id, place.label("place")).where(ended).subquery()
    query = select(_RUNS).join(ranked, ranked.c.id == _RUNS.c.id).where(ranked.c.place == 1)
    return [_run(row) for row in connection.execute(query.order_by(_RUNS.c.kind, _RUNS.c.subject))]


def _prune(connection: Connection, age: timedelta, clock: Clock) -> int:
    later = _RUNS.alias()
    newer = exists().where(
        later.c.kind == _RUNS.c.kind,
        later.c.subject == _RUNS.c.subject,
        later.c.state == RunState.DONE.value,
        tuple_(later.c.started, later.c.id) > tuple_(_RUNS.c.started, _RUNS.c.id),
    )
    superfluous = or_(_RUNS.c.state == RunState.FAILED.value, newer)
    before = clock(connection) - age
    old = delete(_RUNS).where(~tables.RUNNING, _RUNS.c.ended < before)
    return connection.execute(old.where(superfluous)).rowcount


def _held(run: Run) -> tuple[ColumnElement[bool], ...]:
    return _RUNS.c.id == run.id, _RUNS.c.holder == run.holder


def _begun(at: datetime) -> ColumnElement[bool]:
    """Leave out what began by a clock that went back since."""
    return _RUNS.c.started <= at + tables.SETBACK


def _run(row: Row[*tuple[Any, ...]]) -> Run:
    return Run(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        holder=row.holder,
        state=RunState(row.state),
        started=row.started,
        touched=row.touched,
        ended=row.ended,
        cursor=row.cursor,
        progress=json.loads(row.progress),
        outcome=json.loads(row.outcome),
    )
