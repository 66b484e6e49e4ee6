"""Real servers as fixtures, and the rules that every test is held to.

A missing server skips its tests on a laptop, with a line in the header that says how to
get it, and fails them under CI. `vault`, `s3` and `postgres` are shared by the session;
a test that breaks its server starts its own with `new_vault` or `new_s3`.
"""

import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Never

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.doubles.blocking import never_blocked
from tests.servers import binary, certificates
from tests.servers import postgres as postgresql
from tests.servers.certificates import Certificates
from tests.servers.postgres import Postgres
from tests.servers.vault import NewVault, SealableVault, Vault
from tests.servers.versitygw import Versitygw
from tests.stack.stack import Stack

_INSTALL = "run `python -m tests.servers.install`"
_TESTS = Path(__file__).parent

# The same examples everywhere and each time, and none that fails because the machine is busy. To look for
# others: `--hypothesis-profile=default`.
settings.register_profile(
    "tests",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Watch the programs that tests start. Benchmarks leave them as they are."""
    Stack.watched = True


def pytest_report_header() -> list[str]:
    """Say at the top which real servers this run has."""
    found: dict[str, Path | None] = {r.name: binary.find(r) for r in binary.RECIPES}
    found["postgresql"] = postgresql.find_programs()
    return [f"{name}: {place or f'MISSING ({_INSTALL})'}" for name, place in found.items()]


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what loads the machine or measures it: `make test` runs that by itself."""
    for item in items:
        if "load" in item.path.relative_to(_TESTS).parts:
            item.add_marker("alone")


@pytest.fixture(autouse=True)
def _loop_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a service test in which our own code blocks the event loop."""
    if not {"service", "faults"}.intersection(request.path.parts):
        yield
        return
    with never_blocked():
        yield


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Undo what a test that configures logs leaves: they would go to its closed output."""
    settings = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**settings)
    root.setLevel(level)
    for added in set(root.handlers).difference(handlers):
        root.removeHandler(added)


@pytest.fixture(scope="session")
def server_home() -> Iterator[Callable[[str], Path]]:
    """Give every server a folder of its own, gone after the session."""
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory(prefix="sealgate-servers-") as folder:
        root = Path(folder)
        root.chmod(0o711)  # PostgreSQL passes through as another account when we are root

        def home(name: str) -> Path:
            place = root / f"{next(numbers)}-{name}"
            place.mkdir()
            return place

        yield home


@pytest.fixture(scope="session")
def vault(server_home: Callable[[str], Path]) -> Iterator[Vault]:
    """Vault in development mode: `address`, `root_token`, `client()`."""
    server = Vault(_program(binary.VAULT), server_home("vault"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def owners_vault(
    server_home: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SealableVault]:
    """Run a second Vault, a customer's: on disk, over TLS, open. Who seals it opens it again."""
    pair = certificates.issue(tmp_path_factory.mktemp("owner") / "tls")
    server = SealableVault(_program(binary.VAULT), server_home("owner"), pair)
    server.start()
    server.open()
    yield server
    server.stop()


@pytest.fixture
def new_vault(server_home: Callable[[str], Path]) -> Iterator[NewVault]:
    """Start Vaults on disk for one test, with TLS where certificates are given."""
    with ExitStack() as running:

        def start(certificates: Certificates | None = None) -> SealableVault:
            program = _program(binary.VAULT)
            server = SealableVault(program, server_home("vault"), certificates)
            running.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def s3(server_home: Callable[[str], Path]) -> Iterator[Versitygw]:
    """versitygw: `endpoint`, keys, `folder`, `new_bucket()`."""
    server = Versitygw(_program(binary.VERSITYGW), server_home("versitygw"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def new_s3(server_home: Callable[[str], Path]) -> Iterator[Callable[[], Versitygw]]:
    """Start S3 servers for one test, to be paused, killed and restarted."""
    with ExitStack() as running:

        def start() -> Versitygw:
            server = Versitygw(_program(binary.VERSITYGW), server_home("versitygw"))
            running.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture
def bucket(s3: Versitygw) -> str:
    """Give an empty bucket on the shared S3 server."""
    return s3.new_bucket()


@pytest.fixture(scope="session")
def postgres(server_home: Callable[[str], Path]) -> Iterator[Postgres]:
    """PostgreSQL: `new_database()` gives the DSN of an empty database."""
    programs = postgresql.find_programs()
    if programs is None:
        _missing("postgresql")
    server = Postgres(programs, server_home("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_dsn(postgres: Postgres) -> str:
    """Give the DSN of an empty database."""
    return postgres.new_database()


def _program(recipe: binary.Recipe) -> Path:
    found = binary.find(recipe)
    if found is None:
        _missing(recipe.name)
    return found


def _missing(name: str) -> Never:
    message = f"real {name} is missing: {_INSTALL}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
