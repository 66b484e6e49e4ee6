"""`sealgate restore`: brings back one attachment, one tenant or everything from good copies."""

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.command import (
    USAGE,
    Config,
    Json,
    fail,
    run,
    settings_of,
    teach,
    time_of,
)
from gateway.cli.scope import Attachment, OneTenant, Version, demand_one, named

MiB = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{32}")
HELP = teach(
    "Restore from backup: one attachment, one tenant, or everything. Copies ciphertext to the primary, "
    "or to --to TARGET, without keys; or opens it into a local folder with --open-into. What is there "
    "and whole stays; what is missing or damaged is brought back from a copy that is verified as it "
    "streams. Killed or interrupted, the same command goes on where it was. It ends with a signed report.",
    "sealgate restore --all --dry-run",
    "sealgate restore --all",
    "sealgate restore --tenant ID --from singapore --since 2026-11-01",
    "sealgate restore --attachment ID/REFERENCE --version VERSION",
    "sealgate restore --all --verify-only --from singapore",
    "sealgate restore --tenant ID --open-into ./restored --token-file reader.token",
    codes="Exit codes: 0 all of it is there and whole, 3 done but something failed or was refused, "
    "1 it could not run or could not go on, 2 wrong usage or settings, 130 interrupted: run it again.",
)


def restore(
    *,
    attachment: Attachment = None,
    version: Version = None,
    tenant: OneTenant = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stored at this time (ISO 8601) or later.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="TARGET", help="Read from this target alone."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TARGET", help="Write to this target, not the primary."),
    ] = None,
    open_into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Open into files in this folder. Needs a token."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token for --open-into; asked for without."),
    ] = None,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Read and verify the sources; write nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, without reading bodies.")
    ] = False,
    without_key_service: Annotated[
        bool,
        typer.Option(
            "--without-key-service",
            help="Do not ask whether a tenant was shredded. For ciphertext, in a disaster.",
        ),
    ] = False,
    parallel: Annotated[
        int,
        typer.Option(min=1, max=64, help="Versions at a time; each takes three parts of memory."),
    ] = 8,
    rate: Annotated[float, typer.Option(min=0, help="MiB a second at most; 0 is no limit.")] = 0.0,
    journal: Annotated[
        Path | None, typer.Option(help="Journal to go on with; by default named by the scope.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, whatever a journal says.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where to write the report; by default beside the journal.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Restore."""
    demand_one(attachment, tenant, everything=everything)
    if version is not None and attachment is None:
        fail("--version needs --attachment", USAGE)
    if open_into is not None and to is not None:
        fail("name one of --to and --open-into", USAGE)
    if open_into is not None and (without_key_service or verify_only):
        fail("--open-into goes with neither --verify-only nor --without-key-service", USAGE)
    if token_file is not None and open_into is None:
        fail("--token-file goes with --open-into", USAGE)
    if verify_only and (to is not None or dry_run):
        fail("--verify-only writes nothing: it goes with neither --to nor --dry-run", USAGE)
    settings = settings_of(config)

    from gateway.cli import restoring  # noqa: PLC0415 - help answers at once
    from gateway.recovery.restore import Scope  # noqa: PLC0415 - as above

    tenant, reference = _named(attachment, tenant)
    wish = restoring.Wish(
        scope=Scope(tenant, reference, version, time_of("--since", since)),
        source=source,
        target=to,
        folder=open_into,
        token_file=token_file,
        verify_only=verify_only,
        dry_run=dry_run,
        ask=not without_key_service,
        parallel=parallel,
        rate=rate * MiB,
        journal=journal,
        fresh=fresh,
        report=report,
    )
    ended = run(restoring.restore(settings, config, wish, as_json=as_json), *restoring.EXPECTED)
    if ended:
        raise typer.Exit(ended)


def _named(attachment: str | None, tenant: str | None) -> tuple[str | None, str | None]:
    """Return a tenant's id and a reference, or end with what is wrong with them."""
    reference = None
    if attachment is not None:
        tenant, reference = named(attachment)
    if tenant is not None and not _ID.fullmatch(tenant):
        fail(
            "a tenant's id is 32 lower-case hex characters: `sealgate tenant list` shows it", USAGE
        )
    return tenant, reference
