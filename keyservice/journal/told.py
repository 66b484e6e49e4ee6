"""A way in for root keys that counts what comes in and tells the journal; otherwise the one it wraps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keyservice.errors import KeyServiceError
from keyservice.journal.differences import root_text
from keyservice.journal.journal import Journal
from keyservice.journal.journalled import change_of_root
from keyservice.ports import KeyImport
from keyservice.records import RootRef


class ToldImport:
    """Reports (call, outcome) of every call; outcome is `ok` or the code of the error."""

    def __init__(
        self, imports: KeyImport, journal: Journal, report: Callable[[str, str], None]
    ) -> None:
        self._imports = imports
        self._journal = journal
        self._report = report

    async def wrapping_key(self) -> str:
        """See `KeyImport.wrapping_key`."""
        with self._counted("wrapping-key"):
            return await self._imports.wrapping_key()

    async def bring(self, tenant: str, root: RootRef, parcel: bytes) -> None:
        """See `KeyImport.bring`."""

        async def bring() -> None:
            with self._counted("import"):
                await self._imports.bring(tenant, root, parcel)

        await change_of_root(
            self._journal,
            "import",
            (tenant, root),
            bring,
            lambda _: [{"what": "root-imported", "root": root_text(root)}],
        )

    async def bring_version(self, tenant: str, root: RootRef, parcel: bytes) -> int:
        """See `KeyImport.bring_version`."""

        async def bring() -> int:
            with self._counted("import-version"):
                return await self._imports.bring_version(tenant, root, parcel)

        return await change_of_root(
            self._journal,
            "import-version",
            (tenant, root),
            bring,
            lambda version: [
                {"what": "root-version-imported", "root": root_text(root), "version": version}
            ],
        )

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        try:
            yield
        except KeyServiceError as error:
            self._report(call, error.code)
            raise
        self._report(call, "ok")
