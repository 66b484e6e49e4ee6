"""Restores ciphertext: from good copies to one target, without keys.

Guarantees that what is there and whole stays as it is, that a damaged copy is replaced only once a good
one was found, and that a copy counts as restored only after every byte of it matched the envelope. It
looks at the store itself, whatever the catalog says, and tells the catalog what it saw. Versions in the
trash are restored too, so that they can come back; those that are being purged are not, and of one that was
purged meanwhile nothing stays at the destination.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from gateway.errors import (
    NotFound,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unreadable,
)
from gateway.model import ReplicaState, Version, body_key
from gateway.pacing.rate import Rate
from gateway.ports import Catalog, Finding, Replicas, Store
from gateway.recovery.restore import Outcome, Result, Scope
from gateway.repair.copying import Filled
from gateway.repair.verify import Under, check_envelope, check_replica

_PAGE: Final = 100  # versions with their inline bodies: some 13 MiB at most
_PATIENCE: Final = 20  # failures of the destination in a row, after which it is taken for gone

log = structlog.get_logger()


class Filler(Protocol):
    """Copies one version to one target; `gateway.repair.copying.Copier` does."""

    async def fill(
        self,
        version: Version,
        target: str,
        sources: Sequence[str],
        *,
        replace: bool,
        findings: list[Finding] | None = None,
        blank: bool = False,
    ) -> Filled:
        """Make `target` hold `version`; the source is `target` if nothing had to be written.

        Adds to `findings` what proved to be missing or damaged at the sources. With `blank` it looks at
        the target only where something is in its way. Raises Unreadable, and StoreErrors of the target.
        """

    async def held_elsewhere(self, version: Version, target: str) -> bool:
        """Tell whether another target has a version's envelope. Raises StoreErrors if one cannot say."""

    async def clear(self, version: Version, target: str) -> None:
        """Remove what a target has of a version that is no more. Raises StoreErrors."""


class Refill:
    """The work, over one catalog; `store` is the target's."""

    def __init__(
        self,
        catalog: Catalog,
        replicas: Replicas,
        store: Store,
        filler: Filler,
        *,
        scope: Scope,
        target: str,
        sources: Sequence[str],
    ) -> None:
        self._catalog = catalog
        self._replicas = replicas
        self._store = store
        self._filler = filler
        self._scope = scope
        self._target = target
        self._sources = sources
        self._failed = 0
        self._findings: list[Finding] = []
        self._blanks: dict[str, bool] = {}
        self._keks: dict[
            str, str
        ] = {}  # of the envelopes at the destination, by version, until told
        self._asking = asyncio.Lock()

    async def versions(self) -> AsyncGenerator[Version]:
        """See `Work`: in order of id. Raises NotFound for a tenant or attachment that is not there."""
        versions = meant(self._catalog, self._replicas, self._scope, self._target)
        async with aclosing(versions):
            async for version in versions:
                yield version

    def size(self, version: Version) -> int:
        """See `Work`: the bytes that a store holds of it."""
        return stored_size(version)

    async def present(self, version: Version) -> bool:
        """See `Work`: its envelope is right, and its body has the right length."""
        under = await holds(self._store, version)
        if under is not None:
            self._keks[version.id] = under.known
        return under is not None

    async def do(self, version: Version) -> Result:
        """See `Work`. Raises StoreErrors of a destination that takes nothing more."""
        size = stored_size(version)
        try:
            # What a killed run left, or what is damaged, goes; but only for a good copy.
            filled = await self._filler.fill(
                version,
                self._target,
                self._sources,
                replace=True,
                findings=self._findings,
                blank=await self._blank(version.tenant),
            )
        except Unreadable as error:
            return Result(version, Outcome.FAILED, size, reason=str(error))
        except (StoreDenied, StoreFull):
            raise  # the next one would end the same way
        except StoreError as error:
            self._failed += 1
            if isinstance(error, StoreUnavailable) and self._failed >= _PATIENCE:
                raise
            return Result(version, Outcome.FAILED, size, reason=f"destination: {_word(error)}")
        self._failed = 0
        self._keks[version.id] = filled.kek
        outcome = Outcome.SKIPPED if filled.source == self._target else Outcome.RESTORED
        return Result(version, outcome, size, source=filled.source)

    async def _blank(self, tenant: str) -> bool:
        """Tell whether the destination had nothing at all of a tenant when it was first asked for."""
        async with self._asking:
            if tenant not in self._blanks:
                async with aclosing(self._objects(tenant)) as objects:
                    self._blanks[tenant] = await anext(objects, None) is None
            return self._blanks[tenant]

    async def _objects(self, tenant: str) -> AsyncGenerator[object]:
        prefix = f"t/{tenant}/"
        async for each in self._store.list(prefix):
            yield each
        async for other in self._store.unfinished(prefix):
            yield other

    async def record(self, results: Sequence[Result]) -> None:
        """See `Work`: the replicas that are whole now, and the sources that proved not to be."""
        found, self._findings = self._findings, []
        found += [
            Finding(
                result.version.id,
                self._target,
                ReplicaState.STORED,
                blob=result.version.blob,
                kek=self._keks.pop(result.version.id, ""),
            )
            for result in results
            if result.outcome in {Outcome.RESTORED, Outcome.SKIPPED}
        ]
        if found:
            await self._replicas.report(found)
        await self._recall([r.version for r in results if r.outcome is Outcome.RESTORED])

    async def _recall(self, versions: Sequence[Version]) -> None:
        """Remove again what was written of versions that were purged meanwhile.

        One that others hold was not purged: the catalog has forgotten it, because it is an older one now.
        What is being purged goes whoever holds it: the purger may have been here before it was written.
        """
        known = await self._catalog.known([version.blob for version in versions])
        for version in versions:
            there, going = await self._fate(version)
            if there and version.blob in known:
                continue
            try:
                gone = going or not await self._filler.held_elsewhere(version, self._target)
                if gone:
                    await self._filler.clear(version, self._target)
            except StoreError:
                gone = False
            log.warning("restored what was purged", version=version.id, removed=gone)

    async def _fate(self, version: Version) -> tuple[bool, bool]:
        """Tell whether a version is there, and whether it is being purged: neither once it is forgotten."""
        try:
            await self._catalog.by_version(version.tenant, version.id)
        except NotFound:
            return False, await self._replicas.version(version.id) is not None
        return True, False


class Verify:
    """The work of looking whether the sources could give everything back. Writes nothing anywhere."""

    def __init__(
        self,
        catalog: Catalog,
        replicas: Replicas,
        stores: Mapping[str, Store],
        *,
        scope: Scope,
        sources: Sequence[str],
        rate: Rate | None = None,
    ) -> None:
        self._catalog = catalog
        self._replicas = replicas
        self._stores = stores
        self._scope = scope
        self._sources = sources
        self._rate = rate

    async def versions(self) -> AsyncGenerator[Version]:
        """See `Refill.versions`."""
        versions = meant(self._catalog, self._replicas, self._scope, self._sources[0])
        async with aclosing(versions):
            async for version in versions:
                yield version

    def size(self, version: Version) -> int:
        """See `Work`."""
        return stored_size(version)

    async def present(self, version: Version) -> bool:
        """See `Work`: what was verified a moment ago counts."""
        del version
        return True

    async def do(self, version: Version) -> Result:
        """See `Work`: the first source with a good copy is enough."""
        size = stored_size(version)
        found: list[str] = []
        for source in self._sources:
            try:
                await check_replica(self._stores[source], version, self._rate)
            except Unreadable as error:
                return Result(version, Outcome.FAILED, size, reason=str(error))
            except StoreError as error:
                found.append(f"{source}: {_word(error)}")
            else:
                return Result(version, Outcome.VERIFIED, size, source=source)
        return Result(version, Outcome.FAILED, size, reason=", ".join(found))

    async def record(self, results: Sequence[Result]) -> None:
        """See `Work`: nothing is written."""


async def meant(
    catalog: Catalog, replicas: Replicas, scope: Scope, target: str
) -> AsyncGenerator[Version]:
    """Yield the versions of a scope in order of id, with inline bodies. Raises NotFound."""
    attachment = None
    if scope.tenant is not None:
        await catalog.tenant(scope.tenant)
        if scope.reference is not None:
            found = await catalog.find(scope.tenant, scope.reference, scope.version)
            attachment = found.attachment.id
    after = None
    while page := await replicas.held(
        target, after=after, limit=_PAGE, tenant=scope.tenant, attachment=attachment
    ):
        for held in page:
            if scope.takes(held.version):
                yield held.version
        after = page[-1].version.id


async def holds(store: Store, version: Version) -> Under | None:
    """Tell whether a store has the envelope of a version, and a body of its length. Reads no body.

    Returns what the envelope is wrapped under if it has. Raises StoreUnavailable, StoreDenied, and Unreadable
    where the catalog's envelope is no measure.
    """
    try:
        under = await check_envelope(store, version)
        if version.body_size:
            stat = await store.stat(body_key(version.tenant, version.blob))
            return under if stat.size == version.body_size else None
    except (ObjectMissing, StoreDamaged):
        return None
    return under


def stored_size(version: Version) -> int:
    """Return how many bytes a store holds of a version."""
    return version.body_size + len(version.envelope) + len(version.inline or b"")


def _word(error: StoreError) -> str:
    """Return a few words for a report: never the text of a store's own answer."""
    words = {
        ObjectMissing: "missing",
        StoreDamaged: "damaged",
        StoreUnavailable: "no answer",
        StoreDenied: "denied",
        StoreFull: "full",
    }
    return words.get(type(error), "refused")
