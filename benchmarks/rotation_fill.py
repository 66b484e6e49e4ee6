"""Tenants full of small attachments, straight into a catalog: a million in minutes.

Every envelope has a data key of its own, which the key service made. What none of them needs to have of its
own is made once: a body of 200 bytes and its attributes are the same bytes in all, under a key that nobody
has. A rotation opens neither. Rows come in the order of uploads, so their ids are in none, as in real life.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, text, update

from envelope.context import Context, Purpose
from envelope.envelope import Attributes, Core, Envelope, Wrap, encode, seal_attributes
from envelope.segment import SegmentSealer
from gateway.catalog import tables
from gateway.model import ReplicaState, Version, envelope_key, microseconds, new_id, now
from gateway.repair.verify import stored_envelope
from gateway.wiring import core as wiring
from keyservice.wire import DataKey

PAGE = 500  # data keys at once
CACHE = 4 * 1024 * 1024  # KiB of pages, most of a catalog of a million: SQLite's own share is 2 MiB
TARGETS = ("primary", "east")


@dataclass(frozen=True, slots=True)
class Content:
    """What all of them hold."""

    core: Core = field(repr=False)
    body: bytes = field(repr=False)
    attributes: bytes = field(repr=False)


def content() -> Content:
    """Seal a body and attributes."""
    context, key = Context(new_id(), new_id(), new_id()), bytes(32)
    sealer = SegmentSealer(key, context)
    body = sealer.update(bytes(200)) + sealer.finalize()
    core = Core(context, microseconds(now()), (sealer.segment,))
    attributes = Attributes("report.pdf", "application/pdf", "reports/2026.pdf", {}, {})
    return Content(core, body, seal_attributes(key, core, attributes))


async def fill(core: wiring.Core, tenant: str, count: int, home: Path | None = None) -> None:
    """Put attachments into the catalog, as stored on both targets; into those in `home`, if it is given."""
    held = content()
    database = core.catalog._database  # type: ignore[attr-defined]  # noqa: SLF001 - see the module
    async with database.session(write=True) as session:
        await session.run(_roomy)
        for start in range(0, count, PAGE):
            versions = await _versions(core, tenant, held, min(PAGE, count - start))
            if home is not None:
                for version in versions:
                    _store(home, version)
            await session.run(lambda connection: _insert(connection, versions, start))  # noqa: B023


async def _versions(core: wiring.Core, tenant: str, held: Content, count: int) -> Sequence[Version]:
    contexts = [Context(tenant, new_id(), new_id()) for _ in range(count)]
    asked = [context.encode(Purpose.DEK) for context in contexts]
    keys = await core.keys.data_keys(tenant, asked, reason="benchmark", request_id="")
    made = []
    for context, key in zip(contexts, keys, strict=True):
        assert isinstance(key, DataKey)
        public = Core(context, held.core.created, held.core.segments)
        wrap = Wrap(key.kek, key.wrapped, held.core.created)
        made.append(
            Version(
                id=context.version,
                attachment=context.attachment,
                tenant=tenant,
                blob=new_id(),
                created=now(),
                size=200,
                body_size=0,
                envelope=encode(Envelope(public, held.attributes, (wrap,))),
                kek=key.kek,
                inline=held.body,
            )
        )
    return made


def _roomy(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA cache_size = -{CACHE}"))


def _insert(connection: Connection, versions: Sequence[Version], start: int) -> None:
    attachments: list[dict[str, Any]] = [
        {
            "id": each.attachment,
            "tenant": each.tenant,
            "reference": f"reports/{number}.pdf",
            "created": each.created,
        }
        for number, each in enumerate(versions, start)
    ]
    columns = (
        "id",
        "attachment",
        "blob",
        "created",
        "size",
        "body_size",
        "envelope",
        "kek",
        "inline",
    )
    rows = [{name: getattr(each, name) for name in columns} | {"number": 1} for each in versions]
    copies = [
        {"version": each.id, "target": target, "state": ReplicaState.STORED.value}
        for each in versions
        for target in TARGETS
    ]
    connection.execute(insert(tables.attachments), attachments)
    connection.execute(insert(tables.versions), rows)
    connection.execute(insert(tables.replicas), copies)
    there = tables.attachments.c.id.in_([each.attachment for each in versions])
    connection.execute(update(tables.attachments).where(there).values(current=1))


def _store(home: Path, version: Version) -> None:
    for target in TARGETS:
        path = home / target / envelope_key(version.tenant, version.blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored_envelope(version))
