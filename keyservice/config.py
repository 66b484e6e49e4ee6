"""The settings: what may be configured of the key service, section by section; `layered` reads them.

Secrets are never values here, only the paths of files that hold them.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from keyservice import layered
from keyservice.layered import Layered, Section

ENV_PREFIX = "SEALGATE_KEYSERVICE_"
ENV_FILE = "SEALGATE_KEYSERVICE_CONFIG"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Seconds = Annotated[float, Field(ge=0, le=86400)]
Positive = Annotated[float, Field(gt=0, le=3600)]
Port = Annotated[int, Field(ge=0, le=65535)]
TenantId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
MountPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")]
MAX_HELD = 1000


class Listen(Section):
    """Where callers connect: an address and port, or a Unix socket instead."""

    host: str = "127.0.0.1"
    port: Port = 8443
    unix_socket: Path | None = None


class Tls(Section):
    """The server's certificate and the CA whose client certificates are let in."""

    certificate: Path
    private_key: Path
    client_ca: Path


class Development(Section):
    """A bearer token instead of TLS; over loopback or a Unix socket only."""

    token_file: Path


class Probes(Section):
    """A second, plain listener with nothing but the probes and the figures."""

    host: str = "127.0.0.1"
    port: Port


class LocalRootSettings(Section):
    """A root key in a file and a folder of tenant records."""

    key_file: Path
    records: Path


class AppRole(Section):
    """Log in with a role id and a secret id, each in a file."""

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"


class Kubernetes(Section):
    """Log in as the pod's service account."""

    role: str
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: str = "kubernetes"


class VaultSettings(Section):
    """Vault or OpenBao: where it is, how to log in, and the names that `setup-vault` made."""

    url: Annotated[str, Field(pattern=r"^https?://[^/@?#]+/?$")]
    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    namespace: str | None = None
    approle: AppRole | None = None
    kubernetes: Kubernetes | None = None
    transit_mount: str = "sealgate-transit"
    kv_mount: str = "sealgate-kv"
    standard_key: str = "standard"
    timeout: Positive = 3.0
    deadline: Positive = 8.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.approle is None) == (self.kubernetes is None):
            raise ValueError("name one of approle and kubernetes")
        _demand_safe(self.url, self.certificate, self.private_key)
        return self


class HeldAppRole(AppRole):
    """The same at a customer's, where the log-in has a place of its own."""

    mount: MountPath = "sealgate-approle"


class HeldSettings(Section):
    """A Vault or OpenBao of a customer's own that holds the root key of their tenants.

    The names are those that the customer made there (`setup-held` prints the commands for it). The keys of no
    other than their `tenants` are ever sent there, and so of nobody while there are none.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    url: Annotated[str, Field(pattern=r"^https?://[^/@?#]+/?$")]
    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    namespace: str | None = None
    approle: HeldAppRole
    tenants: Annotated[tuple[TenantId, ...], Field(max_length=10_000)]
    transit_mount: MountPath = "sealgate-transit"
    transit_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")] = "sealgate"
    timeout: Positive = 3.0
    deadline: Positive = 8.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _demand_safe(self.url, self.certificate, self.private_key)
        return self


class RootSettings(Section):
    """Exactly one root."""

    local: LocalRootSettings | None = None
    vault: VaultSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.local is None) == (self.vault is None):
            raise ValueError("name one of root.local and root.vault")
        return self


class AuditSettings(Section):
    """The file of audit records; with `fsync` a record is on the disk before the answer."""

    file: Path
    fsync: bool = True


class JournalSettings(Section):
    """How often the uses of each tenant's keys are summed up on its journal, in seconds."""

    every: Annotated[float, Field(ge=1, le=86400)] = 3600.0


class LedgerSettings(Section):
    """The shred ledger: its file, the key that signs it, and public keys whose entries are taken, too.

    Without names they lie beside the file of audit records.
    """

    file: Path | None = None
    key_file: Path | None = None
    trusted: tuple[str, ...] = ()


class ShredSettings(Section):
    """How many days an order to destroy keys waits, and the least that one administrator may order.

    The least is also how long a KEK was out of use before anybody may retire it.
    `replay_every`, in seconds, is how often it is made sure that the dead are dead.
    """

    days: Annotated[int, Field(ge=0, le=3650)] = 30
    least_days: Annotated[int, Field(ge=0, le=3650)] = 7
    replay_every: Annotated[float, Field(ge=1, le=86400)] = 3600.0

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.days < self.least_days:
            raise ValueError("days must not be less than least_days")
        return self


class CacheSettings(Section):
    """How many KEKs are kept open, and how long for tenants that are created from now on."""

    capacity: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    standard_ttl: Seconds = 300.0
    business_ttl: Seconds = 60.0
    max_ttl: Seconds = 3600.0


class Settings(Layered):
    """Everything that the composition root reads."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    listen: Listen = Listen()
    tls: Tls | None = None
    development: Development | None = None
    probes: Probes | None = None
    root: RootSettings
    held: Annotated[tuple[HeldSettings, ...], Field(max_length=MAX_HELD)] = ()
    audit: AuditSettings
    journal: JournalSettings = JournalSettings()
    ledger: LedgerSettings = LedgerSettings()
    shred: ShredSettings = ShredSettings()
    cache: CacheSettings = CacheSettings()
    policy_file: Path | None = None
    drain_timeout: Positive = 15.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def ledger_file(self) -> Path:
        """Where the shred ledger is."""
        return self.ledger.file or self.audit.file.with_suffix(".ledger")

    @property
    def ledger_key(self) -> Path:
        """Where the key is that signs it."""
        return self.ledger.key_file or self.ledger_file.with_suffix(".key")

    @model_validator(mode="after")
    def _trust(self) -> Self:
        if (self.tls is None) == (self.development is None):
            raise ValueError("name one of tls and development")
        if self.tls is not None and self.policy_file is None:
            raise ValueError("policy_file is needed with tls")
        names = [section.name for section in self.held]
        if len(set(names)) != len(names):
            raise ValueError("two sections of held have one name")
        local = self.listen.unix_socket is not None or self.listen.host in LOOPBACK
        if self.development is not None and not local:
            raise ValueError("development listens on loopback or a Unix socket only")
        return self


def load(path: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of the file, the environment and the flags. Raises ConfigError."""
    return layered.load(Settings, path, flags, file_variable=ENV_FILE)


def _demand_safe(url: str, certificate: Path | None, private_key: Path | None) -> None:
    if (certificate is None) != (private_key is None):
        raise ValueError("certificate and private_key belong together")
    host = urllib.parse.urlsplit(url).hostname
    if not url.startswith("https:") and host not in LOOPBACK:
        raise ValueError("url must be https unless it is on loopback")
