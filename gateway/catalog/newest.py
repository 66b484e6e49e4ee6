"""Of several blobs that a store offers for one version, the one that was sealed last.

A reseal leaves the blob that it replaced where it was, for a while. When a catalog is rebuilt both may be
found: the later one is the version's, and the other is left to be purged, as after the reseal. Which one is
later says its core: what is offered was authenticated, and what is in the catalog already by whoever put it
there. Functions over a connection that is in a transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select

from envelope.envelope import decode
from envelope.errors import EnvelopeError
from gateway.catalog import contents, leftovers, tables, ticks
from gateway.catalog.clock import Clock
from gateway.catalog.upsert import insert_new
from gateway.model import ReplicaState, Version, moment
from gateway.ports import REPLACED, Recovered

_LEFTOVERS = tables.leftovers
_UPLOADS = tables.uploads
_VERSIONS = tables.versions
_NEW = insert_new(_LEFTOVERS, ["blob"])
# What a reseal was writing when the catalog was copied may have been switched to since.
OVER = or_(_LEFTOVERS.c.tick.is_not(None), _LEFTOVERS.c.purging.is_not(None))


@dataclass(slots=True)
class Chosen:
    """What becomes of what was offered. `refused` says why, by blob, also of those that are `older`."""

    taken: list[Recovered] = field(default_factory=list)
    later: list[Version] = field(default_factory=list)  # than what their versions have
    older: list[Version] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def leave(self, version: Version) -> None:
        """Count one as older."""
        self.older.append(version)
        self.refused[version.blob] = REPLACED


def choose(connection: Connection, found: Sequence[Recovered]) -> Chosen:
    """Choose one for each version, of what is offered and what is there."""
    rows, over = _rows(connection, found), _over(connection, found)
    chosen, last = Chosen(), dict[str, datetime]()
    for each in sorted(found, key=_order, reverse=True):
        version, row = each.version, rows.get(each.version.id)
        sealed = each.sealed or version.created
        known = last.get(version.id) or (None if row is None else _sealed(row))
        if version.blob in over:
            chosen.leave(version)
        elif row is not None and row.purging is not None:
            chosen.refused[version.blob] = "purged"
        elif (row is not None and row.blob == version.blob) or known is None:
            chosen.taken.append(each)
        elif sealed > known:
            chosen.later.append(version)
        elif sealed < known:
            chosen.leave(version)
        else:
            chosen.refused[version.blob] = "duplicate"
        if version.blob not in chosen.refused:
            last[version.id] = max(sealed, known or sealed)
    return chosen


def lost(connection: Connection, begun: Sequence[Recovered]) -> frozenset[str]:
    """Of blobs that an upload or a reseal was writing, return those that nothing names any more.

    What does still name one is locked, and whoever purges removes what names a blob last.
    """
    blobs = sorted(each.version.blob for each in begun)
    named: set[str] = set()
    for page in contents.slices(blobs):
        uploads = select(_UPLOADS.c.blob).where(_UPLOADS.c.blob.in_(page))
        written = select(_LEFTOVERS.c.blob).where(_LEFTOVERS.c.blob.in_(page))
        for rows, column in ((uploads, _UPLOADS.c.blob), (written, _LEFTOVERS.c.blob)):
            locked = rows.order_by(column).with_for_update(key_share=True)
            named |= set(connection.scalars(locked))
    # Behind them: what an upload or a reseal let go of has become a version's by then, if ever.
    named |= {row.blob for row in _rows(connection, begun).values()}
    return frozenset(blobs) - named


def place(connection: Connection, chosen: Chosen, target: str, clock: Clock) -> None:
    """Let later blobs take the place of what is there, and leave the older ones to be purged."""
    for version in sorted(chosen.later, key=lambda version: version.id):
        row = leftovers.locked(connection, version.id)
        if row is not None:
            connection.execute(delete(_LEFTOVERS).where(_LEFTOVERS.c.blob == version.blob))
            stored = {target: ReplicaState.STORED}
            leftovers.take_over(connection, version, row, stored, clock)
    at, counted = clock(connection), ticks.counted(connection)
    rows = [
        {
            "blob": version.blob,
            "tenant": version.tenant,
            "version": version.id,
            "keks": version.kek,
            "targets": json.dumps([target]),
            "at": at,
            "tick": counted,
        }
        for version in sorted(chosen.older, key=lambda version: version.blob)
    ]
    _NEW.each(connection, rows)


def _order(found: Recovered) -> tuple[datetime, str]:
    return found.sealed or found.version.created, found.version.blob


def _rows(connection: Connection, found: Sequence[Recovered]) -> dict[str, Row[*tuple[Any, ...]]]:
    """Read, and lock, what is there of these versions."""
    columns = (_VERSIONS.c.id, _VERSIONS.c.blob, _VERSIONS.c.purging)
    query = select(*columns, _VERSIONS.c.created, _VERSIONS.c.envelope).order_by(_VERSIONS.c.id)
    there: dict[str, Row[*tuple[Any, ...]]] = {}
    for page in contents.slices(sorted({each.version.id for each in found})):
        these = query.where(_VERSIONS.c.id.in_(page)).with_for_update(key_share=True)
        there |= {row.id: row for row in connection.execute(these)}
    return there


def _over(connection: Connection, found: Sequence[Recovered]) -> frozenset[str]:
    """Tell which of these blobs no version can have any more."""
    there: set[str] = set()
    for page in contents.slices([each.version.blob for each in found]):
        query = select(_LEFTOVERS.c.blob).where(_LEFTOVERS.c.blob.in_(page), OVER)
        there |= set(connection.scalars(query))
    return frozenset(there)


def _sealed(row: Row[*tuple[Any, ...]]) -> datetime:
    try:
        return moment(decode(row.envelope).core.sealed)
    except EnvelopeError:  # which nobody can open, whatever it is
        created: datetime = row.created
        return created
