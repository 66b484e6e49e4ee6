"""Prometheus figures of envelopes that are brought under newer keys, in the catalog and on targets."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.ports import Backlog

ROTATED = ("kek", "root", "shared-root")
FAILURES = ("target", "absent", "unreadable", "newer", "lease")


class KeyFigures:
    """The series, in somebody's registry. Implements the watches of `rewrapping` and of `pushing`.

    Where several processes serve one `/metrics`, a gauge is that of whoever refreshed last.
    """

    def __init__(self, registry: CollectorRegistry, targets: Sequence[str]) -> None:
        self._rewrapped = Counter(
            "sealgate_envelopes_rewrapped_total",
            "Envelopes that came under a newer KEK in the catalog",
            registry=registry,
        )
        self._pushed = Counter(
            "sealgate_envelopes_pushed_total",
            "Envelopes that were written to a target which held an older one",
            ["target"],
            registry=registry,
        )
        self._failed = Counter(
            "sealgate_envelope_pushes_failed_total",
            "Envelopes that could not be written, by reason",
            ["target", "reason"],
            registry=registry,
        )
        self._stale = Gauge(
            "sealgate_envelopes_stale",
            "Envelopes that a target holds under a KEK that the catalog has left",
            ["target"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._oldest = Gauge(
            "sealgate_envelopes_stale_since_timestamp_seconds",
            "Since when the one is that waits the longest; 0 where none does",
            ["target"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._overdue = Gauge(
            "sealgate_key_rotation_overdue",
            "Rotations that were missed, as of the last round, whoever made it",
            ["of"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._rotations = Counter(
            "sealgate_key_rotations_total",
            "Rotations that were due and came to an end here",
            ["of", "outcome"],
            registry=registry,
        )
        for of in ROTATED:
            self._overdue.labels(of)
            for outcome in ("done", "failed"):
                self._rotations.labels(of, outcome)
        for target in targets:
            for each in (self._pushed, self._stale, self._oldest):
                each.labels(target)
            for reason in FAILURES:
                self._failed.labels(target, reason)

    def overdue(self, of: str, count: int) -> None:
        """Implement `gateway.rotation.overdue.Watch.overdue`."""
        self._overdue.labels(of).set(count)

    def rotated(self, of: str, *, well: bool) -> None:
        """Implement `gateway.rotation.rounds.Watch.rotated`."""
        self._rotations.labels(of, "done" if well else "failed").inc()

    def rewrapped(self, count: int) -> None:
        """Implement `gateway.rotation.rewrapping.Watch.rewrapped`."""
        self._rewrapped.inc(count)

    def pushed(self, target: str) -> None:
        """Implement `gateway.rotation.pushing.Watch.pushed`."""
        self._pushed.labels(target).inc()

    def push_failed(self, target: str, reason: str) -> None:
        """Implement `gateway.rotation.pushing.Watch.push_failed`."""
        self._failed.labels(target, reason).inc()

    def backlog(self, backlog: Backlog) -> None:
        """Implement `gateway.rotation.pushing.Watch.backlog`."""
        self._stale.labels(backlog.target).set(backlog.copies)
        oldest = backlog.oldest.timestamp() if backlog.oldest else 0.0
        self._oldest.labels(backlog.target).set(oldest)
