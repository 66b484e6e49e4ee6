"""The record of every request and key use, without which nothing is answered.

One record stands for one request and one key: a batch that touched two KEKs with two outcomes is up
to four records, each with its count. `Auditor` bounds the sink in time: a sink that fails, or hangs
for over a second, refuses the request. A refused request may still be on record, the other way
round never. Records name callers, tenants and key ids; they hold no key material and no data.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from keyservice.errors import Unavailable
from keyservice.ports import RootStatus

TIMEOUT = 1.0
RETRY_AFTER = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One key use; `key` is a KEK id or empty, `outcome` is `ok` or the code of the refusal."""

    time: dt.datetime
    request_id: str
    caller: str
    tenant: str
    operation: str
    key: str
    reason: str
    outcome: str
    count: int

    def to_document(self) -> dict[str, Any]:
        """Return the record as plain JSON values, time in UTC with microseconds."""
        time = self.time.astimezone(dt.UTC).isoformat(timespec="microseconds")
        return asdict(self) | {"time": time}


class AuditSink(Protocol):
    """Where records go for good."""

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """Store the records, in this order and together; raise OSError when they may not be.

        Callable any number of times at once. Cancelling does not promise that nothing is written.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted; idempotent."""
        ...


class Auditor:
    """A sink that answers within `timeout` seconds or refuses with Unavailable."""

    def __init__(self, sink: AuditSink, *, timeout: float = TIMEOUT) -> None:
        self._sink = sink
        self._timeout = timeout
        self._failing = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """Store the records or raise Unavailable; the caller answers only after this."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._sink.write(records)
        except (OSError, TimeoutError) as error:
            self._failing = True
            fault = type(error).__name__
            log.error("audit sink did not take a record; request refused", fault=fault)  # noqa: TRY400 - no traceback says more
            raise Unavailable("audit sink does not answer", retry_after=RETRY_AFTER) from error
        self._failing = False

    def status(self) -> RootStatus:
        """Say whether the last write went through."""
        if self._failing:
            return RootStatus(healthy=False, detail="last record was not taken: requests refused")
        return RootStatus(healthy=True, detail="records are taken")

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()
