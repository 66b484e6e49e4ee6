"""`sealgate keys status`: every version of every key, what is still under it, and what is due."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.command import (
    FINDINGS,
    Config,
    Json,
    opened,
    run,
    show_fields,
    show_json,
    show_rows,
    teach,
)
from gateway.cli.keys import Certificate, PrivateKey, acting
from gateway.cli.scope import OneTenant
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.rotation.due import Turn
    from gateway.rotation.status import KekStatus, KeyStatus

CODES = (
    "Exit codes: 0 done, 1 it failed, 2 wrong usage or settings, 3 a rotation is overdue, or a tenant "
    "could not be looked at."
)
HELP = teach(
    "Show tenants' keys: with --tenant every version, what is still under it on which target, and what keeps "
    "it from being retired. Without, a line a tenant. A KEK that was replaced stays until nothing refers to "
    "it and `sealgate keys retire` takes it away.",
    "sealgate keys status",
    "sealgate keys status --tenant ID",
    "sealgate keys status --json | jq -r '.tenants[] | select(.overdue) | .tenant'",
    codes=CODES,
)


def status(
    *,
    tenant: OneTenant = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show keys."""
    settings = acting(config, certificate, private_key)
    found = run(_look(settings, tenant))
    shown = [_failed(of, told) if isinstance(told, str) else fields(told) for of, told in found]
    if as_json:
        show_json(shown[0] if tenant is not None else {"tenants": shown})
    elif tenant is not None:
        (_, told) = found[0]
        if not isinstance(told, str):
            _print(told)
    elif found:
        show_rows(_TITLES, [_row(of, told) for of, told in found])
    else:
        typer.echo("no tenants yet: `sealgate tenant create` makes one", err=True)
    if any(isinstance(told, str) or told.overdue for _, told in found):
        raise typer.Exit(FINDINGS)


async def _look(settings: Settings, tenant: str | None) -> "Sequence[tuple[str, KeyStatus | str]]":
    async with opened(settings) as wired:
        if tenant is not None:
            return [(tenant, await wired.custody.statuses.of(tenant))]
        return await wired.custody.statuses.all()


_TITLES = ("tenant", "tier", "state", "root", "KEKs", "replaced, in use", "KEK due", "root due")


def _row(tenant: str, told: "KeyStatus | str") -> Sequence[str]:
    if isinstance(told, str):
        return (tenant, "-", told, "-", "-", "-", "-", "-")
    there = [each for each in told.keks if each.about.state != "destroyed"]
    return (
        tenant,
        told.keys.tier,
        told.keys.state,
        told.keys.root.custody,
        str(len(there)),
        str(len(told.unfinished)),
        _due(told.kek_turn),
        _due(told.root_turn),
    )


def _due(turn: "Turn") -> str:
    if turn.due is None:
        return "-"
    day = turn.due.date().isoformat()
    return f"OVERDUE {day}" if turn.overdue else day


def fields(told: "KeyStatus") -> dict[str, Any]:
    """Return all of it for programs."""
    keys, root = told.keys, told.root
    return {
        "tenant": told.tenant,
        "tier": keys.tier,
        "state": keys.state,
        "root": {
            "custody": keys.root.custody,
            "name": keys.root.name,
            "imported": keys.root.imported,
            "version": None if root is None else root.latest,
            "oldest_version": None if root is None else root.minimum,
        },
        "roots_left": [each.name for each in keys.left],
        "cache_seconds": keys.cache_ttl,
        "rate": None
        if keys.rate is None
        else {"per_second": keys.rate.per_second, "burst": keys.rate.burst},
        "order": None if keys.order is None else _order(told),
        "keks": [_kek(each) for each in told.keks],
        "rotation": {
            "kek": _turn(told.kek_turn, own="kek" in told.schedule.own),
            "root": _turn(told.root_turn, own="root" in told.schedule.own),
        },
        "overdue": told.overdue,
    }


def _order(told: "KeyStatus") -> Mapping[str, object]:
    order = told.keys.order
    assert order is not None  # noqa: S101 - the caller has looked
    return {
        "ordered": _moment(order.ordered),
        "due": _moment(order.due),
        "by": order.by,
        "reason": order.reason,
        "approved": order.approved,
    }


def _kek(each: "KekStatus") -> Mapping[str, object]:
    return {
        "id": each.about.id,
        "state": each.about.state,
        "created": each.created.isoformat(),
        "root_version": each.about.root_version,
        "versions": each.use.versions - each.use.trashed,
        "trashed": each.use.trashed,
        "stale": dict(each.use.stale),
        "leftovers": each.use.leftovers,
        "last_used": None if each.last_used is None else each.last_used.isoformat(),
        "retirable": _moment(each.about.retirable or 0),
        "blocks": list(each.blocks),
    }


def _turn(turn: "Turn", *, own: bool) -> Mapping[str, object]:
    return {
        "every_seconds": int(turn.every.total_seconds()),
        "own": own,
        "since": None if turn.since is None else turn.since.isoformat(),
        "due": None if turn.due is None else turn.due.isoformat(),
        "overdue": turn.overdue,
    }


def _failed(tenant: str, why: str) -> dict[str, Any]:
    return {"tenant": tenant, "error": why}


def _moment(microseconds: int) -> str | None:
    if not microseconds:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


def _print(told: "KeyStatus") -> None:
    keys = told.keys
    shown = {
        "tenant": told.tenant,
        "tier": keys.tier,
        "state": keys.state,
        "root": _root(told),
        "cache time": f"{keys.cache_ttl:g} seconds",
        "rate": "as all"
        if keys.rate is None
        else f"{keys.rate.per_second:g} keys a second, {keys.rate.burst:g} at once",
    }
    if keys.left:
        names = (root.name or "the first" for root in keys.left)
        shown["roots left"] = (
            f"{', '.join(names)}: it was moved away from them, and they still exist"
        )
    if keys.order is not None:
        order = keys.order
        approved = f", approved by {order.approved}" if order.approved else ""
        shown["shred order"] = f"due {_moment(order.due)}, by {order.by}{approved}: {order.reason}"
    for name, turn in (("KEK", told.kek_turn), ("root", told.root_turn)):
        own = name.lower() in told.schedule.own
        shown[f"{name} rotation"] = _schedule(turn, own=own)
    show_fields(shown)
    typer.echo()
    titles = ("KEK", "state", "age", "versions", "trash", "stale", "leftovers", "last used")
    show_rows(titles, [_line(each) for each in told.keks])
    for each in told.keks:
        if each.about.state == "retired":
            what = "; ".join(each.blocks) or "nothing: `sealgate keys retire` destroys it"
            typer.echo(f"\n{each.about.id} is kept by: {what}")


def _root(told: "KeyStatus") -> str:
    root, versions = told.keys.root, told.root
    words = {
        "shared": "shared by all standard tenants",
        "own": "the tenant's own",
        "held": f"held by the customer, as {root.name}",
    }[root.custody]
    if root.imported:
        words += ", imported"
    if versions is None:
        return f"{words}; it does not answer" if told.keys.state != "shredded" else words
    return f"{words}, version {versions.latest}"


def _schedule(turn: "Turn", *, own: bool) -> str:
    from gateway.pacing import spans  # noqa: PLC0415 - help answers at once

    if not turn.every:
        return "never" if own else "never (default)"
    words = f"every {spans.text(turn.every)}{'' if own else ' (default)'}"
    if turn.due is None:
        return f"{words}; not ours to rotate"
    late = " OVERDUE" if turn.overdue else ""
    return f"{words}, due {turn.due.isoformat(timespec='seconds')}{late}"


def _line(each: "KekStatus") -> Sequence[str]:
    from gateway.pacing import spans  # noqa: PLC0415 - as above

    use = each.use
    stale = ", ".join(f"{name} {count}" for name, count in sorted(use.stale.items()) if count)
    return (
        each.about.id,
        each.about.state,
        spans.text(max(datetime.now(UTC) - each.created, timedelta())),
        str(use.versions - use.trashed),
        str(use.trashed),
        stale or "-",
        str(use.leftovers),
        "-" if each.last_used is None else each.last_used.isoformat(timespec="seconds"),
    )
