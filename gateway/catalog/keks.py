"""KEKs that rows lack, read from their envelopes.

A gateway of the version before writes versions without one, and so does a dump of its time. An envelope
that cannot be read stays as it is: nobody can open it, whatever it is under.
"""

from sqlalchemy import Connection, bindparam, select, update

from envelope.envelope import decode
from envelope.errors import EnvelopeError
from gateway.catalog import tables

PAGE = 500
_VERSIONS = tables.versions
_LACKING = select(_VERSIONS.c.id, _VERSIONS.c.envelope).where(_VERSIONS.c.kek == "")
_FILL = (
    update(_VERSIONS)
    .where(_VERSIONS.c.id == bindparam("of"), _VERSIONS.c.kek == "")
    .values(kek=bindparam("found"))
)


def lacking(connection: Connection) -> bool:
    """Tell whether a version has none that could be read."""
    return (
        connection.execute(_LACKING.with_only_columns(_VERSIONS.c.id).limit(1)).first() is not None
    )


def fill(connection: Connection, after: str) -> str | None:
    """Look at a page of the versions that have none, behind `after`; return the last, None at the end."""
    page = _LACKING.where(_VERSIONS.c.id > after).order_by(_VERSIONS.c.id).limit(PAGE)
    rows = connection.execute(page).all()
    found = [{"of": row.id, "found": kek} for row in rows if (kek := _read(row.envelope))]
    if found:
        connection.execute(_FILL, found)
    return rows[-1].id if len(rows) == PAGE else None


def _read(envelope: bytes) -> str:
    try:
        return decode(envelope).newest.kek
    except EnvelopeError:
        return ""
