"""Prometheus figures of what was verified, and what was found."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from gateway.repair.findings import Kind


class ScrubFigures:
    """The series, in somebody's registry. Implements `gateway.repair.findings.Watch`."""

    def __init__(self, registry: CollectorRegistry, targets: Sequence[str]) -> None:
        self._verified = Counter(
            "sealgate_scrub_verified_total",
            "Replicas that were read whole and are as they were stored",
            ["target"],
            registry=registry,
        )
        self._bytes = Counter(
            "sealgate_scrub_verified_bytes_total",
            "Ciphertext bytes of their bodies",
            ["target"],
            registry=registry,
        )
        self._found = Counter(
            "sealgate_scrub_findings_total",
            "What was found, by kind",
            ["target", "kind"],
            registry=registry,
        )
        for target in targets:
            self._verified.labels(target)
            self._bytes.labels(target)
            for kind in Kind:
                self._found.labels(target, kind.value)

    def verified(self, target: str, size: int) -> None:
        """Implement `gateway.repair.findings.Watch.verified`."""
        self._verified.labels(target).inc()
        self._bytes.labels(target).inc(size)

    def found(self, target: str, kind: str) -> None:
        """Implement `gateway.repair.findings.Watch.found`."""
        self._found.labels(target, kind).inc()
