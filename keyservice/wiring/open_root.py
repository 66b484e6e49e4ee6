"""From settings to the roots, the key store and the journals of an instance, a part of the composition root.

Vault's client and its threads are loaded only where they are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keyservice.config import HeldSettings, RootSettings, Settings, VaultSettings
from keyservice.keys.metered import MeteredRoot
from keyservice.keys.roots import Roots
from keyservice.layered import ConfigError
from keyservice.local import key_file
from keyservice.local.importing import LocalImport
from keyservice.local.journal import FolderJournal
from keyservice.local.root import LocalRoot
from keyservice.local.store import FolderKeyStore
from keyservice.metrics import Metrics
from keyservice.ports import JournalStore, KeyImport, KeyStore, Root

if TYPE_CHECKING:
    from keyservice.vault.login import Login
    from keyservice.vault.session import VaultSession

HELD_THREADS = 4


@dataclass(frozen=True, slots=True)
class Adapters:
    """What keeps keys: all roots as one, the way in for keys, tenants' records, and their journals."""

    root: Root
    imports: KeyImport
    store: KeyStore
    journal: JournalStore


async def open_root(settings: Settings, metrics: Metrics) -> Adapters:
    """Return what the settings name; raise ConfigError or OSError."""
    ours = await _ours(settings.root)
    held: dict[str, Root] = {}
    if settings.held:
        found = await asyncio.to_thread(held_roots, settings.held)
        held = {name: _counted(name, root, metrics) for name, root in found.items()}
    serves = {each.name: frozenset(each.tenants) for each in settings.held}
    return replace(ours, root=Roots(ours.root, held, serves))


def _counted(name: str, root: Root, metrics: Metrics) -> Root:
    metrics.holds(name)
    return MeteredRoot(root, lambda _, outcome: metrics.held_call(name, outcome))


async def _ours(settings: RootSettings) -> Adapters:
    if settings.vault is not None:
        return await asyncio.to_thread(vault_root, settings.vault)
    local = settings.local
    if local is None:
        raise ConfigError("name one of root.local and root.vault")
    await asyncio.to_thread(key_file.ensure, local.key_file)
    store = FolderKeyStore(local.records)
    await store.prepare()
    return Adapters(
        LocalRoot(local.key_file),
        LocalImport(local.key_file),
        store,
        FolderJournal(local.records / "journal"),
    )


def vault_root(settings: VaultSettings) -> Adapters:
    """Return the adapters of a Vault, over one session. Blocks."""
    from keyservice.vault import importing as vault_import  # noqa: PLC0415 - hvac takes a while to load
    from keyservice.vault import journal as vault_journal  # noqa: PLC0415 - as above
    from keyservice.vault import login as vault_login  # noqa: PLC0415 - as above
    from keyservice.vault import root as vault  # noqa: PLC0415 - as above
    from keyservice.vault import store as vault_store  # noqa: PLC0415 - as above

    approle, kubernetes = settings.approle, settings.kubernetes
    login: Login
    if approle is not None:
        login = vault_login.AppRoleLogin(
            approle.role_id_file, approle.secret_id_file, approle.mount
        )
    elif kubernetes is not None:
        login = vault_login.KubernetesLogin(
            kubernetes.role, kubernetes.token_file, kubernetes.mount
        )
    else:
        raise ConfigError("root.vault: name one of approle and kubernetes")
    session = _session(settings, login)
    root = vault.VaultRoot(
        session, mount=settings.transit_mount, standard_key=settings.standard_key
    )
    return Adapters(
        root,
        vault_import.VaultImport(session, mount=settings.transit_mount),
        vault_store.VaultKeyStore(session, mount=settings.kv_mount),
        vault_journal.VaultJournal(session, mount=settings.kv_mount),
    )


def held_roots(settings: Sequence[HeldSettings]) -> dict[str, Root]:
    """Return the roots that customers hold, by name; none is connected to before it is used. Blocks."""
    from keyservice.vault import held  # noqa: PLC0415 - see above
    from keyservice.vault import login as vault_login  # noqa: PLC0415 - as above

    def root(section: HeldSettings) -> Root:
        approle = section.approle
        login = vault_login.AppRoleLogin(
            approle.role_id_file, approle.secret_id_file, approle.mount
        )
        return held.HeldRoot(
            lambda: _session(section, login, threads=HELD_THREADS),
            mount=section.transit_mount,
            key=section.transit_key,
        )

    return {section.name: root(section) for section in settings}


def _session(
    settings: VaultSettings | HeldSettings, login: Login, *, threads: int = 8
) -> VaultSession:
    from keyservice.vault import session as vault_session  # noqa: PLC0415 - see above

    pair = None
    if settings.certificate is not None and settings.private_key is not None:
        pair = (settings.certificate, settings.private_key)
    return vault_session.VaultSession(
        settings.url.rstrip("/"),
        login,
        ca_file=settings.ca_file,
        certificate=pair,
        namespace=settings.namespace,
        timeout=settings.timeout,
        deadline=settings.deadline,
        threads=threads,
    )
