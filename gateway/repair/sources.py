"""One body out of several stores that should hold it, verified as it streams.

Guarantees that the stream ends only once every byte was the one that was sealed. A source that fails is
left for the next at the same byte. Where a mixture turns out wrong nobody can tell whose bytes those
were, so from then on each source has to give the whole by itself. Tells what it saw of each.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import structlog

from envelope.envelope import Core
from gateway.errors import ObjectMissing, StoreDamaged, StoreError, Unreadable
from gateway.model import ReplicaState, Version, body_key
from gateway.pacing.rate import Rate
from gateway.ports import Finding, Store
from gateway.repair.verify import BodyCheck

log = structlog.get_logger()


class Restart(Exception):
    """What was streamed so far is not to be used; stream again from the start."""


class Sources:
    """The stores that may give one version's body, the best one first.

    `last` is the one that gave the last bytes. `findings` are what proved to be missing or damaged.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],
        version: Version,
        core: Core,
        names: Sequence[str],
        rate: Rate,
    ) -> None:
        self._stores = stores
        self._version = version
        self._core = core
        self._left = list(names)
        self._rate = rate
        self._alone = False
        self._hope = False  # of one that was merely out of reach
        self.last = ""
        self.findings: list[Finding] = []

    async def stream(self) -> AsyncGenerator[bytes | memoryview]:
        """Stream the body once. Raises Restart, and Unreadable when no source is left.

        That has a `retry_after` if one of them was only out of reach, and may have a good copy.
        """
        check, at = BodyCheck(self._core), 0
        given: set[str] = set()  # by whom
        while self._left:
            self.last = name = self._left[0]
            try:
                async with aclosing(self._read(name, at)) as pieces:
                    async for piece in pieces:
                        given.add(name)
                        self._compare(check, piece, name, mixed=len(given) > 1)
                        at += len(piece)
                        yield piece
                check.finish()
            except StoreError as error:
                self._leave(name, error)
                if at and self._alone:
                    raise Restart from None
            else:
                return
        raise Unreadable(
            "no target gave a good copy of this version", retry_after=5.0 if self._hope else None
        )

    async def _read(self, name: str, at: int) -> AsyncGenerator[bytes | memoryview]:
        await self._rate.take(0, 1)
        key, size = body_key(self._version.tenant, self._version.blob), self._version.body_size
        async with aclosing(self._stores[name].read(key, at, size)) as pieces:
            async for piece in pieces:
                await self._rate.take(len(piece))
                yield piece

    def _compare(
        self, check: BodyCheck, piece: bytes | memoryview, name: str, *, mixed: bool
    ) -> None:
        try:
            check.update(piece)
        except StoreDamaged as error:
            if mixed:
                self._alone = True
            else:
                self._leave(name, error)
            raise Restart from None

    def _leave(self, name: str, error: StoreError) -> None:
        self._left.remove(name)
        log.warning(
            "source failed",
            target=name,
            blob=self._version.blob,
            reason=getattr(error, "reason", type(error).__name__),
        )
        if isinstance(error, ObjectMissing):
            self._found(name, ReplicaState.MISSING, "absent")
        elif isinstance(error, StoreDamaged):
            self._found(name, ReplicaState.DAMAGED, error.reason)
        else:
            self._hope = True

    def _found(self, name: str, state: ReplicaState, reason: str) -> None:
        self.findings.append(Finding(self._version.id, name, state, reason, self._version.blob))
