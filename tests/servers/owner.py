"""A customer who holds a tenant's root key: a Vault that is not ours, set up by the printed script.

Every call makes mounts, key, policy and role of its own, so that tests share a server and nothing else.
The methods are what a customer may do with what is theirs. They block.
"""

import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyservice.vault import setup as setup_vault
from keyservice.vault.held import HeldRoot
from keyservice.vault.login import AppRoleLogin
from keyservice.vault.session import VaultSession
from keyservice.vault.setup_held import HeldSetup, policy, role_of, script
from tests.servers import binary
from tests.servers.vault import Vault


@dataclass(frozen=True, slots=True)
class Owner:
    """One customer's part of a server, and what they handed over."""

    server: Vault
    setup: HeldSetup
    login: AppRoleLogin

    @property
    def key(self) -> str:
        """The path of the key."""
        return f"{self.setup.transit_mount}/keys/{self.setup.transit_key}"

    @property
    def role(self) -> str:
        """The path of the role."""
        return f"auth/{self.setup.approle_mount}/role/{self.setup.role}"

    def session(
        self, *, ca_file: Path | None = None, address: str | None = None, timeout: float = 15.0
    ) -> VaultSession:
        """Return a session of the key service, to be closed by who uses it."""
        return VaultSession(
            address or self.server.address,
            self.login,
            ca_file=ca_file or self.server.ca,
            timeout=timeout,
            deadline=min(40.0, timeout * 3),
        )

    def root(self, **options: Any) -> HeldRoot:
        """Return the root that this owner holds, to be closed by who uses it."""
        setup = self.setup
        return HeldRoot(
            lambda: self.session(**options), mount=setup.transit_mount, key=setup.transit_key
        )

    def section(self, *tenants: str) -> dict[str, Any]:
        """Return the key service's settings for it, and for these tenants."""
        return {
            "name": self.setup.name,
            "tenants": list(tenants),
            "url": self.server.address,
            **({"ca_file": str(self.server.ca)} if self.server.ca else {}),
            "transit_mount": self.setup.transit_mount,
            "transit_key": self.setup.transit_key,
            "approle": {
                "role_id_file": str(self.login.role_id_file),
                "secret_id_file": str(self.login.secret_id_file),
                "mount": self.login.mount,
            },
        }

    def do(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Do something as the owner; it must succeed."""
        server = self.server
        with setup_vault.administrator(
            server.address, server.root_token, ca_file=server.ca
        ) as send:
            status, answer = send(method, path, body)
        if status not in {200, 204}:
            raise RuntimeError(f"{method} {path} answered {status}: {answer}")
        return answer

    def withdraw_policy(self) -> None:
        """Take the right to use the key."""
        self.do("delete", f"sys/policies/acl/{self.setup.role}")

    def return_policy(self) -> None:
        """Give the right to use the key."""
        self.do("post", f"sys/policies/acl/{self.setup.role}", {"policy": policy(self.setup)})

    def rotate(self) -> int:
        """Make a new version of the key; return its number."""
        self.do("post", f"{self.key}/rotate", {})
        return int(self.do("get", self.key)["data"]["latest_version"])

    def disable_below(self, version: int) -> None:
        """Give up the versions below this one; 1 takes that back."""
        self.do("post", f"{self.key}/config", {"min_decryption_version": version})

    def delete_key(self) -> None:
        """Destroy the key."""
        self.do("post", f"{self.key}/config", {"deletion_allowed": True})
        self.do("delete", self.key)

    def revoke_login(self) -> None:
        """Take the log-in, and every token that came of it."""
        self.do("delete", self.role)
        self.do("put", f"sys/leases/revoke-prefix/auth/{self.setup.approle_mount}/login")

    def return_login(self) -> None:
        """Make the role again, and hand over its new credentials."""
        self.do("post", self.role, role_of(self.setup))
        self.hand_over()

    def hand_over(self) -> None:
        """Write the role id and a new secret id to the files of the key service."""
        role_id = self.do("get", f"{self.role}/role-id")["data"]["role_id"]
        secret_id = self.do("post", f"{self.role}/secret-id", {})["data"]["secret_id"]
        self.login.role_id_file.write_text(role_id)
        self.login.secret_id_file.write_text(secret_id)


def customer(server: Vault, folder: Path, name: str | None = None) -> Owner:
    """Let a new customer set the server up as the printed script says; credentials go to `folder`."""
    tag = secrets.token_hex(4)
    setup = HeldSetup(
        name or f"customer-{tag}",
        url=server.address,
        transit_mount=f"held-{tag}",
        approle_mount=f"held-login-{tag}",
        role=f"sealgate-{tag}",
    )
    output = run_script(script(setup), server, folder)
    drawn = dict(line.split("=") for line in output.splitlines() if "_id=" in line)
    login = AppRoleLogin(folder / f"{tag}.role", folder / f"{tag}.secret", setup.approle_mount)
    login.role_id_file.write_text(drawn["role_id"])
    login.secret_id_file.write_text(drawn["secret_id"])
    return Owner(server, setup, login)


def run_script(text: str, server: Vault, folder: Path) -> str:
    """Run a printed script against the server as its administrator; return what it shows."""
    program = binary.find(binary.VAULT)
    if program is None:
        raise RuntimeError("there is no program to run the script with")
    commands = folder / f"commands-{secrets.token_hex(4)}"
    commands.mkdir()
    (commands / "vault").symlink_to(program)
    authority = {"VAULT_CACERT": str(server.ca), "BAO_CACERT": str(server.ca)} if server.ca else {}
    done = subprocess.run(
        ["/bin/sh", "-c", text],
        env={
            "PATH": f"{commands}:{os.defpath}",
            "HOME": str(folder),
            "VAULT_ADDR": server.address,
            "VAULT_TOKEN": server.root_token,
            "BAO_ADDR": server.address,
            "BAO_TOKEN": server.root_token,
            **authority,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the script failed: {done.stderr[-2000:]}")
    return done.stdout
