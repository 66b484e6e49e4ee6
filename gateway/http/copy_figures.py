"""Prometheus figures of copies: how far each target is behind, and what repair did about it."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.ports import Lag

FAILURES = ("target", "sources", "no-good-copy", "lease")


class CopyFigures:
    """The series, in somebody's registry. Implements the watches of `repairer` and of `lag`.

    Where several processes serve one `/metrics`, a gauge is that of whoever refreshed last.
    """

    def __init__(self, registry: CollectorRegistry, targets: Sequence[str]) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["target"], registry=registry, multiprocess_mode="mostrecent")

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, ["target", *more], registry=registry)

        self._seconds = gauge(
            "sealgate_replica_lag_seconds", "Since when the longest waiting copy is missing"
        )
        self._objects = gauge("sealgate_replicas_pending", "Versions that should be there")
        self._bytes = gauge("sealgate_replicas_pending_bytes", "Ciphertext bytes of their bodies")
        self._failing = gauge("sealgate_replicas_failing", "Of them, those tried in vain")
        self._late = gauge(
            "sealgate_replica_threshold_exceeded", "1 while a target is behind for too long"
        )
        self._missed = counter(
            "sealgate_replica_threshold_missed_total", "Times that a target was behind for too long"
        )
        self._caught_up = counter(
            "sealgate_replica_caught_up_total", "Times that a target which was behind caught up"
        )
        self._copied = counter("sealgate_replicas_repaired_total", "Replicas made whole again")
        self._copied_bytes = counter(
            "sealgate_replicas_repaired_bytes_total", "Ciphertext bytes copied for that"
        )
        self._failed = counter(
            "sealgate_replica_repairs_failed_total", "Repairs that failed, by reason", "reason"
        )
        self._refreshed = Gauge(
            "sealgate_replica_lag_timestamp_seconds",
            "When the figures of lag were last refreshed; 0 before the first time",
            registry=registry,
            multiprocess_mode="max",
        )
        for target in targets:
            for each in (self._seconds, self._objects, self._bytes, self._failing, self._late):
                each.labels(target)
            for count in (self._missed, self._caught_up, self._copied, self._copied_bytes):
                count.labels(target)
            for reason in FAILURES:
                self._failed.labels(target, reason)

    def lags(self, lag: Lag, seconds: float) -> None:
        """Implement `gateway.targets.lag.Watch.lags`."""
        self._seconds.labels(lag.target).set(seconds)
        self._objects.labels(lag.target).set(lag.objects)
        self._bytes.labels(lag.target).set(lag.bytes)
        self._failing.labels(lag.target).set(lag.failing)

    def missed_threshold(self, target: str) -> None:
        """Implement `gateway.targets.lag.Watch.missed_threshold`."""
        self._missed.labels(target).inc()
        self._late.labels(target).set(1)

    def caught_up(self, target: str) -> None:
        """Implement `gateway.targets.lag.Watch.caught_up`."""
        self._caught_up.labels(target).inc()
        self._late.labels(target).set(0)

    def lags_refreshed(self) -> None:
        """Implement `gateway.targets.lag.Watch.lags_refreshed`."""
        self._refreshed.set(time.time())

    def copied(self, target: str, size: int) -> None:
        """Implement `gateway.repair.repairer.Watch.copied`."""
        self._copied.labels(target).inc()
        self._copied_bytes.labels(target).inc(size)

    def repair_failed(self, target: str, reason: str) -> None:
        """Implement `gateway.repair.repairer.Watch.repair_failed`."""
        self._failed.labels(target, reason).inc()
