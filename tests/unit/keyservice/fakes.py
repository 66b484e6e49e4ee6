"""Stand-ins for what the key service needs: a root, a key store, an audit sink and a clock."""

# ruff: noqa: ARG002 - the ports describe these methods, and a fake needs few arguments

import asyncio
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyservice.access.audit import AuditRecord
from keyservice.errors import CannotUnwrap, Conflict, Unavailable, UnknownTenant, WrongState
from keyservice.keys import seal
from keyservice.ports import RootKind, RootStatus, RootVersions
from keyservice.records import (
    SHARED,
    WRAPPED,
    Custody,
    KekState,
    KekVersion,
    RootRef,
    TenantRecord,
    TenantState,
    Tier,
    Versioned,
)


class FakeClock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeRoot:
    """A root in memory that counts its calls, and can be down or held up."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)
        self.calls: list[str] = []
        self.down = False
        self.hold: asyncio.Event | None = None
        self.generations: dict[object, RootVersions] = {}

    @property
    def kind(self) -> RootKind:
        return "local"

    async def create(self, tenant: str, root: RootRef) -> None:
        await self._called("create")

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        await self._called("wrap")
        return self._wrap(tenant, root, plaintext)

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        await self._called("unwrap")
        return self._unwrap(tenant, root, wrapped)

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        await self._called("rewrap")
        return self._wrap(tenant, root, self._unwrap(tenant, root, wrapped))

    async def rotate(self, tenant: str, root: RootRef) -> int:
        await self._called("rotate")
        found = self._generation(tenant, root)
        self.generations[_place(tenant, root)] = replace(found, latest=found.latest + 1)
        return found.latest + 1

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:
        await self._called("versions")
        return self._generation(tenant, root)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:
        await self._called("retire")
        found = self._generation(tenant, root)
        if minimum > found.latest:
            raise WrongState("no such version")
        raised = replace(found, minimum=max(found.minimum, minimum))
        self.generations[_place(tenant, root)] = raised

    async def destroy(self, tenant: str, root: RootRef) -> None:
        await self._called("destroy")
        self.generations[_place(tenant, root)] = RootVersions(0, 1)

    def _generation(self, tenant: str, root: RootRef) -> RootVersions:
        found = self.generations.get(_place(tenant, root), RootVersions(1, 1))
        if not found.latest:
            raise UnknownTenant("root key is destroyed")
        return found

    def _wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        nonce, head = secrets.token_bytes(12), f"fake:v{self._generation(tenant, root).latest}:"
        aad = f"{tenant}|{root}|{head}".encode()
        return head + (nonce + AESGCM(self.key).encrypt(nonce, plaintext, aad)).hex()

    def _unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:
        found, head = self._generation(tenant, root), WRAPPED.match(wrapped)
        if head is None or not found.minimum <= int(head[1]) <= found.latest:
            raise CannotUnwrap
        raw, aad = bytes.fromhex(wrapped[head.end() :]), f"{tenant}|{root}|{head[0]}".encode()
        try:
            return AESGCM(self.key).decrypt(raw[:12], raw[12:], aad)
        except InvalidTag:
            raise CannotUnwrap from None

    async def status(self) -> RootStatus:
        return RootStatus(healthy=not self.down, detail="fake root")

    async def close(self) -> None:
        pass

    async def _called(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise Unavailable("fake root is down", retry_after=7)


def _place(tenant: str, root: RootRef) -> object:
    return root if root.custody is Custody.SHARED else (tenant, root)


class FakeStore:
    """Records in memory, with check-and-set; counts its reads."""

    def __init__(self) -> None:
        self.held: dict[str, Versioned] = {}
        self.history: dict[str, dict[int, TenantRecord]] = {}
        self.reads = 0
        self.down = False

    async def read(self, tenant: str) -> Versioned:
        self.reads += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("fake store is down")
        if tenant not in self.held:
            raise UnknownTenant("no such tenant")
        return self.held[tenant]

    async def write(self, record: TenantRecord, expected_version: int) -> int:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("fake store is down")
        held = self.held.get(record.tenant)
        if (held.version if held else 0) != expected_version:
            raise Conflict("other version")
        self.held[record.tenant] = Versioned(record, expected_version + 1)
        self.history.setdefault(record.tenant, {})[expected_version + 1] = record
        return expected_version + 1

    async def past(self, tenant: str, version: int) -> TenantRecord | None:
        return self.history.get(tenant, {}).get(version)

    async def forget(self, tenant: str, before: int) -> None:
        await self.read(tenant)
        kept = self.history.get(tenant, {})
        self.history[tenant] = {n: record for n, record in kept.items() if n >= before}

    async def tenants(self) -> Sequence[str]:
        return sorted(self.held)

    async def status(self) -> RootStatus:
        return RootStatus(healthy=not self.down, detail="fake store")

    async def close(self) -> None:
        pass


class FakeJournal:
    """Lines in memory; can be down, also just after it wrote, and counts its writes."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, int], str] = {}
        self.down = False
        self.lost_answers = 0  # writes that happen and fail
        self.adds = 0

    async def head(self, tenant: str) -> int:
        self._up()
        return max((n for place, n in self.lines if place == tenant), default=0)

    async def add(self, tenant: str, sequence: int, text: str) -> None:
        self._up()
        await asyncio.sleep(0)
        if (tenant, sequence) in self.lines:
            raise Conflict("taken")
        self.lines[tenant, sequence] = text
        self.adds += 1
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable("answer was lost")

    async def read(self, tenant: str, sequence: int) -> str | None:
        self._up()
        await asyncio.sleep(0)
        return self.lines.get((tenant, sequence))

    async def close(self) -> None:
        pass

    def of(self, tenant: str) -> list[dict[str, Any]]:
        """Return the entries of a tenant."""
        numbers = sorted(n for place, n in self.lines if place == tenant)
        return [json.loads(self.lines[tenant, number]) for number in numbers]

    def _up(self) -> None:
        if self.down:
            raise Unavailable("fake journal is down")


class FakeSink:
    """Keeps what is written; can fail or hang."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.fails = False
        self.hangs = False

    async def write(self, records: Sequence[AuditRecord]) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.fails:
            raise OSError(28, "no space left")
        self.records += records

    async def close(self) -> None:
        pass


def tenant_id(name: str) -> str:
    """Return a tenant id that is the same for the same name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


async def add_tenant(
    root: FakeRoot,
    store: FakeStore,
    name: str,
    *,
    ttl: float = 60.0,
    state: TenantState = TenantState.ACTIVE,
    versions: int = 1,
) -> TenantRecord:
    """Put a tenant with so many KEKs in the store, the last of them current."""
    tenant = tenant_id(name)
    keks = []
    for number in range(1, versions + 1):
        wrapped = await root.wrap(tenant, SHARED, secrets.token_bytes(32))
        kek_state = KekState.CURRENT if number == versions else KekState.RETIRED
        keks.append(KekVersion(f"{tenant}/{number}", wrapped, number, kek_state))
    record = TenantRecord(tenant, Tier.STANDARD, state, ttl, tuple(keks), SHARED)
    record = put(root, store, record)
    root.calls.clear()
    return record


def put(root: FakeRoot, store: FakeStore, record: TenantRecord) -> TenantRecord:
    """Put the record in the store as the key service would, sealed where its KEK opens."""
    version = (store.held[record.tenant].version if record.tenant in store.held else 0) + 1
    record = replace(record, revision=version)
    if record.current is not None:
        kek = root._unwrap(record.tenant, record.root, record.current.wrapped)
        record = seal.seal(kek, record)
    store.held[record.tenant] = Versioned(record, version)
    return record
