"""`sealgate status`: asks a running gateway whether it is ready, and what it waits for if not."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.command import (
    FAILED,
    USAGE,
    Config,
    Json,
    fail,
    run,
    settings_of,
    show_json,
    teach,
)
from gateway.settings.config import Settings

HELP = teach(
    "Ask a running gateway for its readiness, a line a dependency, and how far its targets are behind. "
    "Where it is comes from its settings, or from --url.",
    "sealgate status --config /etc/sealgate/sealgate.toml",
    "sealgate status --url https://gateway.example:8443 --ca ca.crt --json",
    codes="Exit codes: 0 ready, 1 not ready or no answer, 2 wrong usage or settings.",
)
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask, not where to listen
_TIMEOUT = 10.0
_MIB = 1024 * 1024
_KNOWN = "sealgate_replica_lag_timestamp_seconds"
_LAGS = {
    "sealgate_replica_lag_seconds": "seconds",
    "sealgate_replicas_pending": "objects",
    "sealgate_replicas_pending_bytes": "bytes",
    "sealgate_replicas_failing": "failing",
    "sealgate_replica_threshold_exceeded": "late",
}
_SUCCESS = "sealgate_run_last_success_timestamp_seconds"
_NIGHTLY = ("drill", "catalog-backup")
_OVERDUE = 26 * 3600.0  # seconds: a day, and time to be late
_OK = 200


def status(
    *,
    url: Annotated[str | None, typer.Option(help="http(s)://host:port or unix:///path.")] = None,
    ca: Annotated[Path | None, typer.Option(help="CA of the gateway's certificate.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask for readiness."""
    address = url or address_of(settings_of(config))
    code, text, figures = run(_ask(address, ca))
    lags, nights = lags_of(figures), nights_of(figures, time.time())
    ready = code == _OK
    lines = [line.partition(": ") for line in text.splitlines()]
    if as_json:
        states = {name: state for name, colon, state in lines if colon}
        draining = not ready and text.strip() == "draining"
        show_json(
            {
                "url": address,
                "ready": ready,
                "draining": draining,
                "dependencies": states,
                "lag": lags,
                "nightly": nights,
            }
        )
    else:
        typer.echo(f"{address} is {'ready' if ready else 'NOT ready'}")
        for name, colon, state in lines:
            typer.echo(f"  {name}{colon}{state}")
        for name, lag in lags.items():
            typer.echo(f"  {name} {_behind(lag)}")
        for name, night in nights.items():
            typer.echo(f"  {name} {_ago(night)}")
    if not ready:
        raise typer.Exit(FAILED)


def address_of(settings: Settings) -> str:
    """Return the URL at which the gateway of these settings is reached from its own machine."""
    listen = settings.listen
    if listen.unix_socket is not None:
        return f"unix://{listen.unix_socket}"
    if listen.port == 0:
        fail("listen.port is 0, so only the gateway's log knows the port: name --url", USAGE)
    host = _ANY.get(listen.host, listen.host)
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{host}:{listen.port}"


def lags_of(figures: str) -> dict[str, dict[str, float]]:
    """Return how far each target is behind, out of a gateway's figures; nothing before it knows."""
    found: dict[str, dict[str, float]] = {}
    known = False
    for family in text_string_to_metric_families(figures):
        known = known or (family.name == _KNOWN and any(each.value for each in family.samples))
        for sample in family.samples if family.name in _LAGS else ():
            found.setdefault(sample.labels["target"], {})[_LAGS[family.name]] = sample.value
    return found if known else {}


def nights_of(figures: str, at: float) -> dict[str, dict[str, float | bool | None]]:
    """Return how long ago each kind of nightly work last ended well, in seconds, and if that is too long."""
    found: dict[str, dict[str, float | bool | None]] = {}
    for family in text_string_to_metric_families(figures):
        for sample in family.samples if family.name == _SUCCESS else ():
            kind = sample.labels["kind"]
            if kind in _NIGHTLY:
                name = " ".join(filter(None, (kind, sample.labels["subject"])))
                age = max(at - sample.value, 0.0) if sample.value else None
                found[name] = {"seconds": age, "overdue": age is None or age > _OVERDUE}
    return dict(sorted(found.items()))


def _ago(night: Mapping[str, float | bool | None]) -> str:
    seconds = night["seconds"]
    if seconds is None:
        return "never ended well: overdue"
    return f"ended well {seconds / 3600:.1f} h ago{': overdue' if night['overdue'] else ''}"


def _behind(lag: Mapping[str, float]) -> str:
    if not lag["objects"]:
        return "holds everything"
    late = ", longer than the threshold" if lag["late"] else ""
    failing = f", {lag['failing']:.0f} tried in vain" if lag["failing"] else ""
    return (
        f"is behind by {lag['objects']:.0f} versions, {lag['bytes'] / _MIB:.1f} MiB, "
        f"for {lag['seconds']:.0f} s{late}{failing}"
    )


async def _ask(address: str, ca: Path | None) -> tuple[int, str, str]:
    connector: aiohttp.BaseConnector
    base = address.rstrip("/")
    if address.startswith("unix://"):
        connector, base = aiohttp.UnixConnector(address.removeprefix("unix://")), "http://localhost"
    elif address.startswith(("http://", "https://")):
        trust = await asyncio.to_thread(ssl.create_default_context, cafile=ca)
        connector = aiohttp.TCPConnector(ssl=trust)
    else:
        fail("the url begins with http://, https:// or unix://", USAGE)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"{base}/readyz") as response,
            session.get(f"{base}/metrics") as figures,
        ):
            return response.status, await response.text(), await figures.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        fail(f"no gateway answers at {address} ({type(error).__name__})")
