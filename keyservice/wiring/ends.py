"""The composition root's page of a tenant's end: the shred ledger, and what acts by it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from envelope.signature import Signer
from keyservice.access.policy import Caller, Operation
from keyservice.config import Settings
from keyservice.desk.change import Changes
from keyservice.desk.desk import Call, Desk
from keyservice.keys.keyring import Keyring
from keyservice.layered import ConfigError
from keyservice.metrics import Metrics
from keyservice.ports import KeyStore, Root
from keyservice.shredding.destruction import Destroyer
from keyservice.shredding.ledger import Entry
from keyservice.shredding.ledger_file import LedgerFile, ensure_key
from keyservice.shredding.ledgered import LedgeredStore
from keyservice.shredding.replay import Pace, Replay
from keyservice.shredding.shredding import Notice, Shreddings

OURSELVES = Caller(("keyservice",))  # who goes on record for what nobody asked for


@dataclass(frozen=True, slots=True)
class Ends:
    """The ledger of an instance; the key store as it is, and as the ledger lets it be seen."""

    ledger: LedgerFile
    store: KeyStore
    living: LedgeredStore
    metrics: Metrics

    def wire(
        self, settings: Settings, root: Root, keyring: Keyring, changes: Changes, desk: Desk
    ) -> tuple[Shreddings, Replay]:
        """Return the use cases, and what carries the ledger out again."""
        destroyer = Destroyer(root, self.store, keyring.drop)
        replay = Replay(
            self.ledger, destroyer, _told(desk), Pace(every=settings.shred.replay_every)
        )
        self.living.risen = replay.wake
        self.metrics.watch_ends(lambda: len(self.ledger.tenants()), lambda: replay.waiting)
        notice = Notice(settings.shred.days, settings.shred.least_days)
        shreddings = Shreddings(
            changes=changes,
            ledger=self.ledger,
            destroyer=destroyer,
            wake=replay.wake,
            desk=desk,
            notice=notice,
        )
        return shreddings, replay


def ledger_signer(settings: Settings) -> Signer:
    """Return what signs for this instance, its key made unless it is there. Blocks; raises ConfigError."""
    try:
        return ensure_key(settings.ledger_key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"ledger: {error}") from None


async def open_ends(settings: Settings, store: KeyStore, metrics: Metrics) -> Ends:
    """Open the ledger. Raises ConfigError."""
    files = settings.ledger_file, settings.ledger_key
    try:
        ledger = await asyncio.to_thread(LedgerFile, *files, settings.ledger.trusted)
    except (OSError, ValueError) as error:
        raise ConfigError(f"ledger: {error}") from None
    return Ends(ledger, store, LedgeredStore(store, ledger), metrics)


def _told(desk: Desk) -> Callable[[Entry], Awaitable[None]]:
    async def tell(entry: Entry) -> None:
        """Put on record that a destruction was carried out again."""
        told = entry.destruction
        call = Call(OURSELVES, secrets.token_hex(16), f"shred ledger, entry {entry.hash}")
        await desk.tell(call, told.tenant, Operation.EXECUTE_SHRED, told.keks)

    return tell
