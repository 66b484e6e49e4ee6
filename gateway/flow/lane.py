"""The way of one blob to one target: parts in order of arrival, completion, then the envelope.

Guarantees that a failure here stays here (the lane says `failed`), that every buffer is let go of
whatever happens, and that the envelope is written only after the body is complete. Repeating what
failed for a moment is the store's `retrying` decorator's work, not done here.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.errors import ObjectExists, StoreError, StoreUnavailable, first
from gateway.flow.buffers import Load
from gateway.model import body_key, envelope_key
from gateway.ports import PartUpload, Piece
from gateway.targets.quorum import Target

log = structlog.get_logger()


class Lane:
    """The way of one blob to one target: parts in order of arrival, then completion, then envelope."""

    def __init__(
        self,
        target: Target,
        tenant: str,
        blob: str,
        *,
        parallel: int,
        changed: Callable[[], None],
    ) -> None:
        self.target = target
        self.stored = False
        self.error: StoreError | None = None
        self._made_body = False  # whether there may be a body, or an envelope, of our making
        self._made_envelope = False
        self._changed = changed  # called whenever this lane got further
        self._body = body_key(tenant, blob)
        self._envelope = envelope_key(tenant, blob)
        self._jobs: asyncio.Queue[Load | Piece] = asyncio.Queue()
        self._slots = asyncio.Semaphore(parallel)
        self._held: set[Load] = set()
        self._upload: PartUpload | None = None
        self._begun = False  # whether a multipart upload was asked for
        self._single: Load | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether this target will not hold the blob."""
        return self.error is not None

    @property
    def behind(self) -> int:
        """How many buffers wait here."""
        return len(self._held)

    def offer(self, load: Load, *, whole: bool = False) -> None:
        """Take a share in a buffer and queue it; `whole` when it is the entire body."""
        if self.failed:
            return
        load.hold()
        self._held.add(load)
        if whole:
            self._single = load
        self._jobs.put_nowait(load)

    def finish(self, envelope: Piece) -> None:
        """Queue the end: complete the body, then write the envelope."""
        self._jobs.put_nowait(envelope)

    def give_up(self, error: StoreError) -> None:
        """Stop at once and let go of every buffer."""
        if self.stored or self.failed:
            return
        self.error = error
        log.warning("target let go", target=self.target.name, reason=type(error).__name__)
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Work until the envelope is written or the target fails. Never raises a StoreError."""
        self._task = asyncio.current_task()
        try:
            await self._work()
        except asyncio.CancelledError:
            if self.error is None:  # cancelled from outside, not let go by the fan
                raise
        finally:
            for load in tuple(self._held):
                self._drop(load, tainted=True)
            self._changed()

    async def _work(self) -> None:
        try:
            job = await self._jobs.get()
            await self._close(await self._send_all(job) if isinstance(job, Load) else job)
            self.stored = True
        except* StoreError as group:
            self._fail(first(group))
        except* Exception as group:  # noqa: BLE001 - one target's defect is not the others'
            kind = type(first(group)).__name__  # its text could quote what it was sending
            self._fail(StoreUnavailable(f"the target failed unforeseen ({kind})"))

    async def _send_all(self, first: Load) -> Piece:
        """Send this part and those behind it; return the envelope that comes last."""
        job: Load | Piece = first
        async with asyncio.TaskGroup() as sends:
            number = 0
            while isinstance(job, Load):
                number += 1
                await self._slots.acquire()
                sends.create_task(self._send(number, job, await self._open(job)))
                job = await self._jobs.get()
        return job

    def _fail(self, error: BaseException) -> None:
        if self.error is None and isinstance(error, StoreError):
            self.error = error
        log.warning("target failed", target=self.target.name, reason=type(error).__name__)

    async def _open(self, job: Load) -> PartUpload | None:
        if job is self._single:
            return None
        if self._upload is None:
            self._begun = True
            self._upload = await self.target.store.begin(self._body)
        return self._upload

    async def _send(self, number: int, job: Load, upload: PartUpload | None) -> None:
        try:
            if upload is None:
                await self._create_body(self.target.store.put(self._body, job.piece))
            else:
                await upload.part(number, job.piece)
            self._drop(job, tainted=False)
        finally:
            self._slots.release()

    async def _close(self, envelope: Piece) -> None:
        if self._upload is not None:
            await self._create_body(self._upload.complete())
        self._made_envelope = True
        try:
            await self.target.store.put(self._envelope, envelope)
        except ObjectExists:
            self._made_envelope = False
            raise

    async def _create_body(self, creation: Awaitable[None]) -> None:
        """Create the body, and remember that it is ours to remove: not one that was there before."""
        self._made_body = True
        try:
            await creation
        except ObjectExists:
            self._made_body = False
            raise

    def _drop(self, load: Load, *, tainted: bool) -> None:
        self._held.discard(load)
        load.release(tainted=tainted)
        self._changed()

    async def leave(self) -> None:
        """Throw away parts that never became a body. Raises StoreError when it could not.

        For a version that was committed without this target: what else is there is the repairer's to
        judge, which may be at work already. Bodies never change, so what arrives late does no harm.
        """
        if self._upload is not None:
            await self._upload.abort()

    async def clean_up(self) -> None:
        """Remove whatever this lane may have created. Raises StoreError when it could not.

        What the store refused to create because it was there is not ours, and stays.
        """
        await self.leave()
        if self._begun:  # its answer may have been lost, so that one is there which we do not know
            async for unknown in self.target.store.unfinished(self._body):
                await self.target.store.discard(unknown)
        if self._made_envelope:
            await self.target.store.delete(self._envelope)
        if self._made_body:
            await self.target.store.delete(self._body)
