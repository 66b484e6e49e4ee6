"""The command itself: which commands there are, and in which order they are shown."""

import typer

from gateway.cli import (
    backup,
    dev,
    drill,
    failover,
    importing,
    journal,
    keys,
    keys_mend,
    keys_move,
    keys_retire,
    keys_state,
    keys_status,
    ledger,
    reap,
    rebuild,
    repair,
    report,
    reseal,
    restore,
    rotate,
    rotate_kek,
    rotate_root,
    runs,
    scrub,
    serve,
    settings,
    shred,
    status,
    target,
    tenant,
    token,
    trash,
    worker,
)
from keyservice import commandline

cli = typer.Typer(
    name="sealgate",
    help="A storage gateway that seals attachments before any store sees them.",
    epilog="New here? `sealgate dev` starts everything on this machine and shows it at work. "
    "Every setting is also an environment variable: SEALGATE_LISTEN__PORT=8080. "
    "Flags win over the environment, which wins over the file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

cli.callback()(commandline.root)
cli.command("dev", help=dev.HELP)(dev.dev)
cli.command("serve", help=serve.HELP)(serve.serve)
cli.command("worker", help=worker.HELP)(worker.worker)
cli.command("status", help=status.HELP)(status.status)
cli.add_typer(tenant.group, name="tenant")
cli.add_typer(token.group, name="token")
cli.add_typer(trash.group, name="trash")
keys.group.command("status", help=keys_status.HELP)(keys_status.status)
keys.group.command("retire", help=keys_retire.HELP)(keys_retire.retire)
keys.group.command("suspend", help=keys_state.SUSPEND)(keys_state.suspend)
keys.group.command("resume", help=keys_state.RESUME)(keys_state.resume)
keys.group.command("move", help=keys_move.MOVE)(keys_move.move)
keys.group.command("settings", help=keys_move.SETTINGS)(keys_move.change)
keys.group.command("mend", help=keys_mend.MEND)(keys_mend.mend)
keys.group.command("destroy-root", help=keys_mend.DESTROY)(keys_mend.destroy)
keys.group.command("journal", help=journal.HELP)(journal.journal)
keys.group.add_typer(shred.group, name="shred")
keys.group.add_typer(ledger.group, name="ledger")
cli.add_typer(keys.group, name="keys")
keys.group.command("import", help=importing.IMPORT)(importing.import_key)
keys.group.command("generate", help=importing.GENERATE)(importing.generate)
cli.add_typer(rotate.group, name="rotate")
cli.add_typer(failover.group, name="failover")
cli.add_typer(target.group, name="target")
rotate.group.command("root", help=rotate_root.HELP)(rotate_root.root)
rotate.group.command("kek", help=rotate_kek.HELP)(rotate_kek.kek)
rotate.group.command("dek", help=reseal.HELP)(reseal.dek)
cli.command("runs", help=runs.HELP)(runs.runs)
cli.command("reap", help=reap.HELP)(reap.reap)
cli.command("repair", help=repair.HELP)(repair.repair)
cli.command("scrub", help=scrub.HELP)(scrub.scrub)
cli.add_typer(backup.group, name="backup")
cli.command("rebuild-catalog", help=rebuild.HELP)(rebuild.rebuild_catalog)
cli.command("drill", help=drill.HELP)(drill.drill)
cli.command("restore", help=restore.HELP)(restore.restore)
cli.add_typer(report.group, name="report")
cli.command("migrate", help=settings.MIGRATE)(settings.migrate)
cli.command("check-config", help=settings.CHECK)(settings.check_config)


def main() -> None:
    """Run the command line."""
    commandline.main(cli, "sealgate")
