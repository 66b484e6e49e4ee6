"""A development CA, and one certificate each for a gateway and a key service.

Guarantees: EC P-256 keys, written 0600; nothing is overwritten without `force`; the server's names
and the gateway's name are subject alternative names, which is what the policy looks at. Not a
production CA: its key lies in the same folder.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyservice.files import write_durably

GATEWAY_NAME = "gateway.sealgate.internal"
SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
BACKDATE = dt.timedelta(minutes=5)
PUBLIC = 0o644
FILES = ("crt", "key")


@dataclass(frozen=True, slots=True)
class _Issued:
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


def issue(
    folder: Path, *, server_names: Sequence[str], gateway_name: str, days: int, force: bool = False
) -> list[Path]:
    """Write ca, keyservice and gateway as .crt and .key; return the paths. Blocks.

    Raises FileExistsError when one of them exists and `force` is off, before anything is written.
    """
    paths = [folder / f"{n}.{end}" for n in ("ca", "keyservice", "gateway") for end in FILES]
    existing = [path.name for path in paths if path.exists()]
    if existing and not force:
        msg = f"{folder} has {', '.join(existing)}: choose another folder or --force"
        raise FileExistsError(msg)
    lifetime = dt.timedelta(days=days)
    ca = _authority(lifetime)
    server = _leaf(ca, "keyservice", server_names, ExtendedKeyUsageOID.SERVER_AUTH, lifetime)
    gateway = _leaf(ca, "gateway", [gateway_name], ExtendedKeyUsageOID.CLIENT_AUTH, lifetime)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written: list[Path] = []
    for name, issued in (("ca", ca), ("keyservice", server), ("gateway", gateway)):
        written += _write(folder, name, issued, force=force)
    return written


def _authority(lifetime: dt.timedelta) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Sealgate development CA")
    usage = _usage(certificates=True)
    builder = (
        _builder(name, name, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _Issued(key, builder.sign(key, hashes.SHA256()))


def _leaf(
    ca: _Issued,
    common_name: str,
    names: Sequence[str],
    purpose: x509.ObjectIdentifier,
    lifetime: dt.timedelta,
) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(_name(common_name), ca.certificate.subject, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
        .add_extension(issuer, critical=False)
    )
    return _Issued(key, builder.sign(ca.key, hashes.SHA256()))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)


def _write(folder: Path, name: str, issued: _Issued, *, force: bool) -> list[Path]:
    certificate, key = (folder / f"{name}.{end}" for end in FILES)
    pem = issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_durably(key, pem, replace=force)
    public = issued.certificate.public_bytes(serialization.Encoding.PEM)
    write_durably(certificate, public, replace=force, mode=PUBLIC)
    return [certificate, key]
