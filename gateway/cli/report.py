"""`sealgate report key` and `sealgate report verify`: whether a report is what was signed here."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.command import (
    Config,
    Json,
    fail,
    settings_of,
    show_fields,
    show_json,
    teach,
)
from gateway.settings.config import Settings

_KEY = teach(
    "Show the public key that reports are verified with, and make the key if there is none. "
    "The private one lies in `reports.key_file`, or beside the reports, for its owner alone.",
    "sealgate report key",
    "sealgate report key --json | jq -r .public_key > restore-reports.pub",
)
_VERIFY = teach(
    "Verify that a report was signed by your key and has not been altered since. "
    "The file of items that it names is verified, too, when it lies beside it. Without --public-key "
    "the key of the settings counts; the one that stands in the report itself never does.",
    "sealgate report verify restore-all.1f0c….report.json",
    "sealgate report verify FILE --public-key BASE64",
    codes="Exit codes: 0 it holds, 1 it does not, 2 wrong usage or settings.",
)

group = typer.Typer(help="Verify signed reports.", no_args_is_help=True)


def folder_of(settings: Settings, config: Path | None) -> Path:
    """Return where journals and reports go: as set, else beside the settings."""
    beside = config.parent if config is not None else Path()
    return (settings.reports.folder or beside).absolute()


def key_file_of(settings: Settings, config: Path | None) -> Path:
    """Return where the key for reports is."""
    return settings.reports.key_file or folder_of(settings, config) / "report.key"


@group.command("key", help=_KEY)
def key(*, config: Config = None, as_json: Json = False) -> None:
    """Show the public key."""
    from gateway.recovery.report import ReportRefused, load, make  # noqa: PLC0415 - help answers at once

    path = key_file_of(settings_of(config), config)
    try:
        try:
            signer, made = load(path), False
        except FileNotFoundError:
            signer, made = make(path), True
    except ReportRefused as error:
        fail(str(error))
    shown: dict[str, Any] = {"public_key": signer.public, "file": str(path), "made": made}
    if as_json:
        show_json(shown)
        return
    show_fields({"public key": signer.public, "file": str(path)})
    if made:
        typer.echo(f"a new key was made in {path}: keep a copy of the public one", err=True)


@group.command("verify", help=_VERIFY)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The report.")],
    *,
    public: Annotated[
        str | None,
        typer.Option("--public-key", help="Base64, as `sealgate report key` shows it."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Verify a report."""
    from gateway.recovery import report  # noqa: PLC0415 - as above

    try:
        trusted = public or report.load(key_file_of(settings_of(config), config)).public
        found = report.verify(file.read_bytes(), trusted)
    except report.ReportRefused as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}")
    items = _items(file, found)
    if as_json:
        show_json({"verified": True, "items": items, "report": found})
    else:
        counts = json.dumps(found.get("counts", {}))
        shown = {name: str(found.get(name)) for name in ("kind", "run", "started", "ended")}
        show_fields({**shown, "counts": counts, "items": items, "signature": "holds"})


def _items(file: Path, report: dict[str, Any]) -> str:
    """Compare the file of items with its digest in the report; it may be elsewhere by now."""
    named = report.get("items")
    if not isinstance(named, dict):
        return "none"
    path = file.with_name(Path(str(named.get("file"))).name)
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return f"not here: {path.name}"
    if digest != named.get("sha256"):
        fail(f"{path.name} is not the file of items that was signed for")
    return "verified"
