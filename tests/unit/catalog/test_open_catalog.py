"""Opening a catalog: which URLs are understood, and what the file looks like from outside."""

import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import Connection

from gateway.catalog import migrate, open_catalog
from gateway.errors import CatalogUnavailable


@pytest.mark.parametrize(
    "url",
    [
        "catalog.db",
        "mysql://user:secret@host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/path",
        "user:secret@host/db",
        "postgresql://user:secret@db.example/db?sslmode=prefer",
    ],
)
async def test_url_that_names_no_database(url: str) -> None:
    for attempt in (open_catalog(url), migrate(url)):
        with pytest.raises(ValueError, match=r"sqlite://|sslmode") as caught:
            await attempt
        assert "secret" not in str(caught.value)


async def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for scheme in ("sqlite", "sqlite+aiosqlite"):
        await migrate(f"{scheme}:///catalog.db")
    assert (tmp_path / "catalog.db").exists()


async def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable):
        await migrate(f"sqlite:///{tmp_path}/none/catalog.db")


async def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CatalogUnavailable):
        await open_catalog(f"sqlite:///{tmp_path}/catalog.db")


async def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url)
    assert _modes(tmp_path) == dict.fromkeys(
        ["catalog.db", "catalog.db-wal", "catalog.db-shm"], 0o600
    )
    await catalog.close()
    assert list(_modes(tmp_path)) == ["catalog.db"]  # all in one file again


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_settings_that_durability_rests_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    catalog = await open_catalog(url)

    def settings(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    for run in (catalog._database.write, catalog._database.read):
        assert await run(settings) == ["wal", 2, 1]
    await catalog.close()


async def test_nothing_runs_on_after_close(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    await (await open_catalog(url)).close()
    database = sqlite3.connect(tmp_path / "catalog.db", timeout=0)
    database.execute("BEGIN EXCLUSIVE")
    database.close()
