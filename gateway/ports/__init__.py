"""What the use cases need of the outside, as Protocols.

Each has one contract suite under `tests/contracts/`, which every adapter runs.

Every method may be called from many tasks at once. A cancelled call leaves the other side as it was
or as if it had succeeded, never half visible.
"""

from gateway.ports.bin import Bin, Doomed, Trashed
from gateway.ports.catalog import Catalog
from gateway.ports.placement import Placement, Placements
from gateway.ports.recovery import REPLACED, Dumps, Recovered, Recovery, Settled
from gateway.ports.replicas import Finding, Gap, Held, Holding, Kept, Lag, Replicas
from gateway.ports.runs import Run, Runs, RunState, Told, untold
from gateway.ports.shreds import Shred, Shreds
from gateway.ports.store import PartUpload, Piece, Stat, Store, Unfinished
from gateway.ports.traces import Trace, Traces
from gateway.ports.wraps import (
    Backlog,
    KekUse,
    Leftover,
    Rewrapped,
    Rotation,
    Stale,
    Wrapped,
    Wraps,
)

__all__ = [
    "REPLACED",
    "Backlog",
    "Bin",
    "Catalog",
    "Doomed",
    "Dumps",
    "Finding",
    "Gap",
    "Held",
    "Holding",
    "KekUse",
    "Kept",
    "Lag",
    "Leftover",
    "PartUpload",
    "Piece",
    "Placement",
    "Placements",
    "Recovered",
    "Recovery",
    "Replicas",
    "Rewrapped",
    "Rotation",
    "Run",
    "RunState",
    "Runs",
    "Settled",
    "Shred",
    "Shreds",
    "Stale",
    "Stat",
    "Store",
    "Told",
    "Trace",
    "Traces",
    "Trashed",
    "Unfinished",
    "Wrapped",
    "Wraps",
    "untold",
]
