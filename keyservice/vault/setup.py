"""What Sealgate needs in Vault or OpenBao: two mounts, one shared key, a policy, an AppRole.

`script` prints it as commands to read and run; `apply` does the same through the API and may be
repeated: what exists is kept, checked, and never replaced, except for the policy and the role,
which are written anew. The policy lets the key service use and rotate keys, put old versions of them out of
use, create and destroy those of business tenants (derived, not exportable, nothing else may be
chosen), take in keys of the same kind that tenants bring, and read and write tenant records and destroy
versions of them. It lets it export, back up or trim no key, never delete the shared one, and delete no
record.

Blocks; it is run by an administrator with a token that may do all this, not by the service.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests
from hvac.adapters import RawAdapter

from keyservice.vault.role import approle
from keyservice.vault.root import KEY_TYPE, STANDARD_KEY, TRANSIT_MOUNT
from keyservice.vault.store import KV_MOUNT

RECORD_VERSIONS = 100
TOKEN_PERIOD = "1h"  # noqa: S105 - a duration
OK = 200
BAD_REQUEST = 400
NOT_FOUND = 404
TIMEOUT = 10.0
MAKING = 60.0


@dataclass(frozen=True, slots=True)
class VaultSetup:
    """The names that setup and service agree on; `cidrs` bound where log-ins come from."""

    transit_mount: str = TRANSIT_MOUNT
    kv_mount: str = KV_MOUNT
    standard_key: str = STANDARD_KEY
    approle_mount: str = "approle"
    role: str = "sealgate-keyservice"
    policy: str = "sealgate-keyservice"
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One write to an API path, and its reason."""

    why: str
    path: str
    body: Mapping[str, Any]
    creates: bool = False
    """Done only where it is not there yet."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the key service logs in with."""

    role_id: str
    secret_id: str = field(repr=False)


class SetupFailed(Exception):
    """Vault refused a step, or holds something under our names that is not safe to use."""


class NoAnswer(SetupFailed):
    """Vault does not answer."""


class Sender(Protocol):
    """Sends (method, path, body) as the administrator and returns (status, JSON)."""

    def __call__(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """`path` follows `/v1/`; the answer is returned whatever its status."""
        ...


def policy(setup: VaultSetup) -> str:
    """Return the policy of the key service, in HCL."""
    transit, kv = setup.transit_mount, setup.kv_mount
    return f"""\
# Wrap and open KEKs. Without "create", encrypting with a missing key does not make one.
path "{transit}/encrypt/+" {{ capabilities = ["update"] }}
path "{transit}/decrypt/+" {{ capabilities = ["update"] }}
path "{transit}/rewrap/+" {{ capabilities = ["update"] }}

# See that a key exists; make a business tenant's own, of this kind only; remove it when the
# tenant's keys are shredded. "+" is one segment: .../trim is not meant.
path "{transit}/keys/+" {{
  capabilities = ["read", "update", "delete"]
  allowed_parameters = {{
    "type"    = ["{KEY_TYPE}"]
    "derived" = [true]
  }}
}}

# Rotate keys and put old versions out of use. Vault deletes a key only after deletion_allowed.
path "{transit}/keys/+/rotate" {{ capabilities = ["update"] }}
path "{transit}/keys/+/config" {{
  capabilities = ["update"]
  allowed_parameters = {{
    "min_decryption_version" = []
    "deletion_allowed"       = [true]
  }}
}}

# Take in a key that a tenant brings, of this kind only, packed for the wrapping key.
path "{transit}/wrapping_key" {{ capabilities = ["read"] }}
path "{transit}/keys/+/import" {{
  capabilities = ["update"]
  required_parameters = ["type", "derived", "ciphertext", "allow_rotation"]
  allowed_parameters = {{
    "type"           = ["{KEY_TYPE}"]
    "derived"        = [true]
    "ciphertext"     = []
    "hash_function"  = ["SHA256"]
    "allow_rotation" = []
  }}
}}
path "{transit}/keys/+/import_version" {{
  capabilities = ["update"]
  required_parameters = ["ciphertext"]
  allowed_parameters = {{
    "ciphertext"    = []
    "hash_function" = ["SHA256"]
  }}
}}

# The key that standard tenants share is never made, nor made deletable, nor deleted.
path "{transit}/keys/{setup.standard_key}" {{ capabilities = ["read"] }}
path "{transit}/keys/{setup.standard_key}/config" {{
  capabilities = ["update"]
  allowed_parameters = {{ "min_decryption_version" = [] }}
}}

# Read and write tenant records, and see which there are; deleting is another capability.
path "{kv}/data/tenants/+" {{ capabilities = ["create", "read", "update"] }}
path "{kv}/metadata/tenants" {{ capabilities = ["list"] }}

# Destroy old versions of a record, whose KEKs were retired.
path "{kv}/metadata/tenants/+" {{ capabilities = ["read"] }}
path "{kv}/destroy/tenants/+" {{ capabilities = ["update"] }}

# Add to the key journals and read them: a line is created, and never written again nor deleted.
path "{kv}/data/journal/+/+" {{ capabilities = ["create", "read"] }}
path "{kv}/metadata/journal/+" {{ capabilities = ["list"] }}

# Keep the own token alive.
path "auth/token/renew-self" {{ capabilities = ["update"] }}
"""


def steps(setup: VaultSetup) -> list[Step]:
    """Return all writes, in order."""
    role = approle(setup.policy, period=TOKEN_PERIOD, cidrs=setup.cidrs)
    return [
        Step(
            "root keys, which never leave",
            f"sys/mounts/{setup.transit_mount}",
            {"type": "transit", "description": "Sealgate root keys"},
            creates=True,
        ),
        Step(
            "wrapped tenant keys",
            f"sys/mounts/{setup.kv_mount}",
            {"type": "kv", "options": {"version": "2"}, "description": "Sealgate tenant records"},
            creates=True,
        ),
        Step(
            "no write without check-and-set, and a long memory",
            f"{setup.kv_mount}/config",
            {"cas_required": True, "max_versions": RECORD_VERSIONS},
        ),
        Step(
            "the root key that standard tenants share",
            f"{setup.transit_mount}/keys/{setup.standard_key}",
            {"type": KEY_TYPE, "derived": True},
            creates=True,
        ),
        Step("least privilege", f"sys/policies/acl/{setup.policy}", {"policy": policy(setup)}),
        Step(
            "log-in by role id and secret id",
            f"sys/auth/{setup.approle_mount}",
            {"type": "approle"},
            creates=True,
        ),
        Step(
            "the identity of the key service",
            f"auth/{setup.approle_mount}/role/{setup.role}",
            role,
        ),
    ]


def script(setup: VaultSetup, *, command: str = "vault") -> str:
    """Return the steps as a shell script for the `vault` or `bao` command."""
    lines = ["set -eu", f"# Needs {command.upper()}_ADDR and a token that may do this."]
    for step in steps(setup):
        lines += ["", f"# {step.why[0].upper()}{step.why[1:]}."]
        if rules := step.body.get("policy"):
            lines += [
                f"{command} policy write {shlex.quote(setup.policy)} - <<'HCL'",
                f"{rules}HCL",
            ]
        else:
            lines += [f"{command} write {shlex.quote(step.path)} - <<'JSON'"]
            lines += [json.dumps(step.body, indent=2), "JSON"]
    lines += ["", "# Make the key now for which tenants' own keys are packed: it takes a while."]
    lines += [f"{command} read {shlex.quote(setup.transit_mount + '/wrapping_key')} >/dev/null"]
    role = f"auth/{setup.approle_mount}/role/{setup.role}"
    lines += ["", "# What the key service logs in with; keep the second in a 0600 file."]
    lines += [f'echo "role_id=$({command} read -field=role_id {role}/role-id)"']
    lines += [f'echo "secret_id=$({command} write -f -field=secret_id {role}/secret-id)"']
    return "\n".join(lines) + "\n"


def apply(setup: VaultSetup, send: Sender) -> None:
    """Do the steps and check what was there before; raise SetupFailed."""
    for step in steps(setup):
        if not (step.creates and _exists(step, send)):
            _write(step, send)
    _check(setup, send)


def make_wrapping_key(setup: VaultSetup, send: Sender) -> None:
    """Let Vault make the key for which root keys are packed, if it has none; raise SetupFailed.

    Vault makes it when it is first asked for, and that takes longer than the key service waits.
    """
    path = f"{setup.transit_mount}/wrapping_key"
    until = time.monotonic() + MAKING
    while True:
        try:
            _demand(send("get", path), path)
        except NoAnswer:
            if time.monotonic() > until:
                raise
        else:
            return


def draw_credentials(setup: VaultSetup, send: Sender) -> Credentials:
    """Return the role id and a new secret id; earlier ones stay good. Raises SetupFailed."""
    role = f"auth/{setup.approle_mount}/role/{setup.role}"
    role_id = _demand(send("get", f"{role}/role-id"), f"{role}/role-id")["role_id"]
    secret = _demand(send("post", f"{role}/secret-id", {}), f"{role}/secret-id")["secret_id"]
    return Credentials(role_id, secret)


@contextmanager
def administrator(
    address: str, token: str, *, ca_file: Path | None = None, namespace: str | None = None
) -> Iterator[Sender]:
    """Give the `Sender` of somebody who holds an administrator's token."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(ca_file) if ca_file else True
    adapter = RawAdapter(
        base_uri=address,
        token=token,
        session=session,
        namespace=namespace,
        timeout=TIMEOUT,
        ignore_exceptions=True,
    )

    def send(
        method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        try:
            response = adapter.request(method, f"/v1/{path}", json=body)
            content = response.json() if response.content else {}
        except (requests.RequestException, OSError, ValueError) as error:
            raise NoAnswer(f"vault does not answer: {type(error).__name__}") from None
        return response.status_code, content if isinstance(content, dict) else {}

    try:
        yield send
    finally:
        adapter.close()


def _exists(step: Step, send: Sender) -> bool:
    prefix, _, name = step.path.rpartition("/")
    if prefix in {"sys/mounts", "sys/auth"}:
        return f"{name}/" in _demand(send("get", prefix), prefix)
    status, _answer = send("get", step.path)
    return status != NOT_FOUND


def _write(step: Step, send: Sender) -> None:
    until = time.monotonic() + TIMEOUT
    while True:
        status, body = send("post", step.path, step.body)
        # A new KV mount is not ready at once, and says so.
        starting = status == BAD_REQUEST and "Upgrading" in str(body.get("errors"))
        if not starting or time.monotonic() > until:
            _demand((status, body), step.path)
            return
        time.sleep(0.1)


def _check(setup: VaultSetup, send: Sender) -> None:
    """Refuse mounts and keys that bear our names and are something else."""
    mounts = _demand(send("get", "sys/mounts"), "sys/mounts")
    auths = _demand(send("get", "sys/auth"), "sys/auth")
    kv = mounts[f"{setup.kv_mount}/"]
    _expect(mounts[f"{setup.transit_mount}/"]["type"] == "transit", setup.transit_mount, "transit")
    _expect(
        kv["type"] == "kv" and (kv.get("options") or {}).get("version") == "2",
        setup.kv_mount,
        "KV version 2",
    )
    _expect(auths[f"{setup.approle_mount}/"]["type"] == "approle", setup.approle_mount, "AppRole")
    path = f"{setup.transit_mount}/keys/{setup.standard_key}"
    key = _demand(send("get", path), path)
    _expect(
        key["type"] == KEY_TYPE
        and key["derived"] is True
        and not (key["exportable"] or key["allow_plaintext_backup"] or key["deletion_allowed"]),
        path,
        f"a derived {KEY_TYPE} key that can be neither exported, backed up nor deleted",
    )


def _expect(fine: bool, name: str, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not fine:
        raise SetupFailed(f"{name} exists and is not {what}: choose another name or mend it")


def _demand(answer: tuple[int, Mapping[str, Any]], path: str) -> Mapping[str, Any]:
    status, body = answer
    if status not in {OK, 204}:
        errors: Sequence[object] = body.get("errors") or ()
        said = f": {' '.join(str(error) for error in errors)}" if errors else ""
        raise SetupFailed(f"vault answered {status} to {path}{said}")
    data = body.get("data")
    return data if isinstance(data, dict) else body
