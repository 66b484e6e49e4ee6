"""Prometheus figures of the gateway: low cardinality, base units, every series there from the start.

No label ever holds a tenant, an id or a name.
"""

import os
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.http.copy_figures import CopyFigures
from gateway.http.key_figures import KeyFigures
from gateway.http.scrub_figures import ScrubFigures
from gateway.targets.placing import Roster
from gateway.targets.quorum import Role

METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
REASONS = ("unavailable", "denied", "absent", "damaged")
STATES = ("suspended", "suspended-by-owner", "shredding", "shredded")
CLASSES = ("2xx", "3xx", "4xx", "5xx")


class Metrics:
    """The registry and its series."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sealgate_http_requests_total",
            "Requests answered, by method and class of status",
            ["method", "status"],
            registry=self.registry,
        )
        for method in METHODS:
            for status in CLASSES:
                self.requests.labels(method, status)
        self._ended: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.shut = Counter(
            "sealgate_tenant_refusals_total",
            "Requests refused for the state of a tenant's keys",
            ["state"],
            registry=self.registry,
        )
        for state in STATES:
            self.shut.labels(state)
        self.running = Gauge(
            "sealgate_http_requests_running",
            "Requests being served",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.seconds = Histogram(
            "sealgate_http_request_seconds",
            "Time from the first byte of a request to the last of its answer",
            ["method"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
            registry=self.registry,
        )
        self.received = Counter(
            "sealgate_received_bytes_total",
            "Plaintext bytes of uploads that were stored",
            registry=self.registry,
        )
        self.sent = Counter(
            "sealgate_sent_bytes_total",
            "Plaintext bytes of downloads",
            registry=self.registry,
        )
        self.missing = Counter(
            "sealgate_replicas_missed_total",
            "Replicas that an acknowledged upload did not reach",
            ["target"],
            registry=self.registry,
        )
        for target in targets:
            self.missing.labels(target)
        self.degraded = Counter(
            "sealgate_degraded_acknowledgements_total",
            "Uploads that were acknowledged on fewer targets than their quorum, as configured",
            registry=self.registry,
        )
        self.degraded_last = Gauge(
            "sealgate_degraded_acknowledgement_timestamp_seconds",
            "When the last of them was acknowledged; 0 before the first",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.first_bytes = Histogram(
            "sealgate_replica_first_byte_seconds",
            "Time until a target began to give what a read asked of it",
            ["target"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        for target in targets:
            self.first_bytes.labels(target)
        self.hedges = Counter(
            "sealgate_hedged_reads_total",
            "Reads for which a second target was asked, because the first was slow to begin",
            registry=self.registry,
        )
        self.hedges_won = Counter(
            "sealgate_hedged_reads_won_total",
            "Of them, those that the second target began first",
            registry=self.registry,
        )
        self.failures = Counter(
            "sealgate_replica_reads_failed_total",
            "Reads that a target failed, and another had to go on with",
            ["target", "reason"],
            registry=self.registry,
        )
        for target in targets:
            for reason in REASONS:
                self.failures.labels(target, reason)
        self.epoch = Gauge(
            "sealgate_placement_epoch",
            "Epoch of the decision on the primary that this gateway goes by; of the worker furthest behind",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.primary = Gauge(
            "sealgate_primary",
            "1 for the target that is the primary now, else 0",
            ["target"],
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.cut = Counter(
            "sealgate_downloads_cut_total",
            "Downloads cut because no target could serve the rest",
            registry=self.registry,
        )

        self.copies = CopyFigures(self.registry, targets)
        self.keys = KeyFigures(self.registry, targets)
        self.scrubs = ScrubFigures(self.registry, targets)
        self.connections = Gauge(
            "sealgate_connections",
            "Connections of clients that are open",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "sealgate_connections_refused_total",
            "Connections closed at once, by the cap that was reached",
            ["cap"],
            registry=self.registry,
        )
        for cap in ("all", "address"):
            self.refused.labels(cap)

    def ended(self, method: str, status: int, seconds: float) -> None:
        """Count a request. What counts it is looked up by its labels once."""
        key = self.method(method), f"{status // 100}xx"
        counts = self._ended.get(key)
        if counts is None:
            counts = self.requests.labels(*key), self.seconds.labels(key[0])
            self._ended[key] = counts
        counts[0].inc()
        counts[1].observe(seconds)

    def placed(self, roster: Roster) -> None:
        """Show which target is the primary now."""
        self.epoch.set(roster.epoch)
        for target in roster.targets:
            self.primary.labels(target.name).set(target.role is Role.PRIMARY)

    def began(self, target: str, seconds: float) -> None:
        """Implement `gateway.flow.hedge.Watch.began`."""
        self.first_bytes.labels(target).observe(seconds)

    def hedged(self, *, won: bool) -> None:
        """Implement `gateway.flow.hedge.Watch.hedged`."""
        self.hedges.inc()
        if won:
            self.hedges_won.inc()

    def replica_failed(self, target: str, reason: str) -> None:
        """Implement `gateway.flow.hedge.Watch.replica_failed`."""
        self.failures.labels(target, reason).inc()

    def method(self, method: str) -> str:
        """Return the label of a method: clients may send any word, a label must not grow."""
        return method if method in METHODS else "other"

    def expose(self) -> bytes:
        """Return the text exposition: of all workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
