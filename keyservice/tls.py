"""TLS contexts: 1.2 or newer, and both sides show a certificate."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(certificate: Path, private_key: Path, client_ca: Path) -> ssl.SSLContext:
    """Return the context of a server that lets in only clients of the CA. Blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_ca)
    context.load_cert_chain(certificate, private_key)
    return context


def client_context(ca: Path, certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Return the context of a client that trusts only the CA and checks the name. Blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, private_key)
    return context
