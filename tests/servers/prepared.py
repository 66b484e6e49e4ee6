"""A Vault that `setup_vault` made ready, and what a key service needs to log in to it.

Every call makes mounts, policy and role of its own, so that tests share a server and nothing else.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from keyservice.vault import setup as setup_vault
from keyservice.vault.journal import VaultJournal
from keyservice.vault.login import AppRoleLogin, Login
from keyservice.vault.root import VaultRoot
from keyservice.vault.session import VaultSession
from keyservice.vault.setup import VaultSetup
from keyservice.vault.store import VaultKeyStore
from tests.servers.vault import Vault


@dataclass(frozen=True, slots=True)
class PreparedVault:
    """One key service's part of a server."""

    server: Vault
    setup: VaultSetup
    login: AppRoleLogin

    def session(
        self,
        login: Login | None = None,
        *,
        ca_file: Path | None = None,
        timeout: float = 15.0,
        deadline: float = 40.0,
    ) -> VaultSession:
        """Return a session as the key service, to be closed by who uses it."""
        return VaultSession(
            self.server.address,
            login or self.login,
            ca_file=ca_file or self.server.ca,
            timeout=timeout,
            deadline=deadline,
        )

    def root(self, session: VaultSession) -> VaultRoot:
        """Return the root on these mounts."""
        return VaultRoot(session, mount=self.setup.transit_mount)

    def store(self, session: VaultSession) -> VaultKeyStore:
        """Return the key store on these mounts."""
        return VaultKeyStore(session, mount=self.setup.kv_mount)

    def journal(self, session: VaultSession) -> VaultJournal:
        """Return the key journals on these mounts."""
        return VaultJournal(session, mount=self.setup.kv_mount)


def prepare(server: Vault, folder: Path, *, wrapping_key: bool = False) -> PreparedVault:
    """Set the server up for one more key service; its credentials go into `folder`.

    Keys can be imported at once only with `wrapping_key`, which takes seconds to make.
    """
    tag = secrets.token_hex(4)
    setup = VaultSetup(
        transit_mount=f"transit-{tag}",
        kv_mount=f"kv-{tag}",
        approle_mount=f"approle-{tag}",
        policy=f"keyservice-{tag}",
    )
    with setup_vault.administrator(server.address, server.root_token, ca_file=server.ca) as send:
        setup_vault.apply(setup, send)
        if wrapping_key:
            setup_vault.make_wrapping_key(setup, send)
        credentials = setup_vault.draw_credentials(setup, send)
    login = AppRoleLogin(folder / f"{tag}.role", folder / f"{tag}.secret", setup.approle_mount)
    login.role_id_file.write_text(credentials.role_id + "\n")
    login.secret_id_file.write_text(credentials.secret_id + "\n")
    return PreparedVault(server, setup, login)
