"""An upload: intent, data key, seal while it streams, envelope, commit, and only then a receipt.

Guarantees that nothing is visible before the quorum holds body and envelope and the catalog says so;
that a failure at any point removes what was written, or leaves an intent by which the reaper does;
and that a request with an idempotency key makes exactly one version. Implements "An upload" of
`docs/architecture.md`.
"""

import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from awscrt.checksums import crc64nvme

from envelope.context import Context
from envelope.envelope import (
    Attributes,
    Core,
    Envelope,
    Wrap,
    encode,
    encode_bare,
    seal_attributes,
)
from envelope.segment import SegmentSealer
from gateway.attachments.dated import pinned
from gateway.attachments.heartbeat import Heartbeat
from gateway.errors import (
    CatalogUnavailable,
    NotFound,
    PlacementChanged,
    PreconditionFailed,
    UploadLost,
)
from gateway.flow.digests import INTERNAL, Digests
from gateway.flow.pump import Pump, PumpSettings
from gateway.flow.replication import Fan, Replication
from gateway.keys.ahead import KeysAhead, Ready
from gateway.keys.data_keys import KeyService, data_key
from gateway.model import (
    Attachment,
    Precondition,
    ReplicaState,
    Upload,
    Version,
    moment,
    new_id,
    now,
)
from gateway.pacing.background import Background
from gateway.ports import Catalog, Piece
from gateway.targets.placing import Placing, Roster
from gateway.targets.policies import Policies
from gateway.targets.quorum import Quorum, QuorumLost
from keyservice.wire import DataKey

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Draft:
    """What the client declared of a new version. Everything a person can read stays out of reprs."""

    tenant: str
    reference: str = field(repr=False)
    name: str | None = field(default=None, repr=False)
    content_type: str | None = field(default=None, repr=False)
    user: Mapping[str, str] = field(default_factory=dict, repr=False)
    digests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    wanted: frozenset[str] = frozenset()  # digests to compute beyond the declared ones
    length: int | None = None
    precondition: Precondition = field(default_factory=Precondition)
    unmodified_since: datetime | None = None
    operation: tuple[str, bytes] | None = field(default=None, repr=False)  # tenant, key hash
    request_id: str = ""
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was stored, which targets hold it, and which were to."""

    attachment: Attachment
    version: Version
    stored: frozenset[str]
    missed: frozenset[str]
    digests: Mapping[str, bytes] = field(repr=False)
    degraded: bool = False  # acknowledged without the quorum, as configured


class Uploads:
    """The use case, over one catalog, one key service and one set of targets."""

    def __init__(
        self,
        catalog: Catalog,
        keys: KeyService,
        replication: Replication,
        *,
        policies: Policies,
        placing: Placing,
        ahead: KeysAhead,
        heartbeat: Heartbeat,
        background: Background,
        settings: PumpSettings,
    ) -> None:
        self._catalog = catalog
        self._keys = keys
        self._replication = replication
        self._policies = policies
        self._placing = placing
        self._ahead = ahead
        self._heartbeat = heartbeat
        self._background = background
        self._settings = settings

    async def store(self, draft: Draft, source: AsyncIterable[bytes | memoryview]) -> Receipt:
        """Store one body as the new current version and return the receipt.

        Raises GatewayErrors and KeyServiceErrors; whatever it raises, nothing new is visible, unless
        it is a CatalogUnavailable whose text says that the outcome is not known.
        """
        quorum = await self._policies.of(draft.tenant)
        draft = await self._foresee(draft)
        # An idempotency key is claimed for an id that is known before, so that one stays.
        ready = self._ahead.take(draft.tenant) if draft.operation is None else None
        started = now()
        upload = Upload(
            id=draft.id if ready is None else ready.upload,
            tenant=draft.tenant,
            attachment=new_id() if ready is None else ready.attachment,
            blob=new_id(),
            started=started,
            touched=started,
        )
        fan = self._replication.fan(upload.tenant, upload.blob, quorum)
        try:
            attachment = await self._catalog.begin(upload, draft.reference)
            with self._heartbeat.of(upload.id):
                async with fan:
                    context = Context(attachment.tenant, attachment.id, upload.id)
                    key = await self._key(draft, context, ready)
                    return await self._stream(
                        draft, context, key, source, attachment, upload.blob, fan
                    )
        except BaseException:
            self._background.start("discard an upload", self._discard(fan, upload.id))
            raise

    async def _foresee(self, draft: Draft) -> Draft:
        """Refuse, before a byte is read, what the commit would refuse as things stand now."""
        asked, limit = draft.precondition, draft.unmodified_since
        if asked == Precondition() and limit is None:
            return draft
        try:
            current = (await self._catalog.find(draft.tenant, draft.reference)).version
        except NotFound:  # of which a date says nothing
            current = None
        if not asked.holds(None if current is None else current.id):
            raise PreconditionFailed("the attachment is not in the state that was demanded")
        if limit is None or current is None:
            return draft
        return replace(draft, precondition=pinned(asked, current, limit))

    async def _key(self, draft: Draft, context: Context, ready: Ready | None) -> DataKey:
        """Return the key at hand if it is bound to this attachment, else ask for one."""
        if ready is not None and ready.attachment == context.attachment:
            return ready.key
        return await data_key(self._keys, context, request_id=draft.request_id)

    async def _stream(  # noqa: PLR0917 - one step of `store`, with what it made so far
        self,
        draft: Draft,
        context: Context,
        key: DataKey,
        source: AsyncIterable[bytes | memoryview],
        attachment: Attachment,
        blob: str,
        fan: Fan,
    ) -> Receipt:
        sealer = SegmentSealer(key.dek, context)
        digests = Digests({*draft.digests, *draft.wanted})
        pump = Pump(self._settings, sealer, fan, declared=draft.length)
        inline = await pump.run(source, digests)
        digests.verify(draft.digests)
        core = Core(context=context, created=time.time_ns() // 1000, segments=(sealer.segment,))
        envelope = _envelope(draft, core, key, digests, inline)
        sealed = encode(envelope)
        stored = await fan.finish(Piece(memoryview(sealed), crc64nvme(sealed)))
        version = Version(
            id=context.version,
            attachment=attachment.id,
            tenant=attachment.tenant,
            blob=blob,
            created=moment(
                core.created
            ),  # what a catalog that is rebuilt from envelopes will say, too
            size=core.plaintext_size,
            body_size=fan.body_size,
            envelope=sealed if inline is None else encode_bare(envelope),
            kek=key.kek,
            inline=inline,
        )
        roster = await self._commit(draft, version, fan.quorum, stored)
        shown = {n: value for n, value in digests.values().items() if n != INTERNAL}
        missed = frozenset(target.name for target in roster.targets) - stored
        degraded = not fan.quorum.satisfied(roster.targets, stored)
        if degraded:
            log.warning("degraded acknowledgement", policy=str(fan.quorum), missed=sorted(missed))
        return Receipt(attachment, version, stored, missed, shown, degraded)

    async def degraded(self, tenant: str, stored: frozenset[str]) -> bool:
        """Tell whether these targets are less than the tenant's quorum."""
        quorum = await self._policies.of(tenant)
        return not quorum.satisfied(self._placing.now.targets, stored)

    async def _commit(
        self, draft: Draft, version: Version, quorum: Quorum, stored: frozenset[str]
    ) -> Roster:
        """Commit by the quorum of the moment; return the roster that it was judged by.

        Where another target became the primary meanwhile, what is stored is judged anew. Raises
        QuorumLost when it is not enough any more.
        """
        while True:
            roster = self._placing.now
            if not self._replication.possible(quorum, stored, roster):
                raise QuorumLost("another target became the primary meanwhile; try again")
            try:
                await self._commit_once(draft, version, stored, roster)
            except PlacementChanged:
                if await self._placing.refresh() == roster:
                    raise
            else:
                return roster

    async def _commit_once(
        self, draft: Draft, version: Version, stored: frozenset[str], roster: Roster
    ) -> None:
        """Commit, and resolve an answer that was lost: the upload's id tells if it went through."""
        replicas = {
            target.name: ReplicaState.STORED if target.name in stored else ReplicaState.MISSING
            for target in roster.targets
        }
        try:
            await self._catalog.commit(
                version, replicas, draft.precondition, draft.operation, epoch=roster.epoch
            )
        except (CatalogUnavailable, UploadLost) as error:
            try:
                if await self._catalog.committed(version.id):
                    return
            except CatalogUnavailable:
                raise CatalogUnavailable(
                    "the outcome of this upload is not known; repeat it with the same"
                    " idempotency key, or look whether it is there",
                    retry_after=5.0,
                ) from error
            raise

    async def _discard(self, fan: Fan, upload: str) -> None:
        """Remove what a broken upload wrote; what cannot be removed now is left to the reaper.

        Fences first: a commit that went through after all, its answer lost or its request cancelled,
        keeps every byte.
        """
        if await self._catalog.fence(upload):
            await fan.clean_up()
            await self._catalog.forget(upload)


def _envelope(
    draft: Draft, core: Core, key: DataKey, digests: Digests, body: bytes | None
) -> Envelope:
    attributes = Attributes(
        name=draft.name,
        content_type=draft.content_type,
        reference=draft.reference,
        user=draft.user,
        digests=digests.values(),
    )
    return Envelope(
        core=core,
        attributes=seal_attributes(key.dek, core, attributes),
        wraps=(Wrap(kek=key.kek, wrapped=key.wrapped, created=core.created),),
        body=body,
    )
