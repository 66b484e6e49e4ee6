"""`sealgate keys import` and `keys generate`: a customer's own root key.

Guarantees that the key leaves this process in no form but packed for that root, and that it is in no
argument, output, log or error. It is read from a file that nobody but its owner may read.
"""

import base64
import binascii
import os
import resource
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import (
    USAGE,
    Config,
    Json,
    fail,
    run,
    show_fields,
    show_json,
    teach,
)
from gateway.cli.keys import Certificate, PrivateKey, Reason, acting
from gateway.cli.scope import Tenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from keyservice.wire import TenantKeys

IMPORT = teach(
    "Bring a business tenant's own root key: 32 bytes, or their base64, in a file of mode 0600. "
    "It is packed here for the root behind the key service, and is in the clear nowhere else; then the "
    "tenant's KEKs are wrapped under it. The tenant supplies all later versions (--new-version), or with "
    "--rotatable lets them be made here: never both. Keep the file in a safe place, or destroy it.",
    "sealgate keys generate root.key",
    "sealgate keys import TENANT --key-file root.key --reason 'contract 12'",
    "sealgate keys import TENANT --key-file next.key --new-version",
)
GENERATE = teach(
    "Make a good root key: 32 random bytes in a new file of mode 0600. "
    "It is a customer's to make and to keep, best on a machine of theirs.",
    "sealgate keys generate root.key",
)
SIZE = 32
LONGEST = 64  # base64 of 32 bytes, and the end of its line
OTHERS = 0o077


def import_key(
    tenant: Tenant,
    *,
    key_file: Annotated[Path, typer.Option(help="The file with the key, mode 0600.")],
    rotatable: Annotated[
        bool, typer.Option("--rotatable", help="Later versions are made here.")
    ] = False,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="As the next version of the root it supplied.")
    ] = False,
    reason: Reason = "import root key",
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bring a tenant's own root key."""
    if rotatable and new_version:
        fail("who supplies the next version does not let us rotate: leave --rotatable out", USAGE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the key
    settings = acting(config, certificate, private_key)
    key = _read(key_file)
    found = run(
        _import(settings, tenant, key, rotatable=rotatable, new_version=new_version, reason=reason)
    )
    shown = {
        "tenant": tenant,
        "root": found.root.custody,
        "name": found.root.name,
        "versions": "supplied by the tenant" if found.root.imported else "made here",
        "revision": str(found.revision),
    }
    if as_json:
        show_json({**shown, "supplied": found.root.imported, "revision": found.revision})
    else:
        show_fields(shown)


def generate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a root key in a new file."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            os.fchmod(descriptor, 0o600)
            opened.write(secrets.token_bytes(SIZE))
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    if as_json:
        show_json({"file": str(file)})
    else:
        typer.echo(file)


def _read(path: Path) -> bytes:
    """Return the key of the file, or end with what is wrong with it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LONGEST + 1)
    except OSError as error:
        fail(f"{path}: {error.strerror}", USAGE)
    if mode & OTHERS:
        fail(f"{path} has mode {mode:04o}: make it 0600", USAGE)
    if len(content) == SIZE:
        return content
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != SIZE:
        fail(f"{path} holds no root key: it has to be {SIZE} bytes, or their base64", USAGE)
    return key


async def _import(
    settings: Settings,
    tenant: str,
    key: bytes,
    *,
    rotatable: bool,
    new_version: bool,
    reason: str,
) -> "TenantKeys":
    from gateway.wiring.adapters import key_client  # noqa: PLC0415 - help answers at once

    async with key_client(settings) as client:
        return await client.control.import_root(
            tenant, key, reason=reason, rotatable=rotatable, new_version=new_version
        )
