"""Brings the envelopes of one tenant from an older KEK under the current one, in the catalog.

Guarantees that no body is read, and no data key seen but one of each batch, which must be the same under
both KEKs before anything of the batch is written; that an envelope changes only if it is still the one that
was read, so that any number may do this at once; and that memory is bounded by `IN_FLIGHT` batches,
however many envelopes there are. Lets others on the event loop go first. What a target holds is
`pushing`'s; which KEKs there are, and when it is done, is `rotation`'s.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hmac import compare_digest
from typing import Final, Protocol

import structlog

from envelope.envelope import Envelope, Wrap, encode
from envelope.errors import EnvelopeError
from envelope.wrap import kek_id
from gateway.errors import Unreadable, first
from gateway.keys.data_keys import KeyService, wrapped_key
from gateway.model import Version, microseconds, new_id, now
from gateway.pacing.patience import Patience
from gateway.pacing.rate import Rate
from gateway.ports import Rewrapped, Wrapped, Wraps
from gateway.repair.verify import claimed_envelope
from keyservice.wire import CannotUnwrap, KeyServiceError, Unavailable

BATCH: Final = 128  # envelopes that the key service rewraps at once: others wait for it
WRITE: Final = 16  # of them, those that are changed together: uploads wait for them
IN_FLIGHT: Final = 3  # batches at once
REASON: Final = "rotate"
_YIELD_EVERY: Final = 16
_NAMED: Final = 100  # of what is wrong, those that are told by id

log = structlog.get_logger()


class Watch(Protocol):
    """Who is told what happens, for figures."""

    def rewrapped(self, count: int) -> None:
        """Tell of envelopes that are under the current KEK now, in the catalog."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of a tenant's versions are meant: those made before a moment, those of one attachment, all."""

    before: datetime | None = None
    attachment: str | None = None

    @property
    def everything(self) -> bool:
        """Whether none is left out."""
        return self.before is None and self.attachment is None


EVERYTHING: Final = Choice()


@dataclass(slots=True)
class Moved:
    """What came of it. `wrong` names some of those that could not be moved, with the reason."""

    rewrapped: int = 0
    elsewhere: int = 0  # somebody else had changed or purged them by then
    failed: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    def fail(self, version: str, reason: str) -> None:
        """Count one that cannot be moved."""
        self.failed += 1
        if len(self.wrong) < _NAMED:
            self.wrong[version] = reason
        log.error("envelope not rewrapped", version=version, reason=reason)


class Rewrapping:
    """The mechanism, over one catalog and one key service.

    `rate` is in envelopes a second. What is busy or away is waited for with `patience`.
    """

    def __init__(
        self,
        wraps: Wraps,
        keys: KeyService,
        *,
        rate: Rate,
        patience: Patience,
        told: Callable[[int], None] = lambda _: None,
        watch: Watch | None = None,
    ) -> None:
        self._wraps = wraps
        self._keys = keys
        self._rate = rate
        self._patience = patience
        self._told = told
        self._watch = watch

    async def move(self, tenant: str, kek: str, choice: Choice, moved: Moved) -> None:
        """Rewrap what is chosen of all that is under `kek`, and add up in `moved` what came of it.

        Raises CatalogErrors, KeyServiceErrors, and Unreadable when a key that the key service rewrapped
        does not open what it should.
        """
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def batch(versions: Sequence[Version]) -> None:
            try:
                await self._batch(tenant, versions, moved)
            finally:
                slots.release()

        after: str | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await slots.acquire()
                    page = await self._page(kek, choice, after)
                    if page:
                        await self._rate.take(len(page))
                        group.create_task(batch([wrapped.version for wrapped in page]))
                    if len(page) < BATCH:
                        break
                    after = page[-1].version.id
        except BaseExceptionGroup as error:
            raise first(error) from None

    async def _page(self, kek: str, choice: Choice, after: str | None) -> Sequence[Wrapped]:
        return await self._patience.keep(
            lambda: self._wraps.on_kek(
                kek,
                after=after,
                limit=BATCH,
                created_before=choice.before,
                attachment=choice.attachment,
            )
        )

    async def _batch(self, tenant: str, versions: Sequence[Version], moved: Moved) -> None:
        read: list[tuple[Version, Envelope]] = []
        for number, version in enumerate(versions, 1):
            try:
                envelope = claimed_envelope(version)
            except Unreadable as error:
                moved.fail(version.id, str(error))
            else:
                if version.tenant == tenant:
                    read.append((version, envelope))
                else:
                    moved.fail(version.id, "another tenant's envelope is under a KEK of this one")
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        if not read:
            return
        changes = await self._rewrapped(tenant, read, moved)
        # One after another: what all batches have to write at once would delay others.
        for start in range(0, len(changes), WRITE):
            await self._change(changes[start : start + WRITE], moved)

    async def _change(self, changes: Sequence[Rewrapped], moved: Moved) -> None:
        changed = len(await self._patience.keep(partial(self._wraps.rewrap, changes)))
        moved.rewrapped += changed
        moved.elsewhere += len(changes) - changed
        self._told(changed)
        if self._watch is not None:
            self._watch.rewrapped(changed)

    async def _rewrapped(
        self, tenant: str, read: Sequence[tuple[Version, Envelope]], moved: Moved
    ) -> Sequence[Rewrapped]:
        request_id = new_id()
        wrapped = [wrapped_key(envelope) for _, envelope in read]

        async def ask() -> Sequence[bytes | KeyServiceError]:
            answers = await self._keys.rewrap(tenant, wrapped, reason=REASON, request_id=request_id)
            for answer in answers:
                if isinstance(answer, Unavailable):  # of one KEK: as good as all of them
                    raise answer
            return answers

        answers = await self._patience.keep(ask)
        at, changes, proved = microseconds(now()), list[Rewrapped](), False
        for number, ((version, envelope), answer) in enumerate(zip(read, answers, strict=True), 1):
            if isinstance(answer, CannotUnwrap):
                moved.fail(version.id, "the key service cannot open its key")
            elif isinstance(answer, KeyServiceError):
                raise answer
            elif (new := _kek(answer)) != version.kek:
                # One wrap alone: with it the older KEK is not needed any more.
                # The clocks of two gateways may differ: it is the newest all the same.
                created = max(at, envelope.newest.created + 1)
                made = replace(envelope, wraps=(Wrap(new, answer, created),))
                if not proved:
                    await self._prove(envelope, made, request_id)
                    proved = True
                change = Rewrapped(version.id, version.blob, version.kek, new, encode(made))
                changes.append(change)
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return changes

    async def _prove(self, old: Envelope, new: Envelope, request_id: str) -> None:
        """Compare the data key of one before and after. Raises Unreadable and KeyServiceErrors."""
        context = old.core.context

        async def ask() -> Sequence[bytes | KeyServiceError]:
            both = [wrapped_key(old), wrapped_key(new)]
            return await self._keys.unwrap(
                context.tenant, both, reason=REASON, request_id=request_id
            )

        before, after = await self._patience.keep(ask)
        if isinstance(before, bytes) and isinstance(after, bytes) and compare_digest(before, after):
            return
        log.error("a rewrapped key is another one", version=context.version)
        raise Unreadable(
            f"version {context.version} would not open under its rewrapped key: nothing of its batch was "
            "changed; look at the key service"
        )


def _kek(wrapped: bytes) -> str:
    try:
        return kek_id(wrapped)
    except EnvelopeError as error:
        raise KeyServiceError("the key service gave back what is no wrapped key") from error
