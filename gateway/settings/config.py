"""The settings: what may be configured of the gateway and its commands; `keyservice.layered` reads them.

Secrets are never values here, only the paths of files that hold them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.settings.sections import (
    CatalogBackupSettings,
    DrillSettings,
    MiB,
    Port,
    ReaperSettings,
    Repair,
    ReportsSettings,
    RotationSettings,
    ScrubSection,
    Seconds,
    ShredSection,
    WorkerSettings,
)
from gateway.targets.quorum import Quorum
from keyservice import layered
from keyservice.layered import ConfigError, Layered, Section

PREFIX = "SEALGATE_"
ENV_FILE = "SEALGATE_CONFIG"
OTHERS = ("SEALGATE_KEYSERVICE_",)  # settings of the other command, which may share a machine

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Listen(Section):
    """Where applications connect: an address and port, or a Unix socket instead.

    `shared` lets several processes listen on the port, each taking a share of the connections.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    unix_socket: Path | None = None
    shared: bool = False


class Tls(Section):
    """The server's certificate chain and key, both PEM."""

    certificate: Path
    private_key: Path


class KeyServiceSettings(Section):
    """Where the key service is and how this gateway shows who it is."""

    url: str
    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    token_file: Path | None = None  # development only, on loopback or a Unix socket
    timeout: Seconds = 10.0
    cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    cache_ttl: Seconds = 30.0


class CatalogSettings(Section):
    """The database, as a URL or as a file that holds the URL (it may have a password).

    `patience` is how many seconds a call may take: unset, what suits a server, or a file.
    """

    url: str | None = Field(default=None, repr=False)
    url_file: Path | None = None
    connections: Annotated[int, Field(ge=1, le=200)] = 10
    patience: Annotated[float | None, Field(ge=0.1, le=600)] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("name one of url and url_file")
        return self


class _Target(Section):
    name: Name
    role: Literal["primary", "backup"]
    region: Name | None = None  # where in the world it is, for quorums that name regions


class FolderTarget(_Target):
    """A folder that exists."""

    kind: Literal["folder"]
    path: Path

    @property
    def place(self) -> tuple[str, ...]:
        """What tells this target's objects from any other's."""
        return ("folder", os.path.realpath(self.path))


class S3Target(_Target):
    """A bucket that exists. Without key files the standard chain of AWS is searched."""

    kind: Literal["s3"]
    bucket: str
    endpoint: str | None = None
    signing_region: str = "us-east-1"
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    checksum: Literal["crc64nvme", "md5"] = "crc64nvme"
    ca_file: Path | None = None
    connections: Annotated[int, Field(ge=1, le=1000)] = 64

    @property
    def place(self) -> tuple[str, ...]:
        """What tells this target's objects from any other's."""
        endpoint = (self.endpoint or f"aws {self.signing_region}").rstrip("/").lower()
        return ("s3", endpoint, self.bucket)


Target = Annotated[FolderTarget | S3Target, Field(discriminator="kind")]


def _policy(text: str | None) -> str | None:
    return text if text is None else str(Quorum.parse(text))


class QuorumSettings(Section):
    """Which targets must hold an upload before it is acknowledged: a policy of `gateway.targets.quorum`.

    Unset it is the primary and one backup, or the primary alone where there is no backup. `degraded`
    lets an upload pass that cannot reach the policy now, as long as one target holds it.
    """

    policy: Annotated[str | None, AfterValidator(_policy)] = None
    degraded: bool = False


class Limits(Section):
    """What bounds memory, size and patience. Sizes in bytes."""

    max_attachment: Annotated[int, Field(ge=0, le=1024 * 1024 * MiB)] = 1024 * 1024 * MiB
    inline: Annotated[int, Field(ge=0, le=64 * 1024)] = 64 * 1024
    part_size: Annotated[int, Field(ge=5 * MiB, le=256 * MiB)] = 8 * MiB
    parts_in_flight: Annotated[int, Field(ge=2, le=16)] = 3
    parts_at_once: Annotated[int, Field(ge=1, le=8)] = 2
    backup_patience: Seconds = 2.0
    first_byte: Annotated[float, Field(ge=0.05, le=300)] = 2.0
    silence: Annotated[float, Field(ge=0.05, le=300)] = 5.0
    hedge_after: Annotated[float, Field(ge=0, le=300)] = 0.5
    stall_timeout: Annotated[float, Field(ge=1, le=3600)] = 30.0
    parts_memory: Annotated[int, Field(ge=16 * MiB, le=1024 * 1024 * MiB)] = 512 * MiB
    streams: Annotated[int, Field(ge=1, le=100_000)] = 512
    tenant_streams: Annotated[int, Field(ge=1, le=100_000)] = 128
    connections: Annotated[int, Field(ge=0, le=1_000_000)] = 4096
    address_connections: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    min_rate: Annotated[float, Field(gt=0, le=1024 * MiB)] = 512.0
    slow_grace: Annotated[float, Field(ge=1, le=3600)] = 30.0
    head_timeout: Annotated[float, Field(ge=1, le=3600)] = 15.0


class FailoverSettings(Section):
    """How often gateways ask the catalog which target is the primary now. Seconds."""

    refresh: Annotated[float, Field(ge=0.1, le=60)] = 2.0


class Settings(Layered):
    """Everything that the composition root reads."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    listen: Listen = Listen()
    tls: Tls | None = None
    keyservice: KeyServiceSettings
    catalog: CatalogSettings
    targets: tuple[Target, ...]
    quorum: QuorumSettings = QuorumSettings()
    limits: Limits = Limits()
    reaper: ReaperSettings = ReaperSettings()
    repair: Repair = Repair()
    scrub: ScrubSection = ScrubSection()
    catalog_backup: CatalogBackupSettings = CatalogBackupSettings()
    drill: DrillSettings = DrillSettings()
    reports: ReportsSettings = ReportsSettings()
    failover: FailoverSettings = FailoverSettings()
    rotation: RotationSettings = RotationSettings()
    shred: ShredSection = ShredSection()
    worker: WorkerSettings = WorkerSettings()
    heartbeat: Annotated[float, Field(gt=0, le=60)] = 15.0
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_delay: Seconds = 0.0
    drain_timeout: Seconds = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError("every target has a name of its own")
        if sum(target.role == "primary" for target in self.targets) != 1:
            raise ValueError("exactly one target is the primary")
        places = [target.place for target in self.targets]
        if len(set(places)) != len(places):
            raise ValueError("every target has a place of its own: a bucket or a folder")
        try:
            self.required.demand(self.targets)
        except ValueError as error:
            raise ValueError(f"quorum.policy: {error}") from None
        if self.reaper.grace < 4 * self.heartbeat:
            raise ValueError("reaper.grace is at least four times heartbeat, or uploads are cut")
        return self

    @property
    def required(self) -> Quorum:
        """The policy of every tenant that has none of its own."""
        if self.quorum.policy is not None:
            return Quorum.parse(self.quorum.policy)
        return Quorum(backups=min(1, len(self.targets) - 1))


def load(
    path: Path | None, flags: Mapping[str, Any] | None = None, *, environment: bool = True
) -> Settings:
    """Return the settings of the file, the environment and the flags. Raises ConfigError."""
    if path is None:
        raise ConfigError(f"name a configuration file with --config or {ENV_FILE}")
    return layered.load(
        Settings, path, flags, file_variable=ENV_FILE, others=OTHERS, environment=environment
    )


def secret(path: Path | None) -> str | None:
    """Return the text of a secret's file, without the line end. Raises ConfigError."""
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the secret in {path}: {type(error).__name__}") from None
