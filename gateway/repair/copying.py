"""Make one target hold one version, ciphertext to ciphertext, without keys.

Guarantees that nothing becomes visible unless the whole body is the one that was sealed; that the envelope
is written last; that nothing is removed before a good body is at hand, nothing that is right is ever
written again, and no envelope gives way to the catalog's while another store has the very same. May be
stopped anywhere: what it leaves, the next call completes or replaces. An envelope with other wraps than the
catalog's is right as well: it stays, and its KEK is told. It does not record anything, and cannot tell
whether what the catalog says is authentic.
"""

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from awscrt.checksums import crc64nvme

from envelope.envelope import Core
from gateway.errors import ObjectExists, ObjectMissing, StoreDamaged, StoreError
from gateway.flow.parts import Parts
from gateway.model import Version, body_key, envelope_key
from gateway.pacing.rate import Rate
from gateway.pacing.room import Room
from gateway.ports import Finding, Piece, Store
from gateway.repair.sources import Restart, Sources
from gateway.repair.verify import (
    UNOPENED,
    Under,
    check_body,
    check_envelope,
    known_envelope,
    stored_envelope,
    weigh_envelope,
)
from gateway.targets.removal import remove

T = TypeVar("T")
CATALOG = ""  # the source of an envelope, and of the body that travels in it


@dataclass(frozen=True, slots=True)
class Filled:
    """Where what was written came from, and the KEK that the target's envelope is under.

    The KEK as `Finding` tells it: it may be older than the catalog's, or have been overtaken.
    """

    source: str
    kek: str


class Copier:
    """See the module. Several may copy at once, and together hold `memory` bytes (0: no bound).

    One holds `parallel` + 1 buffers of `part_size` bytes, or one of the body's size if that is less.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],
        *,
        part_size: int,
        parallel: int,
        rate: Rate,
        memory: int = 0,
    ) -> None:
        self._stores = stores
        self._part_size = part_size
        self._parallel = parallel
        self._rate = rate
        self._room = Room(memory)
        self._spare: list[bytearray] = []

    async def fill(
        self,
        version: Version,
        target: str,
        sources: Sequence[str],
        *,
        replace: bool,
        findings: list[Finding] | None = None,
        blank: bool = False,
        unopened: bool = False,
    ) -> Filled:
        """Make `target` hold `version`, from the best of `sources`, the first first.

        A whole replica that is there is taken as it is: then, and only then, the source is the target
        itself. It is CATALOG where all that was written came from there. A body without its envelope is
        nobody's, and is completed or replaced; a damaged replica is replaced only if `replace` says so.
        To `findings` is added what proved to be missing or damaged at the sources. With `blank` the
        caller believes that the target has nothing of it, and so it is looked at only where it has.
        With `unopened` an envelope that passes without keys is replaced as well: with them it does not.
        Raises Unreadable when no source is good, or the catalog's envelope is likely not; StoreDamaged
        for a replica that may not be replaced, and other StoreErrors of the target.
        """
        store, known = self._stores[target], known_envelope(version)
        sealed = stored_envelope(version, known)
        envelope: Under | StoreError = ObjectMissing()
        body: StoreError | None = ObjectMissing() if version.inline is None else None
        if not blank:
            await self._rate.take(len(sealed), 1)
            envelope = await self._look(check_envelope(store, version), unopened=unopened)
            if version.inline is None:
                body = await self._look(check_body(store, version, known.core, self._rate))
        if isinstance(envelope, StoreDamaged) and not replace:
            raise envelope
        if isinstance(body, StoreDamaged) and not (replace or isinstance(envelope, ObjectMissing)):
            raise body
        others = [name for name in sources if name != target]
        await self._weigh(envelope, version, target, others)
        source = target if isinstance(envelope, Under) else CATALOG
        try:
            if body is not None:
                reading = Sources(self._stores, version, known.core, others, self._rate)
                try:
                    await self._copy(store, version, known.core, reading, damaged=body, blank=blank)
                finally:
                    if findings is not None:
                        findings += reading.findings
                source = reading.last
            if not isinstance(envelope, Under):
                envelope = await self._write(store, version, sealed, damaged=envelope)
        except StoreDamaged:
            if not blank:
                raise
            # Something was there after all, and it is not right.
            return await self.fill(version, target, sources, replace=replace, findings=findings)
        return Filled(source, envelope.known)

    async def held_elsewhere(self, version: Version, target: str) -> bool:
        """Tell whether another target has a version's envelope. Raises StoreErrors if one cannot say."""
        for name, store in self._stores.items():
            if name == target:
                continue
            await self._rate.take(0, 1)
            try:
                await store.stat(envelope_key(version.tenant, version.blob))
            except ObjectMissing:
                continue
            return True
        return False

    async def clear(self, version: Version, target: str) -> None:
        """Remove what a target has of a version that is no more."""
        await self._rate.take(0, 2)
        await remove(self._stores[target], version.tenant, version.blob)

    async def _look(self, check: Awaitable[T], *, unopened: bool = False) -> T | StoreError:
        """Return what keeps an object from being right, or what the check says. Raises other StoreErrors.

        With `unopened` it is not right, even if it passes.
        """
        try:
            found = await check
        except (ObjectMissing, StoreDamaged) as error:
            return error
        return StoreDamaged("an envelope does not open", reason=UNOPENED) if unopened else found

    async def _weigh(
        self, envelope: Under | StoreError, version: Version, target: str, others: Sequence[str]
    ) -> None:
        """Raise Unreadable if an envelope is to give way that is likely the right one."""
        if isinstance(envelope, StoreDamaged):
            stores = [self._stores[name] for name in others]
            await weigh_envelope(self._stores[target], stores, version)

    async def _copy(
        self,
        store: Store,
        version: Version,
        core: Core,
        sources: Sources,
        *,
        damaged: StoreError,
        blank: bool,
    ) -> None:
        key = body_key(version.tenant, version.blob)
        parts = Parts(
            store,
            key,
            version.body_size,
            part_size=self._part_size,
            parallel=self._parallel,
            rate=self._rate,
            spare=self._spare,
            blank=blank,
        )
        async with self._room.take(parts.memory), parts:
            while True:
                try:
                    async with aclosing(sources.stream()) as pieces:
                        await parts.fill(pieces)
                    break
                except Restart:
                    continue
            await self._remove(store, key, damaged)
            try:
                await parts.publish()
            except ObjectExists:  # somebody was faster, or an upload that was let go arrived late
                await check_body(store, version, core, self._rate)

    async def _write(
        self, store: Store, version: Version, sealed: bytes, *, damaged: StoreError
    ) -> Under:
        key = envelope_key(version.tenant, version.blob)
        await self._remove(store, key, damaged)
        await self._rate.take(len(sealed), 1)
        try:
            await store.put(key, Piece(memoryview(sealed), crc64nvme(sealed)))
        except ObjectExists:
            return await check_envelope(store, version)
        return Under(version.kek)

    async def _remove(self, store: Store, key: str, found: StoreError) -> None:
        if isinstance(found, StoreDamaged):
            await self._rate.take(0, 1)
            await store.delete(key)
