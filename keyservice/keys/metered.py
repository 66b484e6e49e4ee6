"""A root that counts its calls; otherwise the root it wraps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keyservice.errors import KeyServiceError
from keyservice.ports import Root, RootKind, RootStatus, RootVersions
from keyservice.records import RootRef


class MeteredRoot:
    """Reports (call, outcome) of every call; outcome is `ok` or the code of the error."""

    def __init__(self, root: Root, report: Callable[[str, str], None]) -> None:
        self._root = root
        self._report = report

    @property
    def kind(self) -> RootKind:
        """See `Root.kind`."""
        return self._root.kind

    async def create(self, tenant: str, root: RootRef) -> None:
        """See `Root.create`."""
        with self._counted("create"):
            await self._root.create(tenant, root)

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`."""
        with self._counted("wrap"):
            return await self._root.wrap(tenant, root, plaintext)

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        """See `Root.unwrap`."""
        with self._counted("unwrap"):
            return await self._root.unwrap(tenant, root, wrapped)

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        with self._counted("rewrap"):
            return await self._root.rewrap(tenant, root, wrapped)

    async def rotate(self, tenant: str, root: RootRef) -> int:
        """See `Root.rotate`."""
        with self._counted("rotate"):
            return await self._root.rotate(tenant, root)

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        """See `Root.versions`."""
        with self._counted("versions"):
            return await self._root.versions(tenant, root)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        """See `Root.retire`."""
        with self._counted("retire"):
            await self._root.retire(tenant, root, minimum)

    async def destroy(self, tenant: str, root: RootRef) -> None:
        """See `Root.destroy`."""
        with self._counted("destroy"):
            await self._root.destroy(tenant, root)

    async def status(self) -> RootStatus:
        """See `Root.status`."""
        return await self._root.status()

    async def close(self) -> None:
        """See `Root.close`."""
        await self._root.close()

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        try:
            yield
        except KeyServiceError as error:
            self._report(call, error.code)
            raise
        self._report(call, "ok")
