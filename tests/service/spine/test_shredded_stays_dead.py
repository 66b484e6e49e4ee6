"""A tenant is shredded, and Vault, catalog and buckets come back from before: it stays dead.

Also where the ledger's file is lost, and where the key service is killed while it destroys. One stack on a
Vault and an S3 server of its own, whose storage is copied as a backup would be.
"""

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envelope.signature import SignatureRefused, new_signer, verify
from gateway.shredding.orders import Executed
from keyservice.errors import Denied, KeyServiceError, WrongState
from tests.conftest import _program
from tests.servers import binary
from tests.servers.prepared import prepare
from tests.servers.vault import SealableVault
from tests.servers.versitygw import Versitygw
from tests.service.spine.shred_stack import (
    DOMAIN,
    Site,
    admit_admins,
    answers,
    store,
)
from tests.stack.stack import Bucket, Stack


@pytest.fixture(scope="module")
def site(
    one_vault: SealableVault, one_s3: Versitygw, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run it with three tenants, and with a backup of then; a module shares it."""
    vault = one_vault
    home = tmp_path_factory.mktemp("shredded")
    prepared = prepare(vault, home)
    bucket = Bucket(one_s3, one_s3.new_bucket())
    stack = Stack(
        home / "stack",
        targets={"primary": home / "stack" / "primary", "east": bucket},
        catalog=f"sqlite:///{home}/stack/catalog.db",
        vault=prepared,
        extra={"shred": {"every": 3600.0, "ledger_every": 3600.0}, "worker": {"lease": 5.0}},
    )
    admit_admins(stack.home)
    stack.start()
    site = Site(home, vault, prepared, bucket, stack, stack.admin_token())
    for name, tier in (("acme", "business"), ("plain", "standard"), ("other", "business")):
        site.tenants[name] = store(site, tier)
    site.backup("before")
    yield site
    stack.stop()


@pytest.fixture(scope="module")
def one_vault(server_home: Callable[[str], Path]) -> Iterator[SealableVault]:
    """Run a Vault on disk, to be restored from copies of it."""
    server = SealableVault(_program(binary.VAULT), server_home("shredding"))
    server.start()
    server.open()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def one_s3(server_home: Callable[[str], Path]) -> Iterator[Versitygw]:
    """Run an S3 server whose buckets are restored from copies of them."""
    server = Versitygw(_program(binary.VERSITYGW), server_home("shredding-s3"))
    server.start()
    yield server
    server.stop()


def test_from_an_order_to_a_receipt(site: Site, tmp_path: Path) -> None:
    acme = site.tenants["acme"]
    ordered = site.keys("order", tenant=acme, who="ada")
    assert (ordered["state"], ordered["ordered_by"]) == ("shredding", f"dns:ada.{DOMAIN}")
    assert answers(site, acme) == {403}
    undone = site.asked(lambda keys: keys.undo_shred(acme, reason="test"), "bob")
    assert (undone.state, undone.order) == ("active", None)
    site.asked(lambda keys: keys.order_shred(acme, reason="test"), "ada")
    with pytest.raises(WrongState, match="second administrator's approval"):
        site.asked(lambda keys: keys.execute_shred(acme, reason="test"), "ada")
    with pytest.raises(Denied, match="for a second administrator"):
        site.asked(lambda keys: keys.approve_shred(acme, reason="test"), "ada")
    with pytest.raises(Denied, match="policy"):  # to a gateway, which carries out what is due
        site.asked(lambda keys: keys.approve_shred(acme, reason="test"))
    with pytest.raises(Denied, match="policy"):
        site.asked(lambda keys: keys.undo_shred(acme, reason="test"))
    approved = site.keys("approve", tenant=acme, who="bob")
    assert approved["approved_by"] == f"dns:bob.{DOMAIN}"
    assert site.worker(lambda core: core.orders.run()) == Executed(due=1, done=1)
    assert answers(site, acme) == {410}
    assert (site.wrapped(acme), site.roots(acme)) == ([], [])
    file = tmp_path / "acme.receipt.json"
    signed = site.sealgate("keys", "shred", "receipt", acme, "--receipt", str(file))
    public = site.asked(lambda keys: keys.ledger()).public
    assert verify(file.read_bytes(), public) == signed["report"]
    assert signed["report"]["tenant"] == acme
    with pytest.raises(SignatureRefused):
        verify(file.read_bytes(), new_signer().public)
    site.worker(lambda core: core.purger.run())
    assert site.files(acme) == []
    assert len(site.files(site.tenants["other"])) == 8


def test_killed_in_its_middle_it_is_finished_by_a_repetition(site: Site) -> None:
    """Killed at another moment of each destruction, the key service finishes all of them."""
    tenants = [site.tenants["plain"], *(store(site, "business") for _ in range(2))]
    before = site.in_ledger()
    for number, tenant in enumerate(tenants):
        site.asked(lambda keys, t=tenant: keys.order_shred(t, reason="closed"), "ada")  # type: ignore[misc]
        site.asked(lambda keys, t=tenant: keys.approve_shred(t, reason="seen"), "bob")  # type: ignore[misc]
        kill(site, tenant, number * 0.015)
        signed = site.asked(lambda keys, t=tenant: keys.execute_shred(t, reason="again"), "bob")  # type: ignore[misc]
        assert (site.wrapped(tenant), site.roots(tenant)) == ([], [])
        assert signed == site.asked(lambda keys, t=tenant: keys.shred_receipt(t))  # type: ignore[misc]
        assert signed.receipt["approved_by"] == f"dns:bob.{DOMAIN}"
    assert answers(site, tenants[-1]) == {410}
    whole = site.sealgate("keys", "ledger", "verify")
    assert (whole["faults"], whole["refused"], whole["failed"]) == ([], 0, {})
    assert site.in_ledger() == before | set(tenants)
    assert whole["entries"] == len(before) + len(tenants)


def kill(site: Site, tenant: str, delay: float) -> None:
    """Kill the key service some time after it began to destroy a tenant's keys, and start it again."""
    before = site.ledger.stat().st_size

    def execute() -> None:
        with contextlib.suppress(KeyServiceError):
            site.asked(
                lambda keys: keys.execute_shred(tenant, reason="to be killed"), "bob", attempts=1
            )

    under_way = threading.Thread(target=execute)
    under_way.start()
    until = time.monotonic() + 30
    while site.ledger.stat().st_size == before and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(delay)
    site.stack.keys.kill()
    under_way.join()
    site.stack.keys.start()


def test_restored_from_before_it_stays_dead(site: Site) -> None:
    acme, other = site.tenants["acme"], site.tenants["other"]
    site.shred(acme)
    dead = site.in_ledger() & set(site.tenants.values())
    with site.at_rest():
        site.restore("before", ["vault", "catalog", "primary", "east"])
    assert len(site.files(acme)) == 8, "its objects are back"
    assert answers(site, acme) == {410}
    assert answers(site, other) >= {200, 201}
    assert gone(site, acme), "what came back in Vault is destroyed again"
    assert "shredded" in restored(site, acme)
    merged = site.sealgate("keys", "ledger", "verify")
    assert merged["buried"] == len(dead), "the catalog from before learns who is dead"
    assert merged["stored"] == 2 * merged["entries"], "and so do the buckets"
    site.worker(lambda core: core.purger.run())
    assert site.files(acme) == []
    assert site.files(other) != []


def test_a_lost_ledger_comes_back_from_a_bucket_and_with_it_the_dead_die(site: Site) -> None:
    acme = site.tenants["acme"]
    site.shred(acme)
    dead = site.in_ledger() & set(site.tenants.values())
    entries = site.sealgate("keys", "ledger", "verify")["entries"]
    with site.at_rest():
        site.restore("before", ["vault", "catalog"])
        site.ledger.unlink()
        shutil.rmtree(site.primary / "ledger")
    assert site.wrapped(acme) != [], "without a ledger it lives again"
    merged = site.worker(lambda core: core.ledger_copies.run())
    assert (merged.taken, merged.failed, merged.buried) == (entries, {}, len(dead))
    assert merged.stored == entries, "the bucket that lost its copies has them again"
    assert answers(site, acme) == {410}
    assert gone(site, acme)


def gone(site: Site, tenant: str) -> bool:
    """Wait until Vault holds nothing that opens of a tenant."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not site.wrapped(tenant) and not site.roots(tenant):
            return True
        time.sleep(0.1)
    return False


def restored(site: Site, tenant: str) -> str:
    """Try to restore a tenant from its backup; return all that is said."""
    words = ["restore", "--tenant", tenant, "--from", "east", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env=site.stack.environment | {"SEALGATE_CONFIG": str(site.stack.home / "gateway.toml")},
        cwd=site.stack.home,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stdout + done.stderr
