"""The figures of the key service, in a registry of their own.

Labels have few values: operations, outcomes and names of dependencies, never tenants or callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keyservice.access.policy import Operation
from keyservice.journal.journal import Journal
from keyservice.keys.flight import FlightCache
from keyservice.keys.keyring import Keyring
from keyservice.wire import ERRORS

PREFIX = "sealgate_keyservice"
ROOT_CALLS = (
    *("create", "wrap", "unwrap", "rewrap", "rotate", "versions", "retire", "destroy"),
    *("wrapping-key", "import", "import-version"),
)


class Metrics:
    """Every series exists from the start, at zero."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}_requests",
            "Requests by operation and outcome.",
            ("operation", "outcome"),
            registry=self.registry,
        )
        self._keys = Counter(
            f"{PREFIX}_keys",
            "Data keys made, unwrapped or rewrapped, by outcome.",
            ("operation", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_request_seconds",
            "Time from a parsed request to its answer.",
            ("operation",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self._root = Counter(
            f"{PREFIX}_root_calls",
            "Calls of the root by outcome.",
            ("call", "outcome"),
            registry=self.registry,
        )
        self._held = Counter(
            f"{PREFIX}_held_calls",
            "Calls of the Vaults that customers hold, by the name in the settings and outcome.",
            ("name", "outcome"),
            registry=self.registry,
        )
        self.policy_failures = Counter(
            f"{PREFIX}_policy_reload_failures",
            "New policy files that were refused.",
            registry=self.registry,
        )
        self.healthy = Gauge(
            f"{PREFIX}_dependency_healthy",
            "1 when the dependency answered the last time it was asked.",
            ("dependency",),
            registry=self.registry,
        )
        for operation in Operation:
            self._seconds.labels(operation.value)
            for outcome in ("ok", *ERRORS):
                self._requests.labels(operation.value, outcome)
        for call in ROOT_CALLS:
            for outcome in ("ok", "unavailable"):
                self._root.labels(call, outcome)

    def watch(self, keyring: Keyring) -> None:
        """Publish the size and the hits of the keyring's caches."""
        self.registry.register(_Caches({"records": keyring.tenancies, "keks": keyring.keks}))

    def watch_journal(self, journal: Journal) -> None:
        """Publish how much of the key journals waits to be written, and what was lost."""
        self.registry.register(_Journal(journal))

    def watch_ends(self, dead: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Publish how many tenants are dead, and how many of them are still to be looked at."""
        for name, text, count in (
            ("shredded_tenants", "Tenants in the shred ledger.", dead),
            ("shreds_waiting", "Of them, those whose keys may have come back.", waiting),
        ):
            gauge = Gauge(f"{PREFIX}_{name}", text, registry=self.registry)
            gauge.set_function(count)

    def request(self, operation: Operation, outcome: str, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(operation.value, outcome).inc()
        self._seconds.labels(operation.value).observe(seconds)

    def keys(self, operation: Operation, outcome: str, count: int) -> None:
        """Count keys of one outcome."""
        self._keys.labels(operation.value, outcome).inc(count)

    def root_call(self, call: str, outcome: str) -> None:
        """Count one call of the root."""
        self._root.labels(call, outcome).inc()

    def holds(self, name: str) -> None:
        """Show a customer's Vault before it is called."""
        for outcome in ("ok", "suspended-by-owner", "unavailable"):
            self._held.labels(name, outcome)

    def held_call(self, name: str, outcome: str) -> None:
        """Count one call of a customer's Vault."""
        self._held.labels(name, outcome).inc()

    def exposition(self) -> bytes:
        """Return the figures in the Prometheus text format."""
        return generate_latest(self.registry)


class _Journal(Collector):
    """Asks the journal when it is asked itself."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            f"{PREFIX}_journal_waiting",
            "Sums of uses and ends of changes that are not on a key journal yet.",
            value=self._journal.waiting,
        )
        yield CounterMetricFamily(
            f"{PREFIX}_journal_lost",
            "Uses that no key journal will tell of, since too many waited.",
            value=self._journal.lost,
        )


class _Caches(Collector):
    """Reads the caches' own counts when it is asked for them."""

    def __init__(self, caches: Mapping[str, FlightCache[Any, Any]]) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        hits = CounterMetricFamily(f"{PREFIX}_cache_hits", "Lookups served.", labels=["cache"])
        misses = CounterMetricFamily(f"{PREFIX}_cache_misses", "Loads.", labels=["cache"])
        entries = GaugeMetricFamily(f"{PREFIX}_cache_entries", "Entries kept.", labels=["cache"])
        for name, cache in self._caches.items():
            hits.add_metric([name], cache.hits)
            misses.add_metric([name], cache.misses)
            entries.add_metric([name], len(cache))
        yield from (hits, misses, entries)
