"""The settings of the work that goes on beside requests, section by section; `config` reads them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from keyservice.layered import Section

MiB = 1024 * 1024

Seconds = Annotated[float, Field(ge=0, le=30 * 86400)]
Port = Annotated[int, Field(ge=0, le=65535)]


class ReaperSettings(Section):
    """Whether and how often leftovers are removed, and how old they must be. Seconds."""

    enabled: bool = True
    every: Seconds = 60.0
    grace: Annotated[float, Field(ge=1)] = 15 * 60.0
    sweep_every: Seconds = 6 * 3600.0
    sweep_age: Annotated[float, Field(ge=60)] = 24 * 3600.0
    keep_complete: Annotated[float, Field(ge=0)] = 30 * 86400.0


class CatalogBackupSettings(Section):
    """Whether and how often the catalog is copied to the targets, and how many copies stay. Seconds."""

    enabled: bool = True
    every: Annotated[float, Field(ge=60)] = 86400.0
    keep: Annotated[int, Field(ge=1, le=10_000)] = 30


class DrillSettings(Section):
    """How often a sample of each backup, and all of it, is restored to prove that it can be.

    Seconds, bytes. `folder` takes what is restored for as long as it is looked at.
    """

    enabled: bool = True
    every: Annotated[float, Field(ge=60)] = 86400.0
    everything_every: Annotated[float, Field(ge=60)] = 30 * 86400.0
    sample: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    bytes_per_second: Annotated[float, Field(ge=0)] = 64.0 * MiB
    folder: Path | None = None


class ReportsSettings(Section):
    """Where journals and signed reports go (unset: beside the settings), and what signs them."""

    folder: Path | None = None
    key_file: Path | None = None  # unset: report.key in the folder


class Repair(Section):
    """How copies that a target misses are brought back. Seconds, bytes.

    Rates and memory hold for one process that repairs, `parallel` for each target.
    """

    enabled: bool = True
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    bytes_per_second: Annotated[float, Field(ge=0)] = 64.0 * MiB
    requests_per_second: Annotated[float, Field(ge=0)] = 500.0
    memory: Annotated[int, Field(ge=16 * MiB)] = 128 * MiB
    lease: Annotated[float, Field(ge=5, le=3600)] = 120.0
    pause: Annotated[float, Field(ge=0.05, le=3600)] = 2.0
    adopt_every: Annotated[float, Field(ge=1)] = 3600.0
    threshold: Annotated[float, Field(gt=0)] = 900.0
    report_every: Annotated[float, Field(ge=0.05, le=3600)] = 15.0


class ScrubSection(Section):
    """How replicas are verified. Seconds, bytes; the rate holds for one process that scrubs.

    Every replica is verified within `cycle`, in runs that begin `every`; `sample` is the share of what a
    run verifies that is opened with keys.
    """

    enabled: bool = True
    cycle: Annotated[float, Field(ge=1)] = 30 * 86400.0
    every: Annotated[float, Field(ge=1)] = 86400.0
    inventory_every: Annotated[float, Field(ge=1)] = 43200.0
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    bytes_per_second: Annotated[float, Field(ge=0)] = 32.0 * MiB
    requests_per_second: Annotated[float, Field(ge=0)] = 100.0
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    patience: Seconds = 60.0


class RotationSettings(Section):
    """How often keys are rotated where a tenant has no schedule of its own; 0: never. Seconds.

    `every` is how often a worker looks for what is due; what is not rotated `grace` after that is an alarm.
    The rates hold for one process: envelopes that are rewrapped, and requests to targets, `parallel` at a
    time each. A worker writes to targets what they lack `push_every` so often.
    """

    enabled: bool = True
    every: Annotated[float, Field(ge=1)] = 3600.0
    grace: Annotated[float, Field(ge=0)] = 86400.0
    business_kek: Annotated[float, Field(ge=0)] = 90 * 86400.0
    business_root: Annotated[float, Field(ge=0)] = 365 * 86400.0
    standard_kek: Annotated[float, Field(ge=0)] = 365 * 86400.0
    shared_root: Annotated[float, Field(ge=0)] = 365 * 86400.0
    envelopes_per_second: Annotated[float, Field(ge=0)] = 1000.0
    requests_per_second: Annotated[float, Field(ge=0)] = 500.0
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    lease: Annotated[float, Field(ge=5, le=3600)] = 120.0
    push_every: Annotated[float, Field(ge=0.05, le=3600)] = 15.0
    patience: Seconds = 300.0


class ShredSection(Section):
    """How often orders to destroy keys are looked at, and the ledger of what was destroyed is copied.

    Seconds. `sweep_every` is how often all tenants are asked after, for orders the catalog was not told of.
    """

    every: Annotated[float, Field(ge=0.05)] = 60.0
    ledger_every: Annotated[float, Field(ge=0.05)] = 300.0
    sweep_every: Annotated[float, Field(ge=1)] = 86400.0


class WorkerSettings(Section):
    """The duties: what is done beside requests, by `sealgate worker`, or by a gateway if `embedded`.

    `host` and `port` are where a worker shows its figures. Seconds.
    """

    embedded: bool = False
    host: str = "127.0.0.1"
    port: Port = 8081
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    lease: Annotated[float, Field(ge=1, le=3600)] = 60.0
    retry: Annotated[float, Field(ge=1)] = 900.0
    purge_every: Annotated[float, Field(ge=1)] = 3600.0
    keep_runs: Annotated[float, Field(ge=86400)] = 90 * 86400.0
