"""How a PostgreSQL connection is protected on its way, read from the DSN's `sslmode`.

Stricter than libpq: without `sslmode` a server elsewhere is verified in full, and the modes that
may silently go unencrypted are refused. A socket or loopback address needs no TLS.
"""

import ssl
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

_VERIFYING = ("verify-ca", "verify-full")


def transport(dsn: str) -> ssl.SSLContext | Literal[False]:
    """Return the TLS context for a DSN, or False for none. Reads the certificates it names.

    Raises ValueError for a mode that protects nothing and for certificates that cannot be read.
    """
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    hosts = options.get("host") or parts.netloc.rpartition("@")[2]
    local = all(_is_local(host) for host in hosts.split(","))
    mode = options.get("sslmode") or ("disable" if local else "verify-full")
    if mode == "disable":
        return False
    if mode not in ("require", *_VERIFYING):
        raise ValueError(
            f"sslmode {mode} may go unencrypted: use require, verify-ca or verify-full"
        )
    try:
        return _context(mode, options)
    except OSError:
        raise ValueError("the catalog's sslrootcert, sslcert or sslkey cannot be read") from None


def _context(mode: str, options: dict[str, str]) -> ssl.SSLContext:
    root = options.get("sslrootcert")
    context = ssl.create_default_context(cafile=None if root == "system" else root)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    if mode not in _VERIFYING and root is None:
        context.verify_mode = ssl.CERT_NONE  # what `require` means: hidden, but from nobody proven
    if certificate := options.get("sslcert"):
        context.load_cert_chain(certificate, options.get("sslkey"))
    return context


def _is_local(host: str) -> bool:
    name = unquote(host)
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif not name.startswith("/"):
        name = name.partition(":")[0]
    if not name or name.startswith("/") or name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
