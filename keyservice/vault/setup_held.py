"""What a customer makes in a Vault or OpenBao of their own, so that a tenant's root key stays there.

`script` prints it as commands for the customer to read, change and run; Sealgate never runs them and
never needs more than what they leave: the right to encrypt, decrypt and rewrap with one key, to see that
it exists, and to keep its own token alive. No right to make, rotate, configure, export or delete a key.
The key is the customer's to rotate, to restrict and to destroy, and so is every right to use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from keyservice.vault.role import approle

TOKEN_PERIOD = "5m"  # noqa: S105 - a duration

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")


@dataclass(frozen=True, slots=True)
class HeldSetup:
    """The names that the customer's Vault and a `[[held]]` section agree on."""

    name: str
    url: str = "https://vault.customer.example:8200"
    namespace: str | None = None
    transit_mount: str = "sealgate-transit"
    transit_key: str = "sealgate"
    approle_mount: str = "sealgate-approle"
    role: str = "sealgate"
    cidrs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (
            self.name,
            self.transit_mount,
            self.transit_key,
            self.approle_mount,
            self.role,
        ):
            if not _NAME.fullmatch(text):
                raise ValueError(f"a name has letters, digits and - _ . / only, not {text!r}")


def policy(setup: HeldSetup) -> str:
    """Return the policy that the customer grants, in HCL."""
    mount, key = setup.transit_mount, setup.transit_key
    return f"""\
# Wrap, open and wrap anew with this one key. Without "create", no key is ever made.
path "{mount}/encrypt/{key}" {{ capabilities = ["update"] }}
path "{mount}/decrypt/{key}" {{ capabilities = ["update"] }}
path "{mount}/rewrap/{key}" {{ capabilities = ["update"] }}

# See that it exists, is derived, and which versions are good: never the key itself.
path "{mount}/keys/{key}" {{ capabilities = ["read"] }}

# Keep the own token alive.
path "auth/token/renew-self" {{ capabilities = ["update"] }}
"""


def role_of(setup: HeldSetup) -> dict[str, object]:
    """Return the AppRole that the customer makes."""
    return approle(setup.role, period=TOKEN_PERIOD, cidrs=setup.cidrs)


def script(setup: HeldSetup, *, command: str = "vault") -> str:
    """Return the commands, and the settings that the operator of Sealgate needs in return."""
    mount, approle, name = setup.transit_mount, setup.approle_mount, setup.role
    key, identity = f"{mount}/keys/{setup.transit_key}", f"auth/{approle}/role/{setup.role}"
    parts = [
        f"""\
set -eu
# For the holder of the key: read this, then run it against your own Vault.
# Needs {command.upper()}_ADDR and a token that may do this.

# A place for the key, and the key: derived, so that several tenants under it stay apart; neither
# exportable nor in a plaintext backup. Rotate it, restrict it and destroy it as you see fit.
{command} secrets list -format=json | grep -q '"{mount}/"' || \\
  {command} secrets enable -path={mount} transit
{command} read {key} >/dev/null 2>&1 || \\
  """,
        _write(command, key, {"type": "aes256-gcm96", "derived": True}),
        f"""
# What Sealgate may do with it.
{command} policy write {name} - <<'HCL'
{policy(setup)}HCL

# How Sealgate logs in. The lockout is for guessed passwords; with it, credentials that you take back
# and return would stay refused for a quarter of an hour.
{command} auth list -format=json | grep -q '"{approle}/"' || \\
  {command} auth enable -path={approle} approle
{command} auth tune -user-lockout-disable=true {approle}/
""",
        _write(command, identity, role_of(setup)),
        f"""
# For the operator of Sealgate: each in a 0600 file, by a way that you trust.
echo "role_id=$({command} read -field=role_id {identity}/role-id)"
echo "secret_id=$({command} write -f -field=secret_id {identity}/secret-id)"

# To take the key back, one of these is enough. It holds at once for what Sealgate has not cached, and
# for the rest within the tenant's cache time. The first four can be undone, by you alone:
#
#   {command} policy delete {setup.role}
#     (to give it back: write the policy again)
#   {command} delete {identity} && {command} lease revoke -prefix auth/{approle}/login
#     (to give it back: make the role again, and hand over its new role id and secret id)
#   {command} write -f {key}/rotate && {command} write {key}/config min_decryption_version=LATEST
#     (to give it back: min_decryption_version=1)
#   {command} operator seal
#     (to give it back: unseal)
#   {command} write {key}/config deletion_allowed=true && {command} delete {key}
#     (never to be had back: what was stored under it is lost to everybody, you included)
""",
    ]
    return "".join(parts)


def section(setup: HeldSetup, tenants: Sequence[str] = ()) -> str:
    """Return the settings of the key service for this root and these tenants, in TOML."""
    lines = ["[[held]]"]
    lines += [f"name = {json.dumps(setup.name)}", f"url = {json.dumps(setup.url)}"]
    lines += [f'ca_file = "certs/{setup.name}-vault-ca.crt"']
    lines += [
        f"tenants = {json.dumps(list(tenants))}  # theirs: no other tenant's keys are sent there"
    ]
    if setup.namespace is not None:
        lines += [f"namespace = {json.dumps(setup.namespace)}"]
    lines += [
        f"transit_mount = {json.dumps(setup.transit_mount)}",
        f"transit_key = {json.dumps(setup.transit_key)}",
    ]
    lines += ["[held.approle]"]
    lines += [f'role_id_file = "keys/{setup.name}-role-id"']
    lines += [f'secret_id_file = "keys/{setup.name}-secret-id"']
    lines += [f"mount = {json.dumps(setup.approle_mount)}"]
    return "\n".join(lines) + "\n"


def _write(command: str, path: str, body: dict[str, object]) -> str:
    return f"{command} write {path} - <<'JSON'\n{json.dumps(body, indent=2)}\nJSON\n"
