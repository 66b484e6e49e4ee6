"""The composition root: from settings to a running service.

`running` is the service for as long as its block lasts; `serve` is that until a signal, with
readiness withdrawn first and what was accepted finished. This is the only module that reads
settings and the only one that knows every adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from keyservice.access.audit import Auditor
from keyservice.access.audit_file import FileAuditSink
from keyservice.access.callers import DEVELOPMENT, TokenCheck
from keyservice.access.policy import Gate, allow_all
from keyservice.access.policy_file import PolicyFile, load
from keyservice.config import (
    AppRole,
    HeldSettings,
    Kubernetes,
    Listen,
    Settings,
    VaultSettings,
)
from keyservice.desk.change import Changes
from keyservice.desk.desk import Desk
from keyservice.desk.importing import Importing
from keyservice.desk.lifecycle import Lifecycle
from keyservice.desk.service import KeyService
from keyservice.desk.shared_root import SharedRoot
from keyservice.files import read_secret
from keyservice.health import Health
from keyservice.http.connection import Runner
from keyservice.http.routes import Api, UseCases, probe_application
from keyservice.journal.journal import Journal
from keyservice.journal.journalled import JournalledRoot, JournalledStore
from keyservice.journal.told import ToldImport
from keyservice.keys.keyring import Keyring
from keyservice.keys.metered import MeteredRoot
from keyservice.keys.rewrapping import Rewrapping
from keyservice.layered import ConfigError
from keyservice.metrics import Metrics
from keyservice.ports import KeyImport, KeyStore, Root, RootStatus
from keyservice.records import Tier
from keyservice.shredding.ledger import suspended
from keyservice.shredding.replay import Replay
from keyservice.tls import server_context
from keyservice.wiring.ends import Ends, ledger_signer, open_ends
from keyservice.wiring.open_root import open_root

MIN_TOKEN = 32

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that takes requests: where, and what an operator may ask of it."""

    url: str
    probes_url: str | None
    service: KeyService
    health: Health
    reload: Callable[[], Awaitable[None]]


async def serve(settings: Settings, *, started: Callable[[Running], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reloads the policy and the TLS certificate.

    `started` is called once requests are taken. Raises ConfigError or OSError when the service
    cannot start.
    """
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with running(settings) as service, asyncio.TaskGroup() as tasks:
        reloads = tasks.create_task(_reload_when(again, service))
        if started is not None:
            started(service)
        await stop.wait()
        log.info("draining", timeout=settings.drain_timeout)
        reloads.cancel()


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Start the service, yield it, and drain it at the end of the block."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        adapters = await open_root(settings, metrics)
        stack.push_async_callback(adapters.store.close)
        stack.push_async_callback(adapters.root.close)
        stack.push_async_callback(adapters.journal.close)
        journal = Journal(
            adapters.journal,
            instance=f"{socket.gethostname()[:64]}-{secrets.token_hex(4)}",
            signer=await asyncio.to_thread(ledger_signer, settings),
            every=settings.journal.every,
        )
        # After the last request, and before the adapters are closed.
        stack.push_async_callback(journal.close, settings.drain_timeout)
        root = JournalledRoot(MeteredRoot(adapters.root, metrics.root_call), journal)
        imports = ToldImport(adapters.imports, journal, metrics.root_call)
        store = JournalledStore(adapters.store, journal)
        audit = settings.audit
        sink = await asyncio.to_thread(FileAuditSink, audit.file, fsync=audit.fsync)
        stack.push_async_callback(sink.close)
        auditor = Auditor(sink)
        gate, policy = await _policy(settings, metrics)
        ends = await open_ends(settings, store, metrics)
        stack.push_async_callback(ends.ledger.close)
        keyring = Keyring(
            root, ends.living, capacity=settings.cache.capacity, max_ttl=settings.cache.max_ttl
        )
        metrics.watch(keyring)
        metrics.watch_journal(journal)
        desk = Desk(gate, auditor, metrics, journal)
        cases, replay = _use_cases(
            settings, root, ends, keyring, desk, imports=imports, journal=journal
        )
        health = _health(
            root=root,
            store=store,
            auditor=auditor,
            policy=policy,
            keyring=keyring,
            metrics=metrics,
        )
        context, token = await asyncio.to_thread(_trust, settings)
        api = Api(cases, token, health, metrics, root.kind).application()
        url = await _listen(stack, api, settings.listen, context, settings.drain_timeout)
        probes_url = None
        if settings.probes is not None:
            plain = Listen(host=settings.probes.host, port=settings.probes.port)
            application = probe_application(health, metrics)
            probes_url = await _listen(stack, application, plain, None, 1.0)
        _announce(settings, root, url)

        async def reload() -> None:
            if policy is not None:
                await policy.reload()
            if context is not None:
                await asyncio.to_thread(_reload_certificate, settings, context)

        async with asyncio.TaskGroup() as tasks:
            own = [tasks.create_task(journal.keep()), tasks.create_task(replay.run())]
            watch = tasks.create_task(policy.watch()) if policy is not None else None
            try:
                yield Running(url, probes_url, cases.keys, health, reload)
            finally:
                health.draining = True
                for task in own:
                    task.cancel()
                if watch is not None:
                    watch.cancel()


def _use_cases(
    settings: Settings,
    root: Root,
    ends: Ends,
    keyring: Keyring,
    desk: Desk,
    *,
    imports: KeyImport,
    journal: Journal,
) -> tuple[UseCases, Replay]:
    cache, store = settings.cache, ends.living
    ttls = {Tier.STANDARD: cache.standard_ttl, Tier.BUSINESS: cache.business_ttl}
    keys = KeyService(root=root, store=store, keyring=keyring, desk=desk, cache_ttl=ttls)
    changes, rewrapping = Changes(root, store, keyring), Rewrapping(root)
    lifecycle = Lifecycle(
        root=root,
        store=store,
        changes=changes,
        rewrapping=rewrapping,
        desk=desk,
        cache_ttl=ttls,
        suspended=partial(suspended, ends.ledger),
        notice=timedelta(days=settings.shred.least_days),
    )
    importing = Importing(
        imports=imports, root=root, rewrapping=rewrapping, changes=changes, desk=desk
    )
    shared = SharedRoot(root=root, store=store, keyring=keyring, desk=desk)
    shreddings, replay = ends.wire(settings, root, keyring, changes, desk)
    return UseCases(keys, lifecycle, importing, shared, shreddings, desk, journal), replay


def check(settings: Settings) -> None:
    """Load all that the settings name without starting; raise ConfigError or OSError. Blocks."""
    if settings.policy_file is not None:
        try:
            load(settings.policy_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"policy_file: {error}") from None
    _trust(settings)
    local, vault = settings.root.local, settings.root.vault
    if local is not None and local.key_file.exists():
        read_secret(local.key_file)
    if vault is not None:
        _demand_files("root.vault", vault, vault.approle or vault.kubernetes)
    for section in settings.held:
        _demand_files(f"held {section.name}", section, section.approle)


def _demand_files(
    where: str, settings: VaultSettings | HeldSettings, login: AppRole | Kubernetes | None
) -> None:
    named = [settings.ca_file, settings.certificate, settings.private_key]
    named += [path for _, path in login or () if isinstance(path, Path)]
    missing = [str(path) for path in named if path is not None and not path.is_file()]
    if missing:
        raise ConfigError(f"{where}: no such file: {', '.join(missing)}")


async def _reload_when(again: asyncio.Event, service: Running) -> None:
    while True:
        await again.wait()
        again.clear()
        await service.reload()


async def _policy(settings: Settings, metrics: Metrics) -> tuple[Gate, PolicyFile | None]:
    path = settings.policy_file
    if path is None:
        return Gate(allow_all(DEVELOPMENT)), None
    try:
        gate = Gate(await asyncio.to_thread(load, path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"policy_file: {error}") from None
    policy = PolicyFile(path, gate, on_failure=metrics.policy_failures.inc)
    await policy.reload()
    return gate, policy


def _health(
    *,
    root: Root,
    store: KeyStore,
    auditor: Auditor,
    policy: PolicyFile | None,
    keyring: Keyring,
    metrics: Metrics,
) -> Health:
    async def audit_status() -> RootStatus:
        return auditor.status()

    async def policy_status() -> RootStatus:
        # An old policy still rules: that is for an alert, not for taking the service out.
        if policy is None:
            return RootStatus(healthy=True, detail="development: one caller may do everything")
        found = policy.status()
        metrics.healthy.labels("policy file").set(found.healthy)
        return RootStatus(healthy=True, detail=found.detail)

    return Health(
        needed={"audit": audit_status, "policy": policy_status},
        cached={"root": root.status, "key store": store.status},
        serves_cached=keyring.keks.has_fresh,
        report=lambda name, healthy: metrics.healthy.labels(name).set(healthy),
    )


def _trust(settings: Settings) -> tuple[ssl.SSLContext | None, TokenCheck | None]:
    """Return the TLS context, or in development the token."""
    tls, development = settings.tls, settings.development
    try:
        if tls is not None:
            return server_context(tls.certificate, tls.private_key, tls.client_ca), None
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"tls: {error.strerror or error}") from None
    if development is None:
        raise ConfigError("name one of tls and development")
    try:
        token = read_secret(development.token_file).decode("ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"development.token_file: {error}") from None
    if len(token) < MIN_TOKEN:
        raise ConfigError(f"development.token_file: needs at least {MIN_TOKEN} characters")
    return None, TokenCheck(token)


def _reload_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    """Show a renewed certificate to new connections; a bad one changes nothing."""
    tls = settings.tls
    if tls is None:
        return
    try:
        # Tried apart first: a failed load would leave the live context without its key.
        server_context(tls.certificate, tls.private_key, tls.client_ca)
        context.load_cert_chain(tls.certificate, tls.private_key)
    except OSError as error:  # ssl.SSLError too
        reason = error.strerror or type(error).__name__
        log.error("certificate not reloaded; the old one stays in use", reason=reason)  # noqa: TRY400 - the reason says it all
    else:
        log.info("certificate loaded")


async def _listen(
    stack: contextlib.AsyncExitStack,
    application: web.Application,
    listen: Listen,
    context: ssl.SSLContext | None,
    drain: float,
) -> str:
    runner = Runner(application, drain=drain)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if listen.unix_socket is not None:
        await web.UnixSite(runner, str(listen.unix_socket), ssl_context=context).start()
        listen.unix_socket.chmod(0o600)
        return f"unix://{listen.unix_socket}"
    await web.TCPSite(runner, listen.host, listen.port, ssl_context=context).start()
    port = runner.addresses[0][1]
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'https' if context else 'http'}://{host}:{port}"


def _announce(settings: Settings, root: Root, url: str) -> None:
    if root.kind == "local":
        log.warning("ROOT KEY IS A LOCAL FILE: for development or a single machine only")
    if settings.development is not None:
        log.warning("DEVELOPMENT: callers are known by a token, without TLS, on this machine only")
    log.info("serving", url=url, root=root.kind)
