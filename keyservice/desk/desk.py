"""The desk at which every request is answered: admitted, done, put on record, and only then told.

Guarantees, in this order: the policy admits the caller or it is refused; every item of a batch has its
own outcome; what the request changes is on the tenant's key journal before it is changed (`journalled`);
and the request with each KEK it used is on the audit sink before anything is answered, refusals too. Every
use case goes through `Desk.answer`; none of them audits or authorises by itself.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import structlog

from keyservice.access.audit import Auditor, AuditRecord
from keyservice.access.policy import Caller, Gate, Operation
from keyservice.errors import KeyServiceError
from keyservice.journal.journal import Asked, Journal
from keyservice.journal.journalled import observed
from keyservice.metrics import Metrics

T = TypeVar("T")
Use = tuple[str, str, str]  # the request's id, the KEK's, the outcome

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, why, and under which request id.

    `requests` has that of each item, where a caller sends together what several requests need.
    """

    caller: Caller
    request_id: str
    reason: str
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one key: its KEK's id where one was named, and the value or the refusal."""

    kek: str
    value: T | KeyServiceError = field(repr=False)


class Desk:
    """One for all use cases of an instance."""

    def __init__(self, gate: Gate, auditor: Auditor, metrics: Metrics, journal: Journal) -> None:
        self._gate = gate
        self._journal = journal
        self._auditor = auditor
        self._metrics = metrics

    async def one(
        self,
        call: Call,
        tenant: str,
        operation: Operation,
        work: Callable[[], Awaitable[Outcome[T]]],
    ) -> T:
        """Answer a request that is one item; raise what it was refused with."""

        async def alone() -> list[Outcome[T]]:
            return [await work()]

        (value,) = await self.answer(call, tenant, operation, 1, alone)
        if isinstance(value, KeyServiceError):
            raise value
        return value

    def allows(self, call: Call, tenant: str, operation: Operation) -> bool:
        """Say whether the policy lets the caller do this as well; spends nothing."""
        return self._gate.allows(call.caller, tenant, operation)

    async def refuse(
        self, call: Call, tenant: str, operation: Operation | None, error: KeyServiceError
    ) -> None:
        """Put on record a request that was refused before it could be understood."""
        await self._record(call, tenant, operation, _refused(call, error.code, 1))
        if operation is not None:
            self._metrics.request(operation, error.code, 0.0)

    async def tell(
        self, call: Call, tenant: str, operation: Operation, keks: Sequence[str]
    ) -> None:
        """Put on record what nobody asked for and was done all the same: by the service itself."""
        uses = Counter({(call.request_id, kek, "ok"): 1 for kek in keks})
        await self._record(call, tenant, operation, uses)

    async def answer(
        self,
        call: Call,
        tenant: str,
        operation: Operation,
        count: int,
        work: Callable[[], Awaitable[list[Outcome[T]]]],
    ) -> list[T | KeyServiceError]:
        """Admit, do the work, put it on record, and only then give the answer.

        Items that were refused are errors in the answer; a request that was refused whole is raised.
        """
        started = time.monotonic()
        outcome = KeyServiceError.code
        try:
            try:
                self._gate.admit(call.caller, tenant, operation, count)
                asked = Asked(operation.value, call.caller.name, call.request_id, call.reason)
                outcomes = await observed(self._journal, asked, work, _verdict)
            except KeyServiceError as error:
                await self._record(call, tenant, operation, _refused(call, error.code, count))
                raise
            except Exception as error:
                log.exception("request failed for a reason nobody foresaw", operation=operation)
                await self._record(call, tenant, operation, _refused(call, outcome, count))
                raise KeyServiceError from error
            requests = call.requests or (call.request_id,) * len(outcomes)
            uses = Counter(
                (request, item.kek, _code(item.value))
                for request, item in zip(requests, outcomes, strict=True)
            )
            await self._record(call, tenant, operation, uses)
            outcome = "ok"
        except KeyServiceError as error:
            outcome = error.code
            raise
        finally:
            self._metrics.request(operation, outcome, time.monotonic() - started)
        for (_, _, code), number in uses.items():
            self._metrics.keys(operation, code, number)
        return [item.value for item in outcomes]

    async def _record(
        self, call: Call, tenant: str, operation: Operation | None, uses: Counter[Use]
    ) -> None:
        record = AuditRecord(
            time=dt.datetime.now(dt.UTC),
            request_id="",
            caller=call.caller.name,
            tenant=tenant,
            operation=operation.value if operation else "",
            key="",
            reason=call.reason,
            outcome="",
            count=0,
        )
        await self._auditor.write(
            [
                replace(record, request_id=request, key=kek, outcome=outcome, count=count)
                for (request, kek, outcome), count in uses.items()
            ]
        )
        if operation is not None:
            summed: Counter[tuple[str, str]] = Counter()
            for (_, kek, outcome), count in uses.items():
                summed[kek, outcome] += count
            self._journal.used(tenant, operation.value, summed)


def _refused(call: Call, code: str, count: int) -> Counter[Use]:
    """Return what is on record of a request that was refused whole."""
    if call.requests:
        return Counter((request, "", code) for request in call.requests)
    return Counter({(call.request_id, "", code): count})


def _verdict(outcomes: Sequence[Outcome[T]]) -> str:
    """Return how a request ended as a whole: `ok`, or the first refusal."""
    return next((code for item in outcomes if (code := _code(item.value)) != "ok"), "ok")


def _code(value: object) -> str:
    return value.code if isinstance(value, KeyServiceError) else "ok"
