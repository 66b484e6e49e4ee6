"""`sealgate rotate root`: a new version of root keys, and every KEK under it."""

import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.bar import bar
from gateway.cli.command import (
    FAILED,
    FINDINGS,
    USAGE,
    Config,
    Json,
    fail,
    opened,
    run,
    show_fields,
    show_json,
    show_rows,
    teach,
)
from gateway.cli.keys import Certificate, PrivateKey, acting
from gateway.cli.rotate_kek import NICE, SHARE
from gateway.cli.scope import Tenants
from gateway.settings.config import Settings

if TYPE_CHECKING:
    from gateway.rotation.roots import OwnRoot, SharedRoot
    from gateway.wiring.core import Core

HELP = teach(
    "Give root keys a new version, wrap every KEK under it, and put the older versions out of use. Nothing "
    "else is touched: no envelope, no body. With --tenant roots of tenants' own, with --shared the one that "
    "standard tenants share, with --all both. KEKs under a root that the owner supplies or holds are wrapped "
    "under its newest version; to make one is the owner's. What was interrupted is finished by the same "
    "command, without another version.",
    "sealgate rotate root --tenant ID",
    "sealgate rotate root --shared --certificate admin.crt --private-key admin.key",
    "sealgate rotate root --all --dry-run",
    codes="Exit codes: 0 every KEK is under the newest version, 3 done but something is left (a suspended "
    "tenant is in the way, or the identity may not put old versions out of use), 1 it failed, for all "
    "tenants or for some, 2 wrong usage or settings, 130 interrupted: run it again.",
)


def root(
    *,
    tenant: Tenants = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="The root that standard tenants share.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every root.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which roots there are, and change nothing.")
    ] = False,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Rotate roots."""
    if [tenant or None, shared or None, everything or None].count(None) != 2:  # noqa: PLR2004 - one
        fail("name one of --tenant ID, --shared and --all", USAGE)
    settings = acting(config, certificate, private_key)
    os.nice(NICE)
    if dry_run:
        run(_plan(settings, tenant or [], shared=shared, everything=everything, as_json=as_json))
        return
    own, common = run(_rotate(settings, tenant or [], shared=shared, everything=everything))
    _show(own, common, as_json=as_json)
    if any(each.error is not None for each in own):
        raise typer.Exit(FAILED)
    if common is not None and not common.complete:
        raise typer.Exit(FINDINGS)


async def _rotate(
    settings: Settings, tenants: list[str], *, shared: bool, everything: bool
) -> "tuple[list[OwnRoot], SharedRoot | None]":
    from gateway.wiring import rotations  # noqa: PLC0415 - help answers at once
    from keyservice.wire import Shredded, WrongState  # noqa: PLC0415 - as above

    own: list[OwnRoot] = []
    common = None
    async with opened(settings, share=SHARE) as wired:
        roots = rotations.roots(settings, wired)

        def told(found: "OwnRoot") -> None:
            if found.done == "shared" and not everything:
                text = "it shares its root with all standard tenants: rotate that with --shared"
                found.error = WrongState(text)
            passed = found.done == "shared" or isinstance(found.error, Shredded)
            if not (everything and passed):
                own.append(found)

        with bar("rotating", things=True) as shown:
            await roots.own(_each(wired, tenants, everything=everything), told)
            if shared or everything:
                common = await roots.shared(shown.advance)
    return own, common


async def _plan(
    settings: Settings, tenants: list[str], *, shared: bool, everything: bool, as_json: bool
) -> None:
    from keyservice.wire import KeyServiceError  # noqa: PLC0415 - help answers at once

    found: list[dict[str, object]] = []
    async with opened(settings, share=SHARE) as wired:
        control, common = wired.keys.control, None
        if shared or everything:
            common = asdict(await control.shared_root())
        async for tenant in _each(wired, tenants, everything=everything):
            try:
                keys = await control.tenant(tenant)
            except KeyServiceError as error:
                found.append({"tenant": tenant, "error": f"{error.code}: {error}"})
                continue
            under = sorted({kek.root_version for kek in keys.keks if kek.root_version})
            if not (everything and keys.root.custody == "shared"):
                found.append(
                    {
                        "tenant": tenant,
                        "root": keys.root.custody,
                        "state": keys.state,
                        "keks": len([kek for kek in keys.keks if kek.root_version]),
                        "under": under,
                    }
                )
    if as_json:
        show_json({"shared": common, "tenants": found})
        return
    if common is not None:
        show_fields({"shared root": f"version {common['latest']}, from {common['minimum']} on"})
    show_rows(
        ["TENANT", "ROOT", "STATE", "KEKS", "UNDER VERSIONS"],
        [
            [
                str(each["tenant"]),
                str(each.get("root", "-")),
                str(each.get("state", each.get("error"))),
                str(each.get("keks", "-")),
                str(each.get("under", "-")),
            ]
            for each in found
        ],
    )


async def _each(wired: "Core", tenants: list[str], *, everything: bool) -> AsyncIterator[str]:
    if everything:
        from gateway.rotation.keks import everyone  # noqa: PLC0415 - help answers at once

        async for tenant in everyone(wired.catalog, wired.keys.control):
            yield tenant
    for tenant in dict.fromkeys(tenants):
        yield (await wired.catalog.tenant(tenant)).id


def _show(own: "list[OwnRoot]", common: "SharedRoot | None", *, as_json: bool) -> None:
    def error(found: "OwnRoot") -> str | None:
        code = getattr(found.error, "code", type(found.error).__name__)
        return None if found.error is None else f"{code}: {found.error}"

    if as_json:
        told = [{"tenant": each.tenant, "done": each.done, "error": error(each)} for each in own]
        both = None if common is None else {**asdict(common), "complete": common.complete}
        show_json({"tenants": told, "shared": both})
    else:
        if own:
            show_rows(["TENANT", "ROOT"], [[each.tenant, each.done or "failed"] for each in own])
        if common is not None:
            show_fields(
                {
                    "shared root": f"version {common.latest}, from {common.minimum} on",
                    "tenants under it": str(common.rewrapped),
                }
            )
    for each in own:
        if each.error is not None:
            typer.echo(f"sealgate: tenant {each.tenant}: {error(each)}", err=True)
    if common is not None:
        for tenant, why in common.refused.items():
            typer.echo(f"sealgate: tenant {tenant} is in the way: {why}", err=True)
        if common.in_use:
            text = "the shared root's older versions stay in use"
            typer.echo(f"sealgate: {text}: {common.in_use}", err=True)
