"""Rotating KEKs over stores that fail on command, a real catalog, and keys in memory."""

import asyncio
from datetime import timedelta

import pytest

from envelope.envelope import decode
from gateway.attachments.tenants import Tenants
from gateway.duties.record import AlreadyRunning
from gateway.duties.resumed import resumed
from gateway.errors import RunLost, StoreUnavailable, Unreadable
from gateway.model import Precondition, ReplicaState, now
from gateway.ports import Finding, RunState
from gateway.rotation.keks import KIND, Wish
from gateway.rotation.pushing import Pushed
from gateway.rotation.rewrapping import Choice, Moved
from keyservice.wire import Suspended, Unavailable
from tests.doubles.rotating import Tool, keks_on
from tests.unit.gateway.attachments.test_tampered_catalog import spoil_envelope, swap_envelopes
from tests.unit.gateway.conftest import Bench

ANY = Precondition()
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def tool(bench: Bench) -> Tool:
    return Tool(bench.catalog, bench.keys, bench.targets)


async def fill(bench: Bench, count: int = 5) -> list[str]:
    """Store attachments, small ones that travel inline among them; return their references."""
    names = [f"report {number}" for number in range(count)]
    for number, name in enumerate(names):
        await bench.store(CONTENT[: 100 if number % 2 else None], name)
    await bench.background.settle()
    return names


async def everything_is_readable(bench: Bench, names: list[str]) -> None:
    for number, name in enumerate(names):
        assert await bench.read(name) == CONTENT[: 100 if number % 2 else None]


async def all_on(bench: Bench, kek: str) -> None:
    """Nothing is under any other KEK, in the catalog or where the targets are asked themselves."""
    assert [use.kek for use in await bench.catalog.wraps.uses(bench.tenant)] == [kek]
    for store in bench.stores:
        assert set((await keks_on(store)).values()) == {frozenset({kek})}


async def test_everything_comes_under_the_new_kek(bench: Bench, tool: Tool) -> None:
    names = await fill(bench)
    await bench.catalog.trash(bench.tenant, names.pop(), ANY)
    old = bench.keys.current(bench.tenant)
    (rotated,) = await tool.rotate(bench.tenant)
    new = bench.keys.current(bench.tenant)
    renewed = rotated.renewed
    assert rotated.error is None
    assert (renewed.current, renewed.made, renewed.complete) == (new, True, True)
    assert (new != old, renewed.moved.rewrapped) == (True, 5)
    assert {name: each.pushed for name, each in renewed.pushed.items()} == {
        "primary": 5,
        "east": 5,
        "west": 5,
    }
    await all_on(bench, new)
    bench.keys.forget(bench.tenant, old)
    await everything_is_readable(bench, names)
    (run,) = await bench.catalog.runs.history(KIND)
    assert (run.subject, run.state) == (bench.tenant, RunState.DONE)
    assert run.outcome == {
        "rewrapped": 5,
        "pushed": 15,
        "failed": 0,
        "left": 0,
        "uploads": 0,
        "stale": 0,
    }


async def test_bodies_are_not_touched(bench: Bench, tool: Tool) -> None:
    await fill(bench)
    before = {key: bench.east._objects[key] for key in bench.east.keys if key.endswith("body")}
    await tool.rotate(bench.tenant)
    assert before == {key: bench.east._objects[key] for key in before}
    assert bench.keys.rewraps == 1  # a batch, not a call for each
    assert set(bench.east.calls[-5:]) == {"replace envelope"}


async def test_a_reader_that_found_the_old_version_finishes(bench: Bench, tool: Tool) -> None:
    await bench.store(CONTENT)
    found = await bench.catalog.find(bench.tenant, "report")
    await tool.rotate(bench.tenant)
    opened = await bench.downloads.open(found, request_id="")
    assert (
        b"".join([each async for each in bench.downloads.read(opened, 0, opened.size)]) == CONTENT
    )


async def test_uploads_under_way_are_moved_when_caches_have_forgotten(
    bench: Bench, tool: Tool
) -> None:
    """An instance that has not heard of the rotation goes on with the old KEK for the tenant's time."""
    names, tool.ahead = await fill(bench, 2), 1.0
    old = bench.keys.behind[bench.tenant] = bench.keys.current(bench.tenant)
    bench.ahead._fresh = 0.0
    rotate, rotated_to = bench.keys.rotate_kek, asyncio.Event()

    async def told(tenant: str, expected: str, **asked: str) -> object:
        made = await rotate(tenant, expected, **asked)
        rotated_to.set()
        return made

    bench.keys.rotate_kek = told  # type: ignore[method-assign,assignment]

    async def upload() -> None:
        await rotated_to.wait()
        await bench.store(CONTENT, "late")
        await bench.background.settle()

    late = asyncio.create_task(upload())
    (rotated,) = await tool.rotate(bench.tenant)
    await late
    new = bench.keys.current(bench.tenant)
    assert (rotated.renewed.complete, rotated.renewed.moved.rewrapped) == (True, 3)
    await all_on(bench, new)
    bench.keys.forget(bench.tenant, old)
    await everything_is_readable(bench, [*names, "late"][:2])
    assert await bench.read("late") == CONTENT


async def test_a_target_that_is_down_is_finished_later(bench: Bench, tool: Tool) -> None:
    names = await fill(bench)
    bench.east.fail = StoreUnavailable("down")
    bench.east.fail_on = "replace"
    old = bench.keys.current(bench.tenant)

    async def check() -> None:
        raise StoreUnavailable("down")

    answers, bench.east.check = bench.east.check, check  # type: ignore[method-assign]
    (rotated,) = await tool.rotate(bench.tenant)
    new = bench.keys.current(bench.tenant)
    assert not rotated.renewed.complete
    assert rotated.renewed.pushed["east"].away
    assert dict(rotated.renewed.stale) == {"primary": 0, "east": 5, "west": 0}
    assert set((await keks_on(bench.east)).values()) == {frozenset({old})}
    await everything_is_readable(bench, names)
    bench.east.fail, bench.east.check = None, answers  # type: ignore[method-assign]
    (finished,) = await tool.rotate(bench.tenant, fresh=False)
    assert (finished.renewed.complete, finished.renewed.made) == (True, False)
    assert finished.renewed.moved.rewrapped == 0
    await all_on(bench, new)


async def test_a_replica_that_is_missing_waits_for_repair(bench: Bench, tool: Tool) -> None:
    await bench.store(CONTENT)
    found = await bench.catalog.find(bench.tenant, "report")
    gone = Finding(found.version.id, "west", ReplicaState.MISSING, "absent")
    await bench.catalog.replicas.report([gone])
    (rotated,) = await tool.rotate(bench.tenant)
    assert rotated.renewed.stale["west"] == 1
    assert rotated.renewed.pushed["west"].pushed == 0
    assert not rotated.renewed.complete


async def test_an_envelope_that_is_not_there_is_reported(bench: Bench, tool: Tool) -> None:
    await bench.store(CONTENT)
    found = await bench.catalog.find(bench.tenant, "report")
    await bench.west.delete(next(key for key in bench.west.keys if key.endswith("envelope")))
    (rotated,) = await tool.rotate(bench.tenant)
    assert rotated.renewed.pushed["west"].failed == 1
    assert tool.told.failures == [("west", "absent")]
    found = await bench.catalog.find(bench.tenant, "report")
    assert found.replicas["west"] is ReplicaState.MISSING
    assert not [key for key in bench.west.keys if key.endswith("envelope")]


async def test_what_was_purged_meanwhile_is_not_left_on_a_target(bench: Bench, tool: Tool) -> None:
    await bench.store(b"inline")
    await bench.background.settle()
    kept = bench.catalog.bin
    gone = await bench.catalog.trash(bench.tenant, "report", ANY)

    class Purged(type(bench.east)):  # type: ignore[misc]
        async def replace(self, key: str, piece: object) -> None:
            await super().replace(key, piece)
            await kept.doom_now(bench.tenant, gone.id)

    bench.east.__class__ = Purged
    await tool.rotate(bench.tenant)
    assert bench.east.keys == []


async def test_only_what_is_chosen_is_moved(bench: Bench, tool: Tool) -> None:
    names = await fill(bench)
    found = await bench.catalog.find(bench.tenant, names[0])
    one = Choice(attachment=found.attachment.id)
    (rotated,) = await tool.rotate(bench.tenant, choice=one)
    assert (rotated.renewed.moved.rewrapped, rotated.renewed.complete) == (1, True)
    assert await tool.rotation.plan(bench.tenant, Wish(fresh=False)) is not None
    before = Choice(before=now() - timedelta(days=1))
    (rotated,) = await tool.rotate(bench.tenant, choice=before)
    assert rotated.renewed.moved.rewrapped == 0
    plan = await tool.rotation.plan(bench.tenant, Wish(one))
    assert (plan.versions, plan.current) == (1, bench.keys.current(bench.tenant))
    (rotated,) = await tool.rotate(bench.tenant, fresh=False)
    assert rotated.renewed.moved.rewrapped == 5
    await everything_is_readable(bench, names)


async def test_one_that_was_interrupted_makes_no_other_kek(bench: Bench, tool: Tool) -> None:
    names = await fill(bench)
    rewrap, failing = bench.catalog.wraps.rewrap, [True]

    async def interrupted(changes: object) -> frozenset[str]:
        if failing.pop():
            raise RunLost("killed")
        return await rewrap(changes)  # type: ignore[arg-type]

    bench.catalog.wraps.rewrap = interrupted  # type: ignore[method-assign]
    (rotated,) = await tool.rotate(bench.tenant)
    assert isinstance(rotated.error, RunLost)
    new = bench.keys.current(bench.tenant)
    bench.catalog.wraps.rewrap = rewrap  # type: ignore[method-assign]
    (rotated,) = await tool.rotate(bench.tenant)
    assert (rotated.renewed.current, rotated.renewed.complete) == (new, True)
    assert bench.keys.current(bench.tenant) == new
    await all_on(bench, new)
    await everything_is_readable(bench, names)


async def test_a_kek_whose_making_was_not_heard_of_is_not_made_again(
    bench: Bench, tool: Tool
) -> None:
    await bench.store(CONTENT)
    rotate = bench.keys.rotate_kek

    async def lost(tenant: str, expected: str, **asked: str) -> object:
        await rotate(tenant, expected, **asked)
        raise Unavailable("the answer was lost")

    bench.keys.rotate_kek = lost  # type: ignore[method-assign,assignment]
    (rotated,) = await tool.rotate(bench.tenant)
    assert isinstance(rotated.error, Unavailable)
    new = bench.keys.current(bench.tenant)
    bench.keys.rotate_kek = rotate  # type: ignore[method-assign]
    (rotated,) = await tool.rotate(bench.tenant)
    assert (rotated.renewed.current, bench.keys.current(bench.tenant)) == (new, new)


async def test_two_tools_share_the_work_of_one_tenant(bench: Bench, tool: Tool) -> None:
    """The row lets one at it at a time; without it they never change one envelope twice."""
    names = await fill(bench, 9)
    kek = bench.keys.current(bench.tenant)
    await bench.keys.rotate_kek(bench.tenant, kek, reason="")
    other = Tool(bench.catalog, bench.keys, bench.targets)
    moved = [Moved(), Moved()]
    tallies = {name: [Pushed(), Pushed()] for name in ("primary", "east", "west")}
    async with asyncio.TaskGroup() as group:
        for number, each in enumerate((tool, other)):
            group.create_task(each.rewrapping.move(bench.tenant, kek, Choice(), moved[number]))
    async with asyncio.TaskGroup() as group:
        for target, pair in tallies.items():
            for each, tally in zip((tool, other), pair, strict=True):
                group.create_task(each.pushing.push(target, tally))
    assert sum(each.rewrapped for each in moved) == 9
    assert {name: sum(each.pushed for each in pair) for name, pair in tallies.items()} == (
        dict.fromkeys(tallies, 9)
    )
    await all_on(bench, bench.keys.current(bench.tenant))
    await everything_is_readable(bench, names)


@pytest.mark.usefixtures("refused_soon")
async def test_a_tenant_that_somebody_rotates_is_left_to_them(bench: Bench, tool: Tool) -> None:
    old = bench.keys.current(bench.tenant)
    async with resumed(bench.catalog.runs, KIND, bench.tenant):
        (rotated,) = await tool.rotate(bench.tenant)
    assert isinstance(rotated.error, AlreadyRunning)
    assert bench.keys.current(bench.tenant) == old


async def test_one_tenants_refusal_keeps_no_other_from_its_turn(bench: Bench, tool: Tool) -> None:
    await fill(bench, 1)
    others = [(await Tenants(bench.catalog, bench.keys).create()).id for _ in range(3)]
    bench.keys.states[others[1]] = "suspended"
    ended = {each.renewed.tenant: each for each in await tool.rotate(*others, bench.tenant)}
    assert isinstance(ended.pop(others[1]).error, Suspended)
    assert all(each.error is None and each.renewed.complete for each in ended.values())
    assert len(ended) == 3


async def test_a_key_service_that_is_away_for_a_while_is_waited_for(
    bench: Bench, tool: Tool
) -> None:
    names, tool.patience = await fill(bench), 30.0
    rewrap = bench.keys.rewrap
    failures = [Unavailable("sealed", retry_after=0.01)] * 2

    async def sealed(*asked: object, **more: object) -> object:
        if failures:
            raise failures.pop()
        return await rewrap(*asked, **more)  # type: ignore[arg-type]

    bench.keys.rewrap = sealed  # type: ignore[method-assign,assignment]
    (rotated,) = await tool.rotate(bench.tenant)
    assert rotated.renewed.complete
    await everything_is_readable(bench, names)


async def test_envelopes_that_cannot_be_moved_are_named(bench: Bench, tool: Tool) -> None:
    names = await fill(bench, 6)
    ids = [(await bench.catalog.find(bench.tenant, name)).version.id for name in names]
    await swap_envelopes(bench, *ids[:2])
    await spoil_envelope(bench, ids[2])
    (rotated,) = await tool.rotate(bench.tenant)
    assert set(rotated.renewed.moved.wrong) == set(ids[:3])
    assert (rotated.renewed.moved.rewrapped, rotated.renewed.left) == (3, 3)
    assert not rotated.renewed.complete
    for name in names[3:]:
        await bench.read(name)


async def test_nothing_is_changed_when_the_key_service_errs(bench: Bench, tool: Tool) -> None:
    names = await fill(bench)
    before = {
        name: (await bench.catalog.find(bench.tenant, name)).version.envelope for name in names
    }
    rewrap = bench.keys.rewrap

    async def shuffled(*asked: object, **more: object) -> list[object]:
        return list(reversed(await rewrap(*asked, **more)))  # type: ignore[arg-type]

    bench.keys.rewrap = shuffled  # type: ignore[method-assign,assignment]
    (rotated,) = await tool.rotate(bench.tenant)
    assert isinstance(rotated.error, Unreadable)
    for name in names:
        found = await bench.catalog.find(bench.tenant, name)
        assert found.version.envelope == before[name]
        assert len(decode(found.version.envelope).wraps) == 1
    await everything_is_readable(bench, names)
