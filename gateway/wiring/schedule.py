"""The composition root's page of duties: what is due, how often, and what does it in this process."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta

import structlog

from gateway.duties.duty import Duty, Ledger
from gateway.duties.worker import Worker
from gateway.errors import DutyFailed
from gateway.http.run_figures import RunFigures
from gateway.model import new_id
from gateway.recovery.drill import EVERYTHING, KIND
from gateway.rotation.rounds import KIND as KEY_ROUNDS
from gateway.settings.config import Settings
from gateway.targets.quorum import Role, Target
from gateway.wiring import rotations
from gateway.wiring.core import Core

REPAIR_RETRY = timedelta(seconds=30)

log = structlog.get_logger()


def worker(settings: Settings, core: Core, ours: Sequence[Duty]) -> Worker:
    """Return what does these duties in this process, and tells when any was done, whoever does it."""
    chosen = settings.worker
    return Worker(
        core.runs,
        ours,
        holder=f"{socket.gethostname()}/{os.getpid()}/{new_id()[:8]}",
        lease=timedelta(seconds=chosen.lease),
        at_once=chosen.at_once,
        keep=timedelta(seconds=chosen.keep_runs),
        watch=RunFigures(core.services.metrics.registry, ours, duties(settings, core)),
    )


def gateways(settings: Settings, core: Core) -> Sequence[Duty]:
    """Return the duties of a gateway: all of them, or to reap, which needs no worker."""
    if settings.worker.embedded:
        return duties(settings, core)
    return _reaping(settings, core) if settings.reaper.enabled else []


def duties(settings: Settings, core: Core) -> Sequence[Duty]:
    """Return every duty that the settings ask for."""
    return [
        *(_reaping(settings, core) if settings.reaper.enabled else ()),
        *(_repairing(settings, core) if settings.repair.enabled else ()),
        *(_scrubbing(settings, core) if settings.scrub.enabled else ()),
        _rotating(settings, core),
        *(_pushing(settings, core) if settings.rotation.enabled else ()),
        _purging(settings, core),
        *_shredding(settings, core),
        *(_saving(settings, core) if settings.catalog_backup.enabled else ()),
        *(_drilling(settings, core) if settings.drill.enabled else ()),
    ]


def _reaping(settings: Settings, core: Core) -> Sequence[Duty]:
    async def reap(_: Ledger) -> Mapping[str, object]:
        reaped = await core.reaper.run(sweep=False)
        if reaped.uploads:
            log.info("reaped", uploads=reaped.uploads)
        return {"uploads": reaped.uploads}

    def sweep(target: Target) -> Duty:
        async def work(ledger: Ledger) -> Mapping[str, object]:
            parts, orphans = await core.reaper.sweep(target, ledger.tell)
            return {"parts": parts, "orphans": orphans}

        every = timedelta(seconds=settings.reaper.sweep_every)
        return Duty("sweep", target.name, every, work, _retry(settings))

    every = timedelta(seconds=settings.reaper.every)
    return [Duty("reap", "", every, reap), *(sweep(target) for target in core.targets)]


def _repairing(settings: Settings, core: Core) -> Sequence[Duty]:
    def repair(target: str) -> Duty:
        async def shift(ledger: Ledger) -> Mapping[str, object]:
            return await core.repairer.shift(target, ledger)

        async def once(ledger: Ledger) -> Mapping[str, object]:
            return await core.repairer.once(target, ledger)

        pause = timedelta(seconds=settings.repair.pause)
        return Duty("repair", target, pause, shift, REPAIR_RETRY, at_once=once, steady=True)

    return [repair(target.name) for target in core.targets]


def _scrubbing(settings: Settings, core: Core) -> Sequence[Duty]:
    section, retry = settings.scrub, _retry(settings)
    every = timedelta(seconds=section.every)
    often = timedelta(seconds=section.inventory_every)
    duties = []
    for target in core.targets:
        listing = core.inventory.periodic(target.name)
        verifying = core.scrub.daily(target.name)
        duties.append(Duty("inventory", target.name, often, listing, retry))
        # At its rate it may take most of the day: others shall not wait for it.
        duties.append(Duty("scrub", target.name, every, verifying, retry, steady=True))
    return duties


def _rotating(settings: Settings, core: Core) -> Duty:
    rounds = rotations.rounds(settings, core)
    every = timedelta(seconds=settings.rotation.every)
    # At its rate it may take hours: others shall not wait for it.
    return Duty(KEY_ROUNDS, "", every, rounds.go, _retry(settings), steady=True)


def _pushing(settings: Settings, core: Core) -> Sequence[Duty]:
    pushing = rotations.pushing(settings, core)

    def push(target: str) -> Duty:
        async def work(ledger: Ledger) -> Mapping[str, object]:
            return await pushing.shift(target, ledger.tell)

        every = timedelta(seconds=settings.rotation.push_every)
        # At its rate it may take hours after a rotation: others shall not wait for it.
        return Duty("push", target, every, work, REPAIR_RETRY, steady=True)

    return [push(target.name) for target in core.targets]


def _purging(settings: Settings, core: Core) -> Duty:
    async def purge(ledger: Ledger) -> Mapping[str, object]:
        return asdict(await core.purger.run(ledger.tell))

    every = timedelta(seconds=settings.worker.purge_every)
    return Duty("purge", "", every, purge, _retry(settings))


def _shredding(settings: Settings, core: Core) -> Sequence[Duty]:
    section, retry = settings.shred, timedelta(seconds=settings.shred.every)

    async def shred(_: Ledger) -> Mapping[str, object]:
        return asdict(await core.orders.run())

    async def sweep(ledger: Ledger) -> Mapping[str, object]:
        return asdict(await core.orders.sweep(ledger.tell))

    async def copy(_: Ledger) -> Mapping[str, object]:
        copied = await core.ledger_copies.run()
        if copied.failed or copied.refused:
            raise DutyFailed("not every target holds the shred ledger", copied.as_json())
        return copied.as_json()

    return [
        Duty("shred", "", timedelta(seconds=section.every), shred, retry),
        Duty("shred-ledger", "", timedelta(seconds=section.ledger_every), copy, retry),
        Duty("shred-sweep", "", timedelta(seconds=section.sweep_every), sweep, _retry(settings)),
    ]


def _saving(settings: Settings, core: Core) -> Sequence[Duty]:
    async def save(ledger: Ledger) -> Mapping[str, object]:
        made = await core.rescue.backups.make(told=ledger.tell)
        outcome = {
            "taken": made.taken.isoformat(),
            "size": made.size,
            "stored": sorted(made.stored),
            "failed": dict(made.failed),
            "pruned": made.pruned,
        }
        if made.failed:
            raise DutyFailed("not every target took a copy of the catalog", outcome)
        return outcome

    every = timedelta(seconds=settings.catalog_backup.every)
    return [Duty("catalog-backup", "", every, save, _retry(settings))]


def _drilling(settings: Settings, core: Core) -> Sequence[Duty]:
    def drill(target: Target, *, everything: bool) -> Duty:
        async def work(ledger: Ledger) -> Mapping[str, object]:
            drilled = await core.rescue.drill.run(target, everything=everything, ledger=ledger)
            if not drilled.good:
                raise DutyFailed("a backup did not give back what it holds", drilled.as_json())
            return drilled.as_json()

        every = settings.drill.everything_every if everything else settings.drill.every
        kind = EVERYTHING if everything else KIND
        return Duty(kind, target.name, timedelta(seconds=every), work, _retry(settings))

    backups = [target for target in core.targets if target.role is Role.BACKUP]
    return [drill(target, everything=every) for every in (False, True) for target in backups]


def _retry(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.worker.retry)
