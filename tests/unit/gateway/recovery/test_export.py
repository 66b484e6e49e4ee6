"""Opened attachments land whole, under harmless names, for those who may read them, and on record."""

import json
import stat
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envelope.envelope import open_attributes, seal_attributes
from gateway.attachments.downloads import Downloads
from gateway.attachments.tokens import Tokens
from gateway.attachments.uploads import Draft
from gateway.errors import Forbidden, NotFound
from gateway.model import Found, Precondition, Right, Token, Version, body_key, new_id
from gateway.pacing.rate import Rate
from gateway.recovery.export import Export
from gateway.recovery.landing import Landing
from gateway.recovery.restore import Restore, Scope, Work, anyone
from keyservice.wire import Unavailable
from tests.doubles.blobs import flipped, overwrite, whole
from tests.unit.gateway.conftest import Bench, pieces

ALL = Scope()
CONTENTS = {"report": b"r" * 300_000, "note": b"small", "empty": b""}


@dataclass
class Place:
    """A gateway with some attachments, a folder, and tokens."""

    bench: Bench
    folder: Path
    reader: Token

    def export(self, scope: Scope = ALL, token: Token | None = None) -> Export:
        landing = Landing(self.folder)
        landing.prepare()
        return Export(
            self.bench.catalog,
            Downloads(self.bench.catalog, self.bench.keys, lambda: self.bench.targets),
            landing,
            token or self.reader,
            scope=scope,
            sources=["primary", "east", "west"],
            run="run",
        )

    async def run(self, work: Work) -> Restore:
        restore = Restore(work, refusal=anyone, parallel=2)
        await restore.run()
        return restore

    def files(self) -> dict[str, bytes]:
        """Return what landed, by the part of the name that people chose."""
        folder = self.folder / self.bench.tenant
        return {
            path.name.partition("~")[0]: path.read_bytes()
            for path in folder.iterdir()
            if path.name != "manifest.jsonl"
        }


@pytest.fixture
async def place(bench: Bench, tmp_path: Path) -> Place:
    for reference, content in CONTENTS.items():
        await bench.store(content, reference)
    tokens = Tokens(bench.catalog)
    grant = await tokens.create(None, [Right.READ], lifetime=timedelta(days=1))
    return Place(bench, tmp_path / "restored", grant.token)


async def test_everything_lands_and_a_second_run_leaves_it(place: Place) -> None:
    restore = await place.run(place.export())
    assert +restore.tally.counts == {"restored": 3}
    assert place.files() == CONTENTS
    for path in (place.folder / place.bench.tenant).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await place.run(place.export())
    assert +again.tally.counts == {"skipped": 3}
    assert place.files() == CONTENTS


async def test_every_key_is_on_record_with_the_reason(place: Place) -> None:
    place.bench.keys.reasons.clear()
    await place.run(place.export())
    assert place.bench.keys.reasons == [f"restore, token {place.reader.id}"] * 3


@pytest.mark.parametrize("right", [Right.WRITE, Right.DELETE, Right.ADMIN])
async def test_only_who_may_read_gets_anything(place: Place, right: Right) -> None:
    with pytest.raises(Forbidden):
        place.export(token=replace(place.reader, rights=frozenset([right])))
    own = replace(place.reader, tenant=place.bench.tenant)
    assert place.export(Scope(place.bench.tenant), own)
    with pytest.raises(Forbidden):
        place.export(ALL, own)
    with pytest.raises(Forbidden):
        place.export(Scope(new_id()), own)


async def test_one_attachment_one_version(place: Place) -> None:
    bench = place.bench
    first = (await bench.catalog.find(bench.tenant, "note")).version.id
    await bench.store(b"newer", "note")
    await place.run(place.export(Scope(bench.tenant, "note")))
    assert place.files() == {"note": b"newer"}
    await place.run(place.export(Scope(bench.tenant, "note", first)))
    assert len(list((place.folder / bench.tenant).glob("note~*"))) == 2
    with pytest.raises(ExceptionGroup) as caught:
        await place.run(place.export(Scope(bench.tenant, "nothing")))
    assert caught.group_contains(NotFound)


async def test_what_was_deleted_or_is_older_stays(place: Place) -> None:
    bench = place.bench
    await bench.catalog.trash(bench.tenant, "note", Precondition())
    restore = await place.run(place.export(Scope(bench.tenant)))
    assert +restore.tally.counts == {"restored": 2}
    late = datetime.now(UTC) + timedelta(hours=1)
    assert not +(await place.run(place.export(Scope(bench.tenant, since=late)))).tally.counts


async def test_a_damaged_copy_is_read_elsewhere_and_nothing_half_appears(place: Place) -> None:
    bench = place.bench
    version = (await bench.catalog.find(bench.tenant, "report")).version
    key = body_key(bench.tenant, version.blob)
    await overwrite(bench.primary, key, flipped(await whole(bench.primary, key), 800_000))
    await place.run(place.export())
    assert place.files() == CONTENTS
    for store in (bench.east, bench.west):
        await store.delete(key)
    place.folder = place.folder.with_name("second")
    restore = await place.run(place.export())
    assert +restore.tally.counts == {"restored": 2, "failed": 1}
    assert restore.troubles.failed.keys() == {version.id}
    assert place.files() == {name: CONTENTS[name] for name in ("note", "empty")}


async def test_a_file_with_other_content_is_left_and_told(place: Place) -> None:
    await place.run(place.export())
    (path,) = (place.folder / place.bench.tenant).glob("note~*")
    for other in (b"other", b"small and more", b""):
        path.write_bytes(other)
        restore = await place.run(place.export())
        assert +restore.tally.counts == {"skipped": 2, "failed": 1}
        assert list(restore.troubles.failed.values()) == ["a file with other content has its name"]
        assert path.read_bytes() == other


async def test_names_are_told_in_the_manifest_alone(place: Place) -> None:
    bench = place.bench
    name, reference = "../../etc/cron.d/evil\n", "../escape"
    draft = Draft(bench.tenant, reference, name=name, content_type="text/plain")
    await bench.uploads.store(draft, pieces(b"evil"))
    await place.run(place.export(Scope(bench.tenant, reference)))
    folder = place.folder / bench.tenant
    (path,) = folder.glob("*evil*")
    assert path.parent == folder
    (line,) = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    assert (line["file"], line["name"], line["reference"]) == (path.name, name, reference)


async def test_a_digest_that_was_sealed_with_it_is_compared(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = place.bench
    found = await bench.catalog.find(bench.tenant, "report")
    opened = await bench.downloads.open(found, request_id="")
    core, envelope = opened.envelope.core, opened.envelope
    attributes = open_attributes(opened.dek, core, envelope.attributes)
    wrong = replace(attributes, digests={"sha-256": b"0" * 32, "later": b"x"})
    sealed = replace(envelope, attributes=seal_attributes(opened.dek, core, wrong))

    async def forged(tenant: str, version: str) -> Found:
        assert (tenant, version) == (bench.tenant, found.version.id)
        from envelope.envelope import encode  # noqa: PLC0415 - for this forgery alone

        return replace(found, version=replace(found.version, envelope=encode(sealed)))

    monkeypatch.setattr(bench.catalog, "by_version", forged)
    restore = await place.run(place.export(Scope(bench.tenant, "report")))
    assert list(restore.troubles.failed.values()) == ["a digest that was sealed with it differs"]
    assert place.files() == {}


@pytest.mark.parametrize("state", ["shredded", "suspended"])
async def test_a_tenant_without_keys_is_refused(place: Place, state: str) -> None:
    place.bench.keys.states[place.bench.tenant] = state
    restore = await place.run(place.export())
    assert +restore.tally.counts == {"refused": 3}
    assert restore.troubles.refused == {place.bench.tenant: state}


async def test_without_the_key_service_it_cannot_go_on(place: Place) -> None:
    place.bench.keys.down = True
    with pytest.raises(ExceptionGroup) as caught:
        await place.run(place.export())
    assert caught.group_contains(Unavailable)


async def test_what_was_done_is_seen_without_a_key(place: Place) -> None:
    await place.run(place.export())
    place.bench.keys.unwraps = 0
    work = place.export()
    async with aclosing(work.versions()) as versions:
        found: list[Version] = [version async for version in versions]
    assert [await work.present(version) for version in found] == [True] * 3
    next((place.folder / place.bench.tenant).glob("report~*")).write_bytes(b"cut")
    assert sorted([await place.export().present(version) for version in found]) == [
        False,
        True,
        True,
    ]
    assert place.bench.keys.unwraps == 0


async def test_a_rate_is_kept(place: Place) -> None:
    taken: list[int] = []

    class Counted(Rate):
        async def take(self, size: int, requests: int = 0) -> None:
            del requests
            taken.append(size)

    work = place.export(Scope(place.bench.tenant))
    work._rate = Counted()
    await place.run(work)
    assert sum(taken) == sum(map(len, CONTENTS.values()))
