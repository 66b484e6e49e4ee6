"""The operator's document and the code name the same figures, settings and endings."""

import re
from pathlib import Path

import pytest

from gateway.http.metrics import Metrics
from gateway.http.problem_types import PROBLEMS
from gateway.http.run_figures import RunFigures
from gateway.settings.config import Settings
from keyservice.metrics import Metrics as KeyServiceMetrics

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()


def _families() -> set[str]:
    found: set[str] = set()
    service = KeyServiceMetrics()
    metrics = Metrics(["primary"])
    RunFigures(metrics.registry, [])
    for registry in (metrics.registry, service.registry):
        for family in registry.collect():
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    # Published once there is a keyring, a journal and a ledger to watch.
    caches = {"cache_hits_total", "cache_misses_total", "cache_entries"}
    journal = {"journal_waiting", "journal_lost_total"}
    ledger = {"shredded_tenants", "shreds_waiting"}
    return found | {f"sealgate_keyservice_{name}" for name in caches | journal | ledger}


def test_the_tables_of_metrics_are_complete() -> None:
    assert set(re.findall(r"^\| `(sealgate_\w+)` \|", TEXT, re.MULTILINE)) == _families()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+\.(?!crt|key)\w+)`", TEXT))))
def test_settings_that_it_names_exist(name: str) -> None:
    section, _, field = name.partition(".")
    inner = Settings.model_fields[section].annotation
    assert inner is not None
    assert field in inner.model_fields


@pytest.mark.parametrize("found", sorted(set(re.findall(r"\b(\d{3}) `([a-z-]+)`", TEXT))))
def test_answers_that_it_names_exist(found: tuple[str, str]) -> None:
    status, slug = found
    if slug == "draining":
        return
    known = {(str(problem.status), problem.slug) for problem in PROBLEMS.values()}
    assert (status, slug) in known
