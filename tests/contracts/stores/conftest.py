"""Every adapter of the store port as a fixture: the real ones, and doubles as extra subjects."""

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import Request, urlopen

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

from gateway.model import new_id
from gateway.ports import Store
from gateway.stores.folder import FolderStore
from gateway.stores.memory import MemoryStore
from gateway.stores.retry import RetryBudget, RetryPolicy
from gateway.stores.retrying import RetryingStore
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings
from tests.contracts.stores.faulty import FaultyStore, no_sleep
from tests.servers.ports import LOOPBACK, free_port
from tests.servers.versitygw import Versitygw

MIB = 1024 * 1024
# What the servers get wrong, by the test that shows it. Everything else they have to pass.
KNOWN = {
    ("moto", "test_unfinished_uploads_tell_when_they_began"): "says that all uploads began in 2010",
    ("s3", "test_of_many_who_create_one_key_one_wins"): (
        "looks whether the key is free before it writes, not as it writes: two that race both win"
    ),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test, and the least size of its parts but the last."""

    name: str
    store: Store
    part: int


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Start moto's S3 server and return its endpoint. It answers one request after the other.

    Beside each other, two that create a key may both win, and one that is read may be closed meanwhile.
    """
    port, turn, answer = free_port(), Lock(), DomainDispatcherApplication.__call__

    def alone(*request: Any) -> Any:
        with turn:
            return answer(*request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DomainDispatcherApplication, "__call__", alone)
        server = ThreadedMotoServer(LOOPBACK, port, verbose=False)
        server.start()
        yield f"http://{LOOPBACK}:{port}"
        server.stop()


@pytest.fixture(params=["memory", "folder", "s3", "moto", "retrying"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Give each adapter in turn, empty."""
    name = request.param
    if reason := KNOWN.get((name, request.node.originalname)):
        pytest.skip(f"{name} {reason}")
    store: Store
    if name == "memory":
        store = MemoryStore()
    elif name == "folder":
        store = FolderStore(tmp_path)
    elif name == "retrying":
        faulty = FaultyStore(MemoryStore(), random.Random(7), rate=0.3)
        policy = RetryPolicy(tries=30)
        store = RetryingStore(faulty, policy, RetryBudget(1e9), sleep=no_sleep)
    elif name == "s3":
        server: Versitygw = request.getfixturevalue("s3")
        store = S3Store(settings(server, server.new_bucket()))
    else:
        store = S3Store(moto_settings(request.getfixturevalue("moto")))
    yield Subject(name, store, 5 * MIB if name in {"s3", "moto"} else 1)
    await store.close()


@pytest.fixture
def store(subject: Subject) -> Store:
    """Give the subject's store."""
    return subject.store


def settings(server: Versitygw, bucket: str) -> S3Settings:
    """Return what is needed to use a bucket of versitygw."""
    return S3Settings(
        "test",
        bucket,
        server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        connections=8,
        connect_timeout=60.0,  # the machine may be busy
        stall_timeout=60.0,
    )


def moto_settings(endpoint: str) -> S3Settings:
    """Make a bucket in moto and return what is needed to use it."""
    bucket = f"bucket-{new_id()[:12]}"
    with urlopen(Request(f"{endpoint}/{bucket}", method="PUT")):
        pass
    return S3Settings("test", bucket, endpoint, access_key="test", secret_key="secret")
