"""Any sequence of calls: the databases and a model over dictionaries answer alike."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.catalog import SqlCatalog, open_catalog
from gateway.errors import GatewayError
from gateway.model import Operation, Precondition, ReplicaState, Tenant, Upload, Version, new_id
from tests.contracts.catalog.conftest import PATIENCE
from tests.contracts.catalog.memory import MemoryCatalog
from tests.contracts.catalog.samples import LEASE, START, at, version_of

TENANTS = [new_id(), new_id()]
REFERENCES = ["a", "a/b", "ab", "\U0001f600"]
KEYS = [b"1" * 32, b"2" * 32]

tenants = st.sampled_from(TENANTS)
references = st.sampled_from(REFERENCES)
keys = st.sampled_from(KEYS)
preconditions = st.builds(Precondition, st.none() | st.booleans())
states = st.dictionaries(st.sampled_from(["p", "b"]), st.sampled_from(ReplicaState))


class CatalogMachine(RuleBasedStateMachine):
    """Every rule makes the same call of both; invariants compare all that can be read."""

    url: str
    empty: Callable[[], None]

    uploads = Bundle("uploads")
    operations = Bundle("operations")

    def __init__(self) -> None:
        super().__init__()
        self.empty()
        self.runner = asyncio.Runner()
        self.clock = 0
        opened = open_catalog(self.url, patience=PATIENCE, clock=lambda _: at(self.clock))
        self.catalog: SqlCatalog = self.runner.run(opened)
        self.model = MemoryCatalog(TENANTS, lambda: at(self.clock))
        self.blobs: list[str] = []
        self.versions: dict[str, Version] = {}

    @initialize()
    def add_tenants(self) -> None:
        for tenant in TENANTS:
            self.runner.run(_done(self.catalog.add_tenant(Tenant(tenant, "standard", START))))

    @rule(target=uploads, tenant=tenants, reference=references)
    def begin(self, tenant: str, reference: str) -> str:
        return self._begin(new_id(), tenant, reference)

    @rule(target=operations, tenant=tenants, key=keys)
    def claim(self, tenant: str, key: bytes) -> Operation:
        operation = Operation(tenant, key, new_id().encode(), new_id())
        self._both("claim", operation, LEASE)
        return operation

    @rule(operation=operations)
    def claim_again(self, operation: Operation) -> None:
        self._both("claim", operation, LEASE)

    @rule(target=uploads, operation=operations, reference=references)
    def begin_claimed(self, operation: Operation, reference: str) -> Any:
        if operation.upload in self.versions:
            return multiple()
        return self._begin(operation.upload, operation.tenant, reference)

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def wait(self, seconds: int) -> None:
        self.clock += seconds

    @rule(upload=uploads)
    def touch(self, upload: str) -> None:
        self._both("touch", [upload])

    @rule(upload=uploads, replicas=states, precondition=preconditions)
    def commit(
        self, upload: str, replicas: dict[str, ReplicaState], precondition: Precondition
    ) -> None:
        self._both("commit", self.versions[upload], replicas, precondition, None)

    @rule(upload=uploads, current=uploads)
    def commit_if_match(self, upload: str, current: str) -> None:
        precondition = Precondition(versions=frozenset({current}))
        self._both("commit", self.versions[upload], {}, precondition, None)

    @rule(operation=operations)
    def commit_claimed(self, operation: Operation) -> None:
        if version := self.versions.get(operation.upload):
            key = operation.tenant, operation.key_hash
            self._both("commit", version, {}, Precondition(), key)

    @rule(upload=uploads)
    def fence(self, upload: str) -> None:
        self._both("fence", upload)

    @rule(seconds=st.sampled_from([0, 60]), limit=st.sampled_from([1, 99]))
    def stale(self, seconds: int, limit: int) -> None:
        self._both("stale", timedelta(seconds=seconds), limit)

    @rule(upload=uploads)
    def forget(self, upload: str) -> None:
        self._both("forget", upload)

    @rule(tenant=tenants, reference=references, named=st.none() | uploads)
    def trash(self, tenant: str, reference: str, named: str | None) -> None:
        precondition = Precondition(versions=None if named is None else frozenset({named}))
        self._both("trash", tenant, reference, precondition)

    @rule(operation=operations)
    def release(self, operation: Operation) -> None:
        self._both("release", operation.tenant, operation.key_hash, operation.upload)

    @rule(tenant=tenants, upload=uploads, reference=references)
    def ask_for_a_version(self, tenant: str, upload: str, reference: str) -> None:
        self._both("find", tenant, reference, upload)
        self._both("by_version", tenant, upload)
        self._both("committed", upload)

    @rule(
        tenant=tenants,
        prefix=st.sampled_from(["", "a", "a/"]),
        after=st.none() | references,
        limit=st.integers(1, 3),
    )
    def page(self, tenant: str, prefix: str, after: str | None, limit: int) -> None:
        self._both("list", tenant, prefix, after, limit)

    @rule(tenant=tenants, reference=references, after=uploads, limit=st.integers(1, 3))
    def page_of_versions(self, tenant: str, reference: str, after: str, limit: int) -> None:
        self._both("versions", tenant, reference, None, limit)
        self._both("versions", tenant, reference, after, limit)

    @invariant()
    def reads_agree(self) -> None:
        for tenant in TENANTS:
            self._both("list", tenant, "", None, 99)
        known = self.runner.run(_done(self.catalog.known(self.blobs)))
        assert known == self.model.known()

    @rule(tenant=tenants, reference=references)
    def ask_for_versions(self, tenant: str, reference: str) -> None:
        self._both("find", tenant, reference)
        self._both("versions", tenant, reference)

    def teardown(self) -> None:
        self.runner.run(self.catalog.close())
        self.runner.close()

    def _begin(self, id_: str, tenant: str, reference: str) -> str:
        started = at(self.clock)
        upload = Upload(id_, tenant, new_id(), new_id(), started, started)
        attachment = self._both("begin", upload, reference)
        self.versions[id_] = replace(version_of(upload, attachment), size=len(self.blobs))
        self.blobs.append(upload.blob)
        return id_

    def _both(self, method: str, *args: Any) -> Any:
        expected = _outcome(functools.partial(getattr(self.model, method), *args))
        call = getattr(self.catalog, method)
        result = _outcome(lambda: self.runner.run(_done(call(*args))))
        assert result == expected, method
        return result


async def _done(call: Awaitable[Any]) -> Any:
    return await call


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except GatewayError as error:
        return type(error)


def _run(url: str, empty: Callable[[], None], examples: int) -> None:
    machine = type("Machine", (CatalogMachine,), {"url": url, "empty": staticmethod(empty)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sqlite_is_the_model(tmp_path: Path, pristine_sqlite: bytes) -> None:
    path = tmp_path / "catalog.db"

    def empty() -> None:
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(pristine_sqlite)

    _run(f"sqlite:///{path}", empty, examples=30)


@pytest.mark.usefixtures("postgres")
def test_postgresql_is_the_model(
    migrated_postgres: str, empty_postgres: Callable[[], None]
) -> None:
    _run(migrated_postgres, empty_postgres, examples=8)
