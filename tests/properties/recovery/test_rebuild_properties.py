"""Whatever was stored, replaced and deleted: a rebuild gives the same references, versions and bytes."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.attachments.tenants import Tenants
from gateway.catalog import SqlCatalog, migrate, open_catalog
from gateway.model import Precondition
from gateway.pacing.background import Background
from tests.unit.gateway.conftest import PART, Bench
from tests.unit.gateway.recovery.conftest import Site, content

REFERENCES = ("a", "b", "a/b", "ü")
SIZES = (0, 1, 1024, 1025, 3 * PART)
puts = st.tuples(st.just("put"), st.sampled_from(REFERENCES), st.sampled_from(SIZES))
deletions = st.tuples(st.just("delete"), st.sampled_from(REFERENCES), st.just(0))
copies = st.tuples(st.just("copy"), st.just(""), st.just(0))
History = list[tuple[str, str, int]]


class Model:
    """What should be there: for each reference its attachments, each a list of contents."""

    def __init__(self) -> None:
        self.lines: dict[str, list[list[bytes]]] = {}
        self.live: set[str] = set()

    def put(self, reference: str, content: bytes) -> None:
        if reference not in self.live:
            self.lines.setdefault(reference, []).append([])
            self.live.add(reference)
        self.lines[reference][-1].append(content)

    def rebuilt(self) -> dict[str, list[bytes]]:
        """Without a copy of the catalog the last attachment of each reference is live."""
        return {reference: lines[-1] for reference, lines in self.lines.items()}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pristine") / "catalog.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path.read_bytes()


async def run(
    history: History, new_catalog: Callable[[], Awaitable[SqlCatalog]], *, use_backup: bool
) -> None:
    catalog = await new_catalog()
    async with Background() as background:
        bench = Bench(catalog, background)
        bench.tenant = (await Tenants(catalog, bench.keys).create()).id
        site, model = Site(bench, new_catalog), Model()
        copied: set[str] | None = None  # what was live when the last copy was taken
        touched: set[str] = set()
        for number, (what, reference, size) in enumerate(history):
            if what == "put":
                data = content(size, number + 1)
                await bench.store(data, reference)
                model.put(reference, data)
                touched.add(reference)
            elif what == "delete" and reference in model.live:
                await catalog.trash(bench.tenant, reference, Precondition())
                model.live.discard(reference)
            elif what == "copy":
                await site.backups().make(["east"])
                copied, touched = set(model.live), set()
        rebuilt, report = await site.rebuilt(use_backup=use_backup)

        assert report.clean
        shown = {
            found.attachment.reference for found in await rebuilt.list(bench.tenant, "", None, 99)
        }
        expected = model.rebuilt()
        if use_backup and copied is not None:
            # As it was at the copy, and what was stored since.
            assert shown == copied | touched
        else:
            assert shown == set(expected)
        for reference in shown:
            versions = await rebuilt.versions(bench.tenant, reference)
            contents = expected[reference]
            assert [each.version.size for each in versions] == [len(c) for c in contents[::-1]]
            assert await bench.read(reference) == contents[-1]


@pytest.mark.parametrize("use_backup", [False, True])
def test_a_rebuild_is_what_was_there(
    tmp_path: Path,
    pristine: bytes,
    use_backup: bool,  # noqa: FBT001
) -> None:
    numbers = itertools.count()
    steps = puts | deletions | copies if use_backup else puts | deletions

    @settings(max_examples=25, deadline=None)
    @given(st.lists(steps, max_size=8))
    def check(history: History) -> None:
        async def all_of_it() -> None:
            async with AsyncExitStack() as stack:

                async def new_catalog() -> SqlCatalog:
                    path = tmp_path / f"{next(numbers)}.db"
                    path.write_bytes(pristine)
                    opened = await open_catalog(f"sqlite:///{path}")
                    stack.push_async_callback(opened.close)
                    return opened

                await run(history, new_catalog, use_backup=use_backup)

        asyncio.run(all_of_it())

    check()
