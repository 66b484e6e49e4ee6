"""Prometheus figures of periodic work: when each kind last ended well, how long it took, what runs now."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.duties.duty import Duty
from gateway.ports import Run, RunState

ENDS = ("done", "failed", "left")  # left: given back, or lost to another worker


class RunFigures:
    """The series, in somebody's registry. Implements the watch of `worker`.

    `sealgate_run_last_success_timestamp_seconds` tells of all workers and of all duties that are `asked`
    for, whoever does them; the others of this process and its own `duties`.
    """

    def __init__(
        self, registry: CollectorRegistry, duties: Iterable[Duty], asked: Iterable[Duty] = ()
    ) -> None:
        def gauge(name: str, text: str, mode: str = "mostrecent") -> Gauge:
            labels = ["kind", "subject"]
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]  # one of its words

        self._success = gauge(
            "sealgate_run_last_success_timestamp_seconds",
            "When a run last ended well, whichever worker's; 0 before the first",
            "max",
        )
        self._seconds = gauge("sealgate_run_duration_seconds", "How long the last run here took")
        self._running = gauge("sealgate_run_running", "1 while a run goes on here", "livesum")
        self._ends = Counter(
            "sealgate_runs_total",
            "Runs that ended here, by how",
            ["kind", "subject", "end"],
            registry=registry,
        )
        ours = {(duty.kind, duty.subject) for duty in duties}
        self._known = ours | {(duty.kind, duty.subject) for duty in asked}
        for known in self._known:
            self._success.labels(*known)
        for known in ours:
            for each in (self._seconds, self._running):
                each.labels(*known)
            for end in ENDS:
                self._ends.labels(*known, end)

    def began(self, duty: Duty) -> None:
        """Implement `Watch.began`."""
        self._running.labels(duty.kind, duty.subject).set(1)

    def ended(self, duty: Duty, run: Run | None, seconds: float) -> None:
        """Implement `Watch.ended`."""
        known = (duty.kind, duty.subject)
        self._running.labels(*known).set(0)
        self._ends.labels(*known, "left" if run is None else run.state.value).inc()
        if run is not None:
            self._seconds.labels(*known).set(seconds)
            if run.state is RunState.DONE:
                self._success.labels(*known).set(time.time())

    def last(self, run: Run) -> None:
        """Implement `Watch.last`; one that nobody asks for adds no series."""
        if run.ended is not None and (run.kind, run.subject) in self._known:
            self._success.labels(run.kind, run.subject).set(run.ended.timestamp())
