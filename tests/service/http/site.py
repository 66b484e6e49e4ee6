"""A gateway for tests: the real application, key service, catalog and sockets over stores in memory.

Everything runs in the test's own event loop, so that a test can break a store, count calls and look
into the catalog between two requests.
"""

import asyncio
import contextlib
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from gateway.attachments.tokens import Tokens
from gateway.catalog.open import migrate, open_catalog
from gateway.model import Right
from gateway.ports import Catalog
from gateway.settings.config import Settings
from gateway.wiring import app
from gateway.wiring.adapters import key_client
from keyservice import config as key_config
from keyservice.client.client import KeyServiceClient
from keyservice.wire import DataKey, KeyServiceError, Status, WrappedKey
from keyservice.wiring import app as key_app
from tests.service.http.application import Application
from tests.service.http.broken_store import BrokenStore
from tests.service.http.eventually import eventually

TARGETS = ("primary", "east", "west")
EVERY = tuple(Right)


@dataclass(slots=True)
class CountedKeys:
    """The real client of the real key service, counted, and failing on demand."""

    inner: KeyServiceClient
    calls: Counter[str] = field(default_factory=Counter)
    refuse: KeyServiceError | None = None

    def __getattr__(self, name: str) -> Any:
        """Give what administration asks, uncounted."""
        return getattr(self.inner, name)

    def mend(self) -> None:
        """Forget the fault and the counts."""
        self.refuse = None
        self.calls.clear()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.inner.__aexit__(kind, error, trace)

    def _called(self, what: str) -> None:
        self.calls[what] += 1
        if self.refuse is not None:
            raise self.refuse

    async def create_tenant(
        self, tenant: str, *, tier: str = "standard", request_id: str = ""
    ) -> None:
        self._called("create_tenant")
        await self.inner.create_tenant(tenant, tier=tier, request_id=request_id)

    async def usable(self, tenant: str, *, request_id: str = "") -> None:
        if self.refuse is not None:  # not counted: the client remembers
            raise self.refuse
        await self.inner.usable(tenant, request_id=request_id)

    def remembered(self, tenant: str) -> bool:
        return self.refuse is None and self.inner.remembered(tenant)

    async def data_keys(
        self, tenant: str, contexts: Sequence[bytes], *, reason: str, request_id: str
    ) -> list[DataKey | KeyServiceError]:
        self._called("data_keys")
        return await self.inner.data_keys(tenant, contexts, reason=reason, request_id=request_id)

    async def unwrap(
        self, tenant: str, keys: Sequence[WrappedKey], *, reason: str, request_id: str
    ) -> list[bytes | KeyServiceError]:
        self._called("unwrap")
        return await self.inner.unwrap(tenant, keys, reason=reason, request_id=request_id)

    async def status(self) -> Status:
        self._called("status")
        return await self.inner.status()


@dataclass(slots=True)
class Site:
    """A running gateway and what stands behind it."""

    url: str
    stores: dict[str, BrokenStore]
    keys: CountedKeys
    catalog: Catalog
    tokens: Tokens
    home: Path
    stop_keys: Callable[[], Awaitable[None]]  # only from the task that started the site

    def mend(self) -> None:
        """Forget all faults and counts."""
        self.keys.mend()
        for store in self.stores.values():
            store.mend()

    def store_calls(self) -> int:
        """Count the requests that reached any store."""
        return sum(store.calls.total() for store in self.stores.values())

    async def objects(self) -> set[str]:
        """Name every object on every store."""
        return {f"{name}:{key}" for name in self.stores for key in await self.stores[name].keys()}

    async def uploads(self) -> int:
        """Count the uploads that are under way or not yet cleaned up."""
        with contextlib.closing(sqlite3.connect(self.home / "catalog.db")) as database:
            (count,) = database.execute("select count(*) from uploads").fetchone()
        return int(count)

    async def under_way(self) -> None:
        """Wait until an upload runs."""
        await eventually(self.uploads)

    async def settled(self) -> None:
        """Wait until no upload runs and every broken one is cleaned up."""

        async def none() -> bool:
            return not await self.uploads()

        await eventually(none)

    async def objects_of(self, path: str) -> set[str]:
        """Name what all stores together hold of the tenant in a path."""
        tenant = path.split("/")[3]
        return {item for item in await self.objects() if f"t/{tenant}/" in item}

    async def token(
        self,
        tenant: str | None = None,
        rights: Iterable[Right] = EVERY,
        *,
        lifetime: timedelta = timedelta(hours=1),
    ) -> str:
        """Return the text of a new token."""
        return (await self.tokens.create(tenant, rights, lifetime=lifetime)).text

    @contextlib.asynccontextmanager
    async def application(self, token: str | None) -> AsyncIterator[Application]:
        """Give a client that sends this token."""
        async with Application(self.url, token) as client:
            yield client

    @contextlib.asynccontextmanager
    async def tenant(self) -> AsyncIterator[tuple[Application, str]]:
        """Give a client of a fresh tenant, and a path for its first attachment."""
        async with self.application(await self.token()) as admin:
            made = await admin.send("POST", "/v1/tenants")
        assert made.status == 201, made.body
        tenant = made.json["tenant"]
        async with self.application(await self.token(tenant)) as client:
            yield client, f"/v1/tenants/{tenant}/attachments/one"


def _key_settings(home: Path) -> key_config.Settings:
    token = home / "keyservice.token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    (home / "records").mkdir()
    return key_config.Settings.model_validate(
        {
            "listen": {"unix_socket": home / "keys.sock"},
            "development": {"token_file": token},
            "root": {"local": {"key_file": home / "root.key", "records": home / "records"}},
            "audit": {"file": home / "audit.jsonl", "fsync": False},
        }
    )


def _settings(home: Path, names: Sequence[str], extra: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {
        "listen": {"host": "127.0.0.1", "port": 0},
        "keyservice": {
            "url": f"unix://{home / 'keys.sock'}",
            "token_file": home / "keyservice.token",
            "timeout": 15.0,
        },
        "catalog": {"url": f"sqlite:///{home / 'catalog.db'}"},
        "targets": [
            {
                "name": name,
                "role": "primary" if name == "primary" else "backup",
                "kind": "folder",
                "path": home / name,
            }
            for name in names
        ],
        "drain_timeout": 0.5,
        # All runs in one process: where that has to wait for the machine, no store was slow.
        "limits": {
            "backup_patience": 30.0,
            "first_byte": 60.0,
            "silence": 60.0,
            "hedge_after": 60.0,
        },
    }
    limits = {**values["limits"], **extra.get("limits", {})}
    return Settings.model_validate({**values, **extra, "limits": limits})


@contextlib.asynccontextmanager
async def running_site(
    home: Path, *, targets: Sequence[str] = TARGETS, **extra: Any
) -> AsyncIterator[Site]:
    """Run a gateway for as long as the block lasts; `extra` are its settings by section."""
    stores = {name: BrokenStore(name) for name in targets}
    clients: list[CountedKeys] = []

    def counted(settings: Settings) -> CountedKeys:
        clients.append(CountedKeys(key_client(settings)))
        return clients[-1]

    keys_up = key_app.running(_key_settings(home))
    settings = await asyncio.to_thread(_settings, home, targets, extra)  # it looks at the disk
    url = settings.catalog.url or ""
    await migrate(url)
    async with contextlib.AsyncExitStack() as keys, contextlib.AsyncExitStack() as gateway:
        await keys.enter_async_context(keys_up)
        # Only while it starts: the site may outlive this package's tests.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.wiring.core.open_store", lambda store: stores[store.name])
            patch.setattr("gateway.wiring.core.key_client", counted)
            address = await gateway.enter_async_context(app.running(settings))
        catalog = await open_catalog(url)
        try:
            yield Site(address, stores, clients[0], catalog, Tokens(catalog), home, keys.aclose)
        finally:
            await catalog.close()
