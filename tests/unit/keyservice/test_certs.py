"""The development certificates: private, never overwritten, good for mutual TLS."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from keyservice.certs import GATEWAY_NAME, SERVER_NAMES, issue
from keyservice.tls import client_context, server_context


def make(folder: Path, *, force: bool = False) -> list[Path]:
    return issue(folder, server_names=SERVER_NAMES, gateway_name=GATEWAY_NAME, days=30, force=force)


def test_keys_are_private_and_certificates_public(tmp_path: Path) -> None:
    written = make(tmp_path / "certs")
    assert [path.name for path in written] == [
        "ca.crt",
        "ca.key",
        "keyservice.crt",
        "keyservice.key",
        "gateway.crt",
        "gateway.key",
    ]
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert modes == {".crt": 0o644, ".key": 0o600}


@pytest.mark.parametrize("present", ["ca.key", "gateway.crt"])
def test_nothing_is_overwritten_unless_forced(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("mine")
    with pytest.raises(FileExistsError, match=present):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    make(tmp_path, force=True)
    assert (tmp_path / present).read_text() != "mine"


def test_the_names_are_where_the_policy_looks(tmp_path: Path) -> None:
    make(tmp_path)
    found = {}
    for name in ("gateway", "keyservice"):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes())
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found[name] = {str(general.value) for general in extension.value}
    assert found == {"gateway": {GATEWAY_NAME}, "keyservice": set(SERVER_NAMES)}


def test_they_are_taken_by_both_sides_and_no_older_tls_is(tmp_path: Path) -> None:
    make(tmp_path)
    ca = tmp_path / "ca.crt"
    server = server_context(tmp_path / "keyservice.crt", tmp_path / "keyservice.key", ca)
    client = client_context(ca, tmp_path / "gateway.crt", tmp_path / "gateway.key")
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server.verify_mode == client.verify_mode == ssl.CERT_REQUIRED
    assert client.check_hostname


def test_a_uri_can_be_a_name(tmp_path: Path) -> None:
    name = "spiffe://sealgate/gateway"
    issue(tmp_path, server_names=["localhost"], gateway_name=name, days=1)
    certificate = x509.load_pem_x509_certificate((tmp_path / "gateway.crt").read_bytes())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.value.get_values_for_type(x509.UniformResourceIdentifier) == [name]
