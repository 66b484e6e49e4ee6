"""Tenants full of small attachments, straight into a catalog: a million in minutes.

Every envelope has a data key of its own, which the key service made. What none of them needs to have of its
own is made once: a body of 200 bytes and its attributes are the same bytes in all, under a key that nobody
has. A rotation opens neither, nor does a repair. Where one in so many is large, its body is an object of its
own. Rows come in the order of uploads, so their ids are in none, as in real life.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, text, update

from envelope.context import Context, Purpose
from envelope.envelope import Attributes, Core, Envelope, Wrap, encode, seal_attributes
from envelope.segment import SegmentSealer
from gateway.catalog import tables
from gateway.model import ReplicaState, Version, body_key, envelope_key, microseconds, new_id, now
from gateway.repair.verify import stored_envelope
from gateway.wiring import core as wiring
from keyservice.wire import DataKey

PAGE = 500  # data keys at once
CACHE = 4 * 1024 * 1024  # KiB of pages, most of a catalog of a million: SQLite's own share is 2 MiB
TARGETS = ("primary", "east")
SMALL, LARGE = 200, 1024 * 1024  # bytes of an attachment


@dataclass(frozen=True, slots=True)
class Content:
    """What all of them hold, `size` bytes before they were sealed."""

    size: int
    core: Core = field(repr=False)
    body: bytes = field(repr=False)
    attributes: bytes = field(repr=False)


def content(size: int) -> Content:
    """Seal a body and attributes."""
    context, key = Context(new_id(), new_id(), new_id()), bytes(32)
    sealer = SegmentSealer(key, context)
    body = sealer.update(bytes(size)) + sealer.finalize()
    core = Core(context, microseconds(now()), (sealer.segment,))
    attributes = Attributes("report.pdf", "application/pdf", "reports/2026.pdf", {}, {})
    return Content(size, core, body, seal_attributes(key, core, attributes))


async def fill(
    core: wiring.Core, tenant: str, count: int, home: Path | None = None, *, large: int = 0
) -> None:
    """Put attachments into the catalog, as stored on both targets; into those in `home`, if it is given.

    One in `large` is that (0: none), which needs a `home`.
    """
    held, body = [content(SMALL)], Path()
    if large and home is not None:
        held = [content(LARGE), *held * (large - 1)]
        body = home / "body"  # a file that is linked to: nobody writes to one
        body.write_bytes(held[0].body)
    database = core.catalog._database  # type: ignore[attr-defined]  # noqa: SLF001 - see the module
    async with database.session(write=True) as session:
        await session.run(_roomy)
        for start in range(0, count, PAGE):
            versions = await _versions(core, tenant, held, min(PAGE, count - start))
            if home is not None:
                for version in versions:
                    _store(home, version, body)
            await session.run(lambda connection: _insert(connection, versions, start))  # noqa: B023


async def _versions(
    core: wiring.Core, tenant: str, contents: Sequence[Content], count: int
) -> Sequence[Version]:
    contexts = [Context(tenant, new_id(), new_id()) for _ in range(count)]
    asked = [context.encode(Purpose.DEK) for context in contexts]
    keys = await core.keys.data_keys(tenant, asked, reason="benchmark", request_id="")
    made = []
    for number, (context, key) in enumerate(zip(contexts, keys, strict=True)):
        assert isinstance(key, DataKey)
        held = contents[number % len(contents)]
        public = Core(context, held.core.created, held.core.segments)
        wrap = Wrap(key.kek, key.wrapped, held.core.created)
        made.append(
            Version(
                id=context.version,
                attachment=context.attachment,
                tenant=tenant,
                blob=new_id(),
                created=now(),
                size=held.size,
                body_size=0 if held.size == SMALL else len(held.body),
                envelope=encode(Envelope(public, held.attributes, (wrap,))),
                kek=key.kek,
                inline=held.body if held.size == SMALL else None,
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


def _store(home: Path, version: Version, body: Path) -> None:
    for target in TARGETS:
        path = home / target / envelope_key(version.tenant, version.blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored_envelope(version))
        if version.inline is None:
            os.link(body, home / target / body_key(version.tenant, version.blob))
