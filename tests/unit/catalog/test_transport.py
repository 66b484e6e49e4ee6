"""TLS to PostgreSQL: on by default, verified by default, and never optional."""

import ssl
from pathlib import Path

import pytest

from gateway.catalog.transport import transport

ELSEWHERE = "postgresql://user:secret@db.example:5432/sealgate"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///sealgate",
        "postgresql://user@localhost/sealgate",
        "postgresql://user:p%40ss@127.0.0.1:5433/sealgate",
        "postgresql://[::1]:5433/sealgate",
        "postgresql://%2Frun%2Fpostgresql/sealgate",
        "postgresql:///sealgate?host=/run/postgresql",
        "postgresql://localhost,127.0.0.2:5433/sealgate",
    ],
)
def test_local_needs_no_tls(dsn: str) -> None:
    assert transport(dsn) is False


@pytest.mark.parametrize(
    "dsn",
    [
        ELSEWHERE,
        "postgresql://10.0.0.1/sealgate",
        "postgresql://localhost,db.example/sealgate",
        "postgresql:///sealgate?host=db.example",
        ELSEWHERE + "?sslmode=verify-full",
        ELSEWHERE + "?sslmode=verify-full&sslrootcert=system",
        "postgresql://localhost/sealgate?sslmode=verify-full",
    ],
)
def test_elsewhere_is_verified(dsn: str) -> None:
    context = transport(dsn)
    assert context
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_verify_ca_leaves_the_name_out() -> None:
    context = transport(ELSEWHERE + "?sslmode=verify-ca")
    assert context
    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_require_hides_without_proof() -> None:
    context = transport(ELSEWHERE + "?sslmode=require")
    assert context
    assert context.verify_mode is ssl.CERT_NONE
    proven = transport(ELSEWHERE + "?sslmode=require&sslrootcert=system")
    assert proven
    assert proven.verify_mode is ssl.CERT_REQUIRED


def test_disable_has_to_be_said() -> None:
    assert transport(ELSEWHERE + "?sslmode=disable") is False


@pytest.mark.parametrize("mode", ["allow", "prefer", "nonsense"])
def test_optional_tls_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="use require, verify-ca or verify-full") as caught:
        transport(f"{ELSEWHERE}?sslmode={mode}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert"])
def test_certificate_that_is_not_there(option: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        transport(f"{ELSEWHERE}?{option}={tmp_path}/none.pem")
