"""Versions whole, with the body that travels in the envelope: for those who write them into stores."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, literal, null, select

from gateway.catalog import tables
from gateway.model import ReplicaState, Version

_ATTACHMENTS = tables.attachments
_VERSIONS = tables.versions
_STATES = {state.value: state for state in ReplicaState}
AT_ONCE = 1024  # ids in a statement: far below the number of parameters that either database takes

COLUMNS = (
    _VERSIONS.c.id,
    _VERSIONS.c.attachment,
    _ATTACHMENTS.c.tenant,
    _VERSIONS.c.blob,
    _VERSIONS.c.created,
    _VERSIONS.c.size,
    _VERSIONS.c.body_size,
    _VERSIONS.c.kek,
    _VERSIONS.c.envelope,
    _VERSIONS.c.inline,
)
WHOLE = select(*COLUMNS).join_from(
    _VERSIONS, _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment
)
# Without what takes room: neither envelope nor body.
BARE = select(*COLUMNS[:-2], literal(b"").label("envelope"), null().label("inline")).join_from(
    _VERSIONS, _ATTACHMENTS, _ATTACHMENTS.c.id == _VERSIONS.c.attachment
)


def version(row: Row[*tuple[Any, ...]]) -> Version:
    """Make the value of a row with `COLUMNS`."""
    return Version(
        id=row.id,
        attachment=row.attachment,
        tenant=row.tenant,
        blob=row.blob,
        created=row.created,
        size=row.size,
        body_size=row.body_size,
        envelope=row.envelope,
        kek=row.kek,
        inline=row.inline,
    )


def versions(connection: Connection, ids: Sequence[str]) -> dict[str, Version]:
    """Read versions by id."""
    found: dict[str, Version] = {}
    for page in slices(ids):
        rows = connection.execute(WHOLE.where(_VERSIONS.c.id.in_(page)))
        found |= {row.id: version(row) for row in rows}
    return found


def state(word: str) -> ReplicaState:
    """Take what only a newer version can write for a replica that cannot be read."""
    return _STATES.get(word, ReplicaState.MISSING)


def slices(ids: Iterable[str]) -> Iterator[list[str]]:
    """Cut ids into pieces that a statement takes."""
    left = iter(ids)
    while page := list(islice(left, AT_ONCE)):
        yield page
