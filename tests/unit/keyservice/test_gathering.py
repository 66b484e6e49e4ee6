"""What comes while others are under way goes together; failures and cancellations stay their own."""

import asyncio
from collections.abc import Sequence

import pytest

from keyservice.client.gathering import Gathering
from keyservice.errors import Unavailable


class Wire:
    """Sends batches when it is let, one after another, and answers each item in capitals."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.open: list[asyncio.Future[None]] = []

    async def send(self, kind: str, items: Sequence[str]) -> list[str]:
        """Answer once `let` was called for it, or fail as it was told to."""
        self.sent.append([kind, *items])
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open.append(gate)
        await gate
        return [item.upper() for item in items]

    def let(self, number: int = 0, error: Exception | None = None) -> None:
        """Let one batch end that is under way."""
        gate = self.open.pop(number)
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)


async def settle() -> None:
    """Let everybody go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_those_who_come_meanwhile_go_together() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=2, most=4)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(gathering.one("k", item)) for item in "abcdefgh"]
        other = tasks.create_task(gathering.one("other", "z"))
        await settle()
        assert wire.sent == [["k", "a"], ["k", "b"], ["other", "z"]]
        wire.let(1)
        await settle()
        assert wire.sent[3:] == [["k", "c", "d", "e", "f"]]  # four and no more
        wire.let(0)
        await settle()
        assert wire.sent[4:] == [["k", "g", "h"]]
        for _ in range(3):
            wire.let()
    assert [task.result() for task in asked] == list("ABCDEFGH")
    assert other.result() == "Z"
    assert len(gathering) == 0


async def test_a_failure_reaches_those_who_went_along_and_nobody_else() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    first = asyncio.ensure_future(gathering.one("k", "a"))
    await settle()
    along = [asyncio.ensure_future(gathering.one("k", item)) for item in "bc"]
    await settle()
    wire.let()
    await settle()
    later = asyncio.ensure_future(gathering.one("k", "d"))
    await settle()
    wire.let(error=Unavailable("away"))
    await settle()
    wire.let()
    assert await first == "A"
    for task in along:
        with pytest.raises(Unavailable):
            await task
    assert await later == "D"
    assert wire.sent == [["k", "a"], ["k", "b", "c"], ["k", "d"]]
    assert len(gathering) == 0


async def test_a_sender_who_is_cancelled_takes_nobody_down() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    tasks = [asyncio.ensure_future(gathering.one("k", "a"))]
    await settle()
    tasks += [asyncio.ensure_future(gathering.one("k", item)) for item in "bcd"]
    await settle()
    wire.let()
    await settle()
    tasks[1].cancel()  # who sends for all
    await settle()
    assert not tasks[1].done()
    wire.let()
    await settle()
    assert wire.sent == [["k", "a"], ["k", "b", "c", "d"]]  # once: it is on record by then
    assert tasks[1].cancelled()
    assert [task.result() for task in (tasks[0], *tasks[2:])] == ["A", "C", "D"]
    assert len(gathering) == 0


async def test_a_sender_who_is_cancelled_tells_of_a_failure() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    tasks = [asyncio.ensure_future(gathering.one("k", "a"))]
    await settle()
    tasks += [asyncio.ensure_future(gathering.one("k", item)) for item in "bc"]
    await settle()
    wire.let()
    await settle()
    tasks[1].cancel()
    await settle()
    wire.let(error=Unavailable("away"))
    await settle()
    assert tasks[1].cancelled()
    assert isinstance(tasks[2].exception(), Unavailable)
    assert len(gathering) == 0


async def test_a_sender_who_is_cancelled_leaves_with_the_last_who_waits() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    tasks = [asyncio.ensure_future(gathering.one("k", "a"))]
    await settle()
    tasks += [asyncio.ensure_future(gathering.one("k", item)) for item in "bcd"]
    await settle()
    wire.let()
    await settle()
    for number in (1, 2):
        tasks[number].cancel()
        await settle()
    assert not tasks[1].done()
    tasks[3].cancel()
    await settle()
    assert [task.cancelled() for task in tasks] == [False, True, True, True]
    assert wire.open[0].cancelled()  # nobody is asked any more for what nobody waits for
    assert len(gathering) == 0


async def test_a_sender_who_is_cancelled_twice_leaves_at_once() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    tasks = [asyncio.ensure_future(gathering.one("k", "a"))]
    await settle()
    tasks += [asyncio.ensure_future(gathering.one("k", item)) for item in "bcd"]
    await settle()
    wire.let()
    await settle()
    for _ in range(2):
        tasks[1].cancel()
        await settle()
    assert tasks[1].cancelled()
    assert wire.sent == [["k", "a"], ["k", "b", "c", "d"], ["k", "c", "d"]]
    wire.let(-1)
    await settle()
    assert [task.result() for task in (tasks[0], *tasks[2:])] == ["A", "C", "D"]
    assert len(gathering) == 0


async def test_one_who_leaves_while_he_waits_is_not_sent_and_one_who_was_to_send_passes_it_on() -> (
    None
):
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1)
    tasks: list[asyncio.Future[str]] = []

    async def first() -> None:
        """Have the one who is to send next cancelled in the very step that told him to."""
        await gathering.one("k", "a")
        tasks[1].cancel()

    asking = asyncio.ensure_future(first())
    await settle()
    tasks += [asyncio.ensure_future(gathering.one("k", item)) for item in "bcd"]
    await settle()
    tasks[0].cancel()
    await settle()
    wire.let()
    await asking
    await settle()
    assert wire.sent == [["k", "a"], ["k", "d"]]
    wire.let()
    assert await tasks[2] == "D"
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert len(gathering) == 0


async def test_nobody_waits_for_one_call_after_another() -> None:
    wire = Wire()
    gathering = Gathering(wire.send, at_once=1, most=2, patience=0.01)
    first = asyncio.ensure_future(gathering.one("k", "a"))
    await settle()
    asked = [asyncio.ensure_future(gathering.one("k", item)) for item in "bcdef"]
    for task in asked:
        with pytest.raises(TimeoutError):
            await task
    wire.let()
    assert await first == "A"
    assert wire.sent == [["k", "a"]]
    assert len(gathering) == 0
