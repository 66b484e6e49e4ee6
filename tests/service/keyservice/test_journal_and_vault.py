"""What the key journal says and what Vault's own audit log says agree, call by call."""

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keyservice.client.client import KeyServiceClient
from keyservice.journal.entry import Chain
from keyservice.journal.journal import NOBODY
from keyservice.wire import DataKey, Shredded, Suspended, SuspendedByOwner, TenantRoot, WrappedKey
from keyservice.wiring.app import running
from tests.servers.owner import customer
from tests.servers.prepared import PreparedVault, prepare
from tests.servers.vault import SealableVault, Vault
from tests.service.keyservice.audited import Audited, auditing
from tests.service.keyservice.conftest import Site
from tests.service.keyservice.test_key_service_on_vault import vault_root

OWN, SHARED, OTHER, DEAD = "a1" * 16, "b2" * 16, "c3" * 16, "d4" * 16
CALL = {"reason": "test", "request_id": "r-1"}
REASON = "the customer asked"


@dataclass(frozen=True, slots=True)
class Bench:
    """A site, its Vault, and what that says of it."""

    site: Site
    prepared: PreparedVault
    vault: Audited

    @asynccontextmanager
    async def service(self, name: str, **settings: Any) -> AsyncIterator[KeyServiceClient]:
        """Run an instance, and end it, which writes what it summed up."""
        root = dict(vault_root(self.prepared)["vault"])
        root |= {"timeout": 30.0, "deadline": 60.0}  # what is asked twice is twice in Vault's log
        loaded = self.site.tls_settings(
            root={"vault": root},
            audit={"file": self.site.folder / f"{name}.jsonl"},
            shred={"least_days": 0},
            **settings,
        )
        async with (
            running(loaded) as started,
            self.site.tls_client(
                started.url, cache_size=0, timeout=30, attempt_timeout=30
            ) as client,
        ):
            yield client


@pytest.fixture
async def bench(site: Site, vault: Vault, tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a site on a Vault that is audited."""
    prepared = await asyncio.to_thread(prepare, vault, tmp_path)
    async with auditing(vault, prepared.setup.policy, tmp_path / "vault.log") as audited:
        yield Bench(site, prepared, audited)


async def journal(bench: Bench, tenant: str) -> list[dict[str, Any]]:
    """Return the entries of a tenant, none of which was altered."""
    session = bench.prepared.session()
    store = bench.prepared.journal(session)
    lines = [await store.read(tenant, n) or "" for n in range(1, await store.head(tenant) + 1)]
    await session.close()
    chain = Chain(tenant)
    assert [fault for line in lines if (fault := chain.take(line))] == []
    return [json.loads(line) for line in lines]


def summed(entries: list[dict[str, Any]], of: str) -> Counter[str]:
    """Return what the journal says of the calls of a root, or of the key store."""
    found: Counter[str] = Counter()
    for entry in entries:
        for call in entry.get("calls", []):
            if call["of"] == of:
                assert call["outcome"] == "ok"
                found[call["call"]] += call["count"]
    return found


def changed(entries: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """Return what was changed, of one kind."""
    return [c for e in entries for c in e.get("changes", []) if c["what"] == what]


def classified(bench: Bench) -> Counter[tuple[str, str]]:
    """Return Vault's calls by what they were and the key or tenant, none of them left out."""
    transit, kv = bench.prepared.setup.transit_mount, bench.prepared.setup.kv_mount
    return bench.vault.counted(
        {
            rf"read {transit}/keys/([^/]+)": "look",
            rf"(?:create|update) {transit}/keys/([^/]+)": "create",
            rf"delete {transit}/keys/([^/]+)": "destroy",
            rf"update {transit}/keys/([^/]+)/rotate": "rotate",
            rf"update {transit}/keys/([^/]+)/config": "configure",
            rf"update {transit}/encrypt/([^/]+)": "wrap",
            rf"update {transit}/decrypt/([^/]+)": "unwrap",
            rf"update {transit}/rewrap/([^/]+)": "rewrap",
            rf"read {kv}/data/tenants/([^/]+)": "read",
            rf"(?:create|update) {kv}/data/tenants/([^/]+)": "write",
            rf"read {kv}/metadata/tenants/([^/]+)": "remember",
            rf"update {kv}/destroy/tenants/([^/]+)": "forget",
            rf"list {kv}/metadata/(tenants)/?": "tenants",
            rf"(?:create|read) {kv}/data/journal/([^/]+)/\d+": "journal",
            rf"list {kv}/metadata/journal/([^/]+)/?": "journal",
            r"update auth/token/(renew-self)": "token",
        }
    )


async def use(client: KeyServiceClient, tenant: str) -> DataKey:
    """Make keys and open them again."""
    made = await client.data_keys(tenant, [b"one", b"two"], **CALL)
    keys = [key for key in made if isinstance(key, DataKey)]
    assert len(keys) == 2
    items = [WrappedKey(keys[0].wrapped, b"one"), WrappedKey(keys[1].wrapped, b"two")]
    assert await client.unwrap(tenant, items, **CALL) == [key.dek for key in keys]
    return keys[0]


async def lead_a_life(client: KeyServiceClient, elsewhere: KeyServiceClient) -> list[bytes]:
    """Create, use, rotate, suspend, resume, retire, shred; return the data keys that were given out.

    `elsewhere` is another instance, which uses the same tenants' keys meanwhile.
    """
    control, deks = client.control, []
    for tenant, tier in ((OWN, "business"), (SHARED, "standard"), (OTHER, "standard")):
        await client.create_tenant(tenant, tier=tier)
        deks += [(await use(each, tenant)).dek for each in (client, elsewhere)]
    old = await use(client, OWN)
    first = (await client.tenant(OWN)).current
    assert first is not None
    await control.rotate_kek(OWN, first.id, reason=REASON)
    await control.rotate_kek(OWN, first.id, reason=REASON)  # again, and nothing happens
    deks += [old.dek, (await use(client, OWN)).dek]
    item = [WrappedKey(old.wrapped, b"one")]
    (rewrapped,) = await client.rewrap(OWN, item, **CALL)
    assert isinstance(rewrapped, bytes)
    await control.rotate_root(OWN, reason=REASON)
    await control.settings(OWN, reason=REASON, cache_ttl=0.0)
    await control.suspend(OWN, reason=REASON)
    with pytest.raises(Suspended):
        await use(client, OWN)
    await control.resume(OWN, reason=REASON)
    deks.append((await use(client, OWN)).dek)
    await control.retire_kek(OWN, first.id, reason=REASON)
    latest = (await control.shared_root()).latest
    await control.rotate_shared(latest, reason=REASON)
    await control.rewrap_root(SHARED, reason=REASON)
    deks += [(await use(elsewhere, tenant)).dek for tenant in (OWN, SHARED)]
    await client.create_tenant(DEAD, tier="business")
    deks.append((await use(client, DEAD)).dek)
    await client.shreds.order_shred(DEAD, reason=REASON, days=0)
    await client.shreds.execute_shred(DEAD, reason=REASON)
    with pytest.raises(Shredded):
        await use(elsewhere, DEAD)
    return deks


async def test_the_journal_and_vaults_audit_log_agree(bench: Bench) -> None:
    async with bench.service("one") as client, bench.service("two") as elsewhere:
        deks = await lead_a_life(client, elsewhere)
    vault = classified(bench)
    own, shared, other, dead, nobody = [
        await journal(bench, tenant) for tenant in (OWN, SHARED, OTHER, DEAD, NOBODY)
    ]

    key = f"tenant-{OWN}"
    root = summed(own, "own")
    for call in ("create", "wrap", "unwrap", "rewrap", "rotate"):
        assert vault[call, key] == root[call], call
    assert vault["configure", key] == root["retire"]
    assert vault["look", key] == root["versions"] + 2 * root["rotate"] + root["retire"]
    assert root["unwrap"] > 3  # its cache time was zero at the end
    assert len(changed(own, "kek-created")) == root["wrap"] == 2
    assert len(changed(own, "root-rotated")) == root["rotate"] == 1
    assert len(changed(own, "kek-rewrapped")) == root["rewrap"] == 2
    assert len(changed(own, "kek-destroyed")) == 1

    sums = [summed(entries, "shared") for entries in (shared, other, nobody)]
    for call in ("wrap", "unwrap", "rewrap", "rotate"):
        assert vault[call, "standard"] == sum(each[call] for each in sums), call
    assert vault["create", "standard"] == 0
    assert [len(changed(each, "kek-created")) for each in (shared, other)] == [1, 1]
    assert len(changed(nobody, "root-rotated")) == 1
    assert len(changed(shared, "kek-rewrapped")) == 1

    gone, end = f"tenant-{DEAD}", summed(dead, "own")
    for call in ("create", "wrap", "unwrap", "destroy"):
        assert vault[call, gone] == end[call], call
    assert vault["configure", gone] == end["destroy"] == 1
    told = [c["what"] for e in dead for c in e.get("changes", [])]
    for what in ("shred-ordered", "shredded", "kek-destroyed", "root-destroyed", "shred-ended"):
        assert told.count(what) == 1, what

    for tenant, entries in ((OWN, own), (SHARED, shared), (OTHER, other), (DEAD, dead)):
        store = summed(entries, "store")
        assert vault["write", tenant] == store["write"], tenant
        misses = 1  # the look before it was created, which is no tenant's yet
        assert vault["read", tenant] == store["read"] + misses, tenant
        assert vault["remember", tenant] == store["forget"], tenant

    assert set(vault) <= {
        *((call, name) for call, name in vault if name in {key, gone, "standard"}),
        *((call, name) for call, name in vault if name in {OWN, SHARED, OTHER, DEAD}),
        ("journal", NOBODY),
        ("read", NOBODY),  # whether the key store answers
        ("tenants", "tenants"),
        ("token", "renew-self"),
    }
    await nothing_secret(bench, deks)
    told_in_time(bench, own)


async def test_a_customers_own_vault_confirms_the_journal(
    bench: Bench, owners_vault: SealableVault, tmp_path: Path
) -> None:
    owner = await asyncio.to_thread(customer, owners_vault, tmp_path)
    log = tmp_path / "owner.log"
    section = owner.section(OWN) | {"timeout": 30.0, "deadline": 60.0}
    async with auditing(owners_vault, owner.setup.role, log) as theirs:
        async with bench.service("one", held=[section]) as client:
            await client.create_tenant(OWN, tier="business")
            held = TenantRoot("held", owner.setup.name)
            await client.control.move(OWN, "business", held, reason=REASON)
            await use(client, OWN)
            current = (await client.tenant(OWN)).current
            assert current is not None
            await client.control.rotate_kek(OWN, current.id, reason=REASON)
            await asyncio.to_thread(owner.rotate)
            await client.control.rewrap_root(OWN, reason=REASON)
            await client.control.settings(OWN, reason=REASON, cache_ttl=0.0)
            await use(client, OWN)
            await asyncio.to_thread(owner.withdraw_policy)
            with pytest.raises(SuspendedByOwner):
                await use(client, OWN)
            await asyncio.to_thread(owner.return_policy)
            await use(client, OWN)
        entries = await journal(bench, OWN)
        transit, key = owner.setup.transit_mount, owner.setup.transit_key
        vault = theirs.counted(
            {
                rf"read {transit}/keys/({key})": "look",
                rf"update {transit}/encrypt/({key})": "wrap",
                rf"update {transit}/decrypt/({key})": "unwrap",
                rf"update {transit}/rewrap/({key})": "rewrap",
                r"update auth/token/(renew-self)": "token",
            }
        )
    root, refused = Counter[str](), Counter[str]()
    for call in (call for entry in entries for call in entry.get("calls", [])):
        if call["of"] == f"held/{owner.setup.name}":
            (root if call["outcome"] == "ok" else refused)[call["call"]] += call["count"]
    for name in ("wrap", "rewrap"):
        assert vault[name, key] == root[name] > 0, name
    # What was wrapped there is opened before it is relied upon.
    assert vault["unwrap", key] == root["unwrap"] + root["wrap"] + 2 * root["rewrap"]
    assert set(refused) == {"unwrap"}
    assert theirs.refused() >= refused["unwrap"] > 0  # asked again, since the token could be lost
    assert [c["to"]["root"] for c in changed(entries, "moved")] == [f"held/{owner.setup.name}"]


def told_in_time(bench: Bench, own: list[dict[str, Any]]) -> None:
    """Whatever was changed was on the journal before Vault was asked for it."""
    changing = [
        entry
        for entry in bench.vault.calls()
        if re.search(r"/(rotate|config)$|/data/tenants/|/destroy/", entry["request"]["path"])
        and entry["request"]["operation"] != "read"
        and OWN in entry["request"]["path"]
    ]
    spans = [
        (_time(begun), _time(done))
        for done in own
        if done["kind"] == "done"
        for begun in [own[done["of"] - 1]]
    ]
    assert len(changing) > 8
    for entry in changing:
        at = _time(entry)
        assert any(begun <= at <= done for begun, done in spans), entry["request"]["path"]
    operations = [entry["operation"] for entry in own if entry["kind"] == "done"]
    assert operations == [
        "create-tenant",
        "rotate-kek",
        "rotate-root",
        "settings",
        "suspend",
        "resume",
        "retire-kek",
    ]
    assert {entry["caller"] for entry in own if entry["kind"] == "done"} == {
        "dns:gateway.sealgate.internal"
    }


def _time(entry: dict[str, Any]) -> datetime:
    text = re.sub(r"(\.\d{6})\d*", r"\1", entry["time"])
    return datetime.fromisoformat(text)


async def nothing_secret(bench: Bench, deks: list[bytes]) -> None:
    """No key is in either, in any form."""

    def opened() -> Iterator[bytes]:
        setup = bench.prepared.setup
        with bench.prepared.server.client() as client:
            for tenant, key in ((OWN, f"tenant-{OWN}"), (SHARED, "standard"), (OTHER, "standard")):
                path = f"{setup.kv_mount}/data/tenants/{tenant}"
                record = client.read(path)["data"]["data"]
                context = base64.b64encode(tenant.encode()).decode()
                for kek in record["keks"]:
                    if kek["wrapped"]:
                        body = {"ciphertext": kek["wrapped"], "context": context}
                        path = f"{setup.transit_mount}/decrypt/{key}"
                        found = client.write_data(path, data=body)["data"]["plaintext"]
                        yield base64.b64decode(found)

    keys = [*deks, *await asyncio.to_thread(lambda: list(opened()))]
    assert len(keys) == len(deks) + 3
    texts = [bench.vault.file.read_text()]
    for tenant in (OWN, SHARED, OTHER, DEAD, NOBODY):
        entries = json.dumps(await journal(bench, tenant))
        assert "vault:v" not in entries
        texts.append(entries)
    for text in texts:
        for key in keys:
            assert key.hex() not in text
            assert base64.b64encode(key).decode() not in text
