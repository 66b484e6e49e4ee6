"""`sealgate restore` on real servers: what was lost is back, what cannot be is named, and it is signed."""

import asyncio
import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.model import Version
from tests.faults.restore.forks import Forks
from tests.faults.restore.site import Site, flip, objects

pytestmark = pytest.mark.timeout(300)


def counts(told: dict[str, dict[str, dict[str, int]]]) -> dict[str, int]:
    return {name: n["versions"] for name, n in told["counts"].items() if n["versions"]}


def test_the_whole_primary_is_lost_and_back(
    site: Site, forks: Forks, record_property: Callable[[str, object], None]
) -> None:
    total = len(asyncio.run(site.versions()))
    site.lose("primary")
    planned = forks.json("restore", "--all", "--dry-run")
    assert counts(planned) == {"restored": total}
    assert planned["report"] is None
    assert len(asyncio.run(site.damaged("primary"))) == total

    started = time.monotonic()
    told = forks.json("restore", "--all")
    seconds = time.monotonic() - started
    size = told["counts"]["restored"]["bytes"]
    print(f"RTO of the primary: {total} versions, {size} bytes in {seconds:.2f} s")  # noqa: T201 - the figure
    record_property("rto_seconds", round(seconds, 2))

    assert counts(told) == {"restored": total}
    assert asyncio.run(site.damaged("primary")) == {}
    assert asyncio.run(site.digests_read()) == site.digests
    verified = forks.json("report", "verify", told["report"])
    assert verified["items"] == "verified"
    report = verified["report"]
    assert report["destination"] == "primary"
    assert sorted(report["sources"]) == ["east", "west"]
    assert len(report["versions"]["restored"]) == total
    assert counts(forks.json("restore", "--all")) == {"skipped": total}


def test_one_attachment_one_version_one_tenant(site: Site, forks: Forks) -> None:
    first, second = site.tenants
    site.lose("primary")
    versions = {version.id: version for version in asyncio.run(site.versions())}
    told = forks.json("restore", "--attachment", f"{first}/file-4", "--from", "west")
    assert counts(told) == {"restored": 1}
    damaged = asyncio.run(site.damaged("primary"))
    (whole,) = versions.keys() - damaged.keys()
    assert versions[whole].tenant == first

    one = next(version for version in versions.values() if version.tenant == second)
    unknown = forks.run("restore", "--attachment", f"{first}/file-4", "--version", one.id, code=1)
    assert "no such attachment or version" in unknown.complained

    told = forks.json("restore", "--tenant", second)
    assert counts(told) == {"restored": len(site.digests[second])}
    assert {versions[each].tenant for each in asyncio.run(site.damaged("primary"))} == {first}
    assert counts(forks.json("restore", "--all", "--since", "2999-01-01")) == {}
    forks.json("restore", "--all", "--since", "2020-01-01")
    assert asyncio.run(site.damaged("primary")) == {}


def test_what_has_no_good_copy_is_named_exactly(site: Site, forks: Forks) -> None:
    bodied = [version for version in asyncio.run(site.versions()) if version.body_size]
    lost, flipped, damaged = bodied[:3]
    for name in ("primary", "east", "west"):
        for version, how in ((lost, "gone"), (flipped, "flipped")):
            body = site.folder(name) / objects(version)[0]
            aside = body.with_name("aside")
            shutil.copy2(body, aside)
            if how == "gone":
                body.unlink()
            else:
                flip(body)
    flip(site.folder("primary") / objects(damaged)[0])
    try:
        verified = forks.json("restore", "--all", "--verify-only", "--from", "east", code=3)
        assert set(verified["failed"]) == {lost.id, flipped.id}
        assert verified["failed"][lost.id] == "east: missing"
        assert verified["failed"][flipped.id] == "east: damaged"

        told = forks.json("restore", "--all", code=3)
        assert set(told["failed"]) == {lost.id, flipped.id}
        assert counts(told)["restored"] == 1
        report = json.loads(Path(told["report"]).read_text())["report"]
        assert report["versions"]["failed"] == sorted([lost.id, flipped.id])
        assert report["versions"]["restored"] == [damaged.id]
        # What is damaged everywhere stays as it was: it may be all there is.
        assert (site.folder("primary") / objects(flipped)[0]).exists()
    finally:
        for name in ("primary", "east", "west"):
            for version in (lost, flipped):
                body = site.folder(name) / objects(version)[0]
                body.unlink(missing_ok=True)
                shutil.move(body.with_name("aside"), body)
    assert forks.json("restore", "--all")["failed"] == {}
    assert asyncio.run(site.damaged("primary")) == {}


def test_another_target_and_a_source_that_is_gone(site: Site, forks: Forks) -> None:
    total = len(asyncio.run(site.versions()))
    site.lose("west")
    hidden = site.folder("east").rename(site.folder("east").with_name("hidden"))
    try:
        told = forks.json("restore", "--all", "--to", "west")
        assert counts(told) == {"restored": total}
        refused = forks.run("restore", "--all", "--to", "east", code=1)
        assert refused.complained.startswith("sealgate: ")
    finally:
        hidden.rename(site.folder("east"))
    assert asyncio.run(site.damaged("west")) == {}


def test_interrupted_it_goes_on(site: Site, forks: Forks) -> None:
    total = len(asyncio.run(site.versions()))
    site.lose("primary")
    fork = forks.start("restore", "--all", "--parallel", "1", "--rate", "1")
    deadline = time.monotonic() + 60
    while not list(site.bodies("primary")) and time.monotonic() < deadline:
        time.sleep(0.02)
    fork.kill(signal.SIGTERM)
    assert fork.wait() == 130
    assert "interrupted" in fork.complained
    fork = forks.run("restore", "--all")
    assert "going on with" in fork.complained
    assert asyncio.run(site.damaged("primary")) == {}
    newest = max(site.stack.home.glob("*.report.json"), key=lambda path: path.stat().st_mtime)
    report = json.loads(newest.read_text())["report"]
    assert report["resumed"]
    done = report["counts"]
    assert done["restored"]["versions"] + done["skipped"]["versions"] == total


def test_a_shredded_tenant_stays_gone(site: Site, forks: Forks) -> None:
    first, second = site.tenants
    record = site.stack.home / "records" / f"{first}.json"
    kept = record.read_text()
    record.write_text(kept.replace('"active"', '"shredded"'))
    site.lose("primary")
    try:
        told = forks.json("restore", "--all")
        assert told["refused"] == {first: "shredded"}
        assert counts(told) == {
            "restored": len(site.digests[second]),
            "refused": len(site.digests[first]),
        }
        refused = forks.run("restore", "--tenant", first, code=1)
        assert "the tenant is shredded: nothing of it is brought back" in refused.complained
        left: list[Version] = [
            version
            for version in asyncio.run(site.versions())
            if (site.folder("primary") / objects(version)[1]).exists()
        ]
        assert {version.tenant for version in left} == {second}
    finally:
        record.write_text(kept)
    forks.json("restore", "--all")
    assert asyncio.run(site.damaged("primary")) == {}


def test_without_the_key_service_it_must_be_said(site: Site, forks: Forks) -> None:
    site.lose("primary")
    site.stack.keys.stop()
    try:
        refused = forks.run("restore", "--tenant", site.tenants[0], code=1)
        assert "--without-key-service" in refused.complained
        refused = forks.run("restore", "--all", code=1)
        assert "--without-key-service" in refused.complained
        assert not list(site.bodies("primary"))
        told = forks.json("restore", "--all", "--without-key-service")
        report = json.loads(Path(told["report"]).read_text())["report"]
        assert report["key_service"] == "not asked"
    finally:
        site.stack.keys.start()
    assert asyncio.run(site.damaged("primary")) == {}


def test_opened_into_a_folder(site: Site, forks: Forks, out: Path) -> None:
    first, second = site.tenants
    reader = site.stack.home / "reader.token"
    made = forks.run("token", "create", "--tenant", first, "--right", "read", "--text")
    reader.write_text(made.said)
    words = ("restore", "--open-into", str(out), "--token-file", str(reader))
    refused = forks.run(*words, "--tenant", second, code=1)
    assert "the token belongs to another tenant" in refused.complained
    forks.run(*words, "--all", code=1)
    assert not out.exists()

    told = forks.json(*words, "--tenant", first)
    assert counts(told) == {"restored": len(site.digests[first])}
    landed = {}
    for line in map(json.loads, (out / first / "manifest.jsonl").read_text().splitlines()):
        path = out / first / line["file"]
        assert path.stat().st_mode & 0o777 == 0o600
        landed[line["reference"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert landed == site.digests[first]
    assert counts(forks.json(*words, "--tenant", first)) == {"skipped": len(landed)}

    audit = map(json.loads, (site.stack.home / "audit.jsonl").read_text().splitlines())
    used = [each for each in audit if each["reason"].startswith("restore, token ")]
    assert sum(each["count"] for each in used) >= 2 * len(landed)
    assert {each["tenant"] for each in used} == {first}
    # Neither the journal nor the report says what a user called anything.
    for path in site.stack.home.glob("restore-*"):
        assert "file-" not in path.read_text()
        assert ".bin" not in path.read_text()


def test_two_restores_do_not_share_a_journal(site: Site, forks: Forks) -> None:
    site.lose("primary")
    fork = forks.start("restore", "--all", "--rate", "0.1")
    with Forks(site.stack.home / "certs", site.environment) as others:
        deadline = time.monotonic() + 60
        while not list(site.stack.home.glob("*.journal")) and time.monotonic() < deadline:
            time.sleep(0.02)
        refused = others.run("restore", "--all", code=1)
        assert "another restore is using" in refused.complained
    fork.kill(signal.SIGTERM)
    assert fork.wait() == 130
    forks.run("restore", "--all")
    assert asyncio.run(site.damaged("primary")) == {}


def test_the_primary_and_the_catalog_are_lost_and_back(
    site: Site, forks: Forks, record_property: Callable[[str, object], None]
) -> None:
    total = len(asyncio.run(site.versions()))
    site.stack.gateway.stop()
    site.lose("primary")
    site.lose("west")
    for path in site.catalog.parent.glob(f"{site.catalog.name}*"):
        path.unlink()
    try:
        started = time.monotonic()
        forks.run("migrate")
        forks.run("rebuild-catalog", "--from", "east")
        told = forks.json("restore", "--all", "--from", "east")
        seconds = time.monotonic() - started
        print(f"RTO of the primary and the catalog: {total} versions in {seconds:.2f} s")  # noqa: T201
        record_property("rto_seconds", round(seconds, 2))
    finally:
        site.stack.gateway.start()
        site.token = site.stack.admin_token()
    assert counts(told) == {"restored": total}
    assert asyncio.run(site.damaged("primary")) == {}
    assert asyncio.run(site.digests_read()) == site.digests
    assert counts(forks.json("restore", "--all", "--to", "west")) == {"restored": total}
