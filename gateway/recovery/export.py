"""Restores plaintext: opens versions and writes them as files into a local folder.

Guarantees that only who holds a token with the right to read gets anything; that every key it uses is on
the key service's record, with the reason "restore" and the token's id; that a file appears only once all
of it was authenticated and the digests that were sealed with it were compared; and that a file which is
there is never overwritten: it counts as skipped when it is the same, and as failed when it is not. Takes
the current version of every live attachment, or the one that is named. Reads from any target it is given,
whatever the catalog says of its replicas.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.attachments.downloads import Downloads
from gateway.attachments.opened import Opened
from gateway.attachments.tokens import allow
from gateway.errors import DigestMismatch, NotFound, Unreadable
from gateway.flow.digests import Digests
from gateway.model import ReplicaState, Right, Token, Version
from gateway.pacing.rate import Rate
from gateway.ports import Catalog
from gateway.recovery.landing import Landing, LandingRefused, Reader
from gateway.recovery.restore import Outcome, Result, Scope
from keyservice.wire import CannotUnwrap, Shredded, Suspended

_PAGE: Final = 500
_COMPARED: Final = frozenset({"sha-256", "sha-512", "blake3"})

log = structlog.get_logger()


class Export:
    """The work. Raises Forbidden unless `token` may read all that is in the scope.

    `downloads` reads from the targets called `sources` alone.
    """

    def __init__(
        self,
        catalog: Catalog,
        downloads: Downloads,
        landing: Landing,
        token: Token,
        *,
        scope: Scope,
        sources: Sequence[str],
        run: str,
        rate: Rate | None = None,
    ) -> None:
        allow(token, scope.tenant, Right.READ)
        self._catalog = catalog
        self._downloads = downloads
        self._landing = landing
        self._scope = scope
        self._held = dict.fromkeys(sources, ReplicaState.STORED)
        self._token = token.id
        self._reason = f"restore, token {token.id}"
        self._run = run
        self._rate = rate or Rate()

    async def versions(self) -> AsyncGenerator[Version]:
        """See `Work`. Raises NotFound for a tenant, attachment or version that is not there."""
        log.warning(
            "attachments are opened into files",
            token=self._token,
            tenant=self._scope.tenant or "all",
            run=self._run,
        )
        if self._scope.reference is not None and self._scope.tenant is not None:
            found = await self._catalog.find(
                self._scope.tenant, self._scope.reference, self._scope.version
            )
            if self._scope.takes(found.version):
                yield found.version
            return
        async with aclosing(self._tenants()) as tenants:
            async for tenant in tenants:
                async with aclosing(self._current(tenant)) as versions:
                    async for version in versions:
                        yield version

    async def _tenants(self) -> AsyncGenerator[str]:
        if self._scope.tenant is not None:
            yield (await self._catalog.tenant(self._scope.tenant)).id
            return
        after = None
        while page := await self._catalog.tenants(after, _PAGE):
            for tenant in page:
                yield tenant.id
            after = page[-1].id

    async def _current(self, tenant: str) -> AsyncGenerator[Version]:
        after = None
        while page := await self._catalog.list(tenant, "", after, _PAGE):
            for found in page:
                if self._scope.takes(found.version):
                    yield found.version
            after = page[-1].attachment.reference

    def size(self, version: Version) -> int:
        """See `Work`: plaintext bytes."""
        return version.size

    async def present(self, version: Version) -> bool:
        """See `Work`: there is a file for it, of the right length."""
        return await asyncio.to_thread(self._lies_there, version)

    def _lies_there(self, version: Version) -> bool:
        path = self._landing.find(version.tenant, version.id)
        return path is not None and path.lstat().st_size == version.size

    async def do(self, version: Version) -> Result:
        """See `Work`. Raises KeyServiceErrors and CatalogErrors that the next version would meet, too."""
        outcome, reason = Outcome.FAILED, ""
        try:
            outcome = await self._bring(version)
        except (Shredded, Suspended) as error:
            outcome, reason = Outcome.REFUSED, error.code
        except NotFound:
            reason = "deleted meanwhile"
        except CannotUnwrap:
            reason = "its key cannot be opened"
        except DigestMismatch:
            reason = "a digest that was sealed with it differs"
        except (Unreadable, LandingRefused) as error:
            reason = str(error)
        return Result(version, outcome, version.size, reason=reason)

    async def _bring(self, version: Version) -> Outcome:
        found = await self._catalog.by_version(version.tenant, version.id)
        if found.attachment.deleted is not None:
            raise NotFound
        opened = await self._downloads.open(
            replace(found, replicas=self._held), request_id=self._run, reason=self._reason
        )
        there = await asyncio.to_thread(self._landing.find, version.tenant, version.id)
        if there is None:
            outcome, path = Outcome.RESTORED, await self._write(opened)
        else:
            outcome, path = Outcome.SKIPPED, there
            await self._compare(opened, there)
        await asyncio.to_thread(self._landing.note, version.tenant, _line(opened, path))
        return outcome

    async def _write(self, opened: Opened) -> Path:
        version = opened.found.version
        shown = opened.attributes.name or opened.found.attachment.reference
        draft = await asyncio.to_thread(self._landing.begin, version.tenant, version.id, shown)
        try:
            async with aclosing(self._plaintext(opened)) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(draft.write, piece)
            await asyncio.to_thread(draft.finish)
        finally:
            await asyncio.to_thread(draft.discard)
        return draft.path

    async def _compare(self, opened: Opened, path: Path) -> None:
        """Raise LandingRefused unless the file at `path` is this version, byte for byte."""
        reader = await asyncio.to_thread(Reader, path)
        try:
            async with aclosing(self._plaintext(opened)) as pieces:
                async for piece in pieces:
                    if await asyncio.to_thread(reader.read, len(piece)) != piece:
                        raise LandingRefused("a file with other content has its name")
            if await asyncio.to_thread(reader.read, 1):
                raise LandingRefused("a file with other content has its name")
        finally:
            reader.close()

    async def _plaintext(self, opened: Opened) -> AsyncGenerator[bytes]:
        """Stream all of a version; raises DigestMismatch behind the last byte."""
        sealed = {n: v for n, v in opened.attributes.digests.items() if n in _COMPARED}
        running = Digests(sealed)
        async with aclosing(self._downloads.read(opened, 0, opened.size)) as pieces:
            async for piece in pieces:
                await self._rate.take(len(piece))
                running.update(piece)
                yield piece
        running.verify(sealed)

    async def record(self, results: Sequence[Result]) -> None:
        """See `Work`: the catalog knows nothing of local files."""


def _line(opened: Opened, path: Path) -> Mapping[str, Any]:
    found, attributes = opened.found, opened.attributes
    return {
        "file": path.name,
        "reference": found.attachment.reference,
        "version": found.version.id,
        "created": found.version.created.isoformat(),
        "size": found.version.size,
        "name": attributes.name,
        "content_type": attributes.content_type,
        "metadata": dict(attributes.user),
    }
