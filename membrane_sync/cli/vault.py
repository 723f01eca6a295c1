"""Commands about the keys that secrets are sealed with: vault status, vault rotate, vault prune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from rich.markup import escape

from membrane_sync.bootstrap import Runtime, find_root, open_runtime
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import Exit, console, failures, print_json, print_table
from membrane_sync.errors import Fatal
from membrane_sync.stores.vault import UNKNOWN, key_id

PLAIN = "none"
"""Stands for the key of what no key has sealed."""

vault_app = typer.Typer(help="Look after the keys of stored secrets.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    vault_app.command("status")(status)
    vault_app.command("rotate")(rotate)
    vault_app.command("prune")(prune)
    app.add_typer(vault_app, name="vault")


def status(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Show how many stored secrets each key has sealed, by the keys' names, and any in plain."""
    with failures(as_json):
        rows = _standing(open_runtime(find_root(project)))
    if as_json:
        print_json(rows)
        return
    columns = ["key", "use", "secrets"]
    print_table("", columns, [list(row.values()) for row in rows], right=["secrets"])
    if any(row["use"] == "lost" and row["secrets"] for row in rows):
        console.print(
            "[yellow]Secrets of a lost key can't be read:[/] put it into MEMBRANE_SECRET_KEYS_OLD, "
            "or connect again."
        )
    if any(row["key"] == PLAIN for row in rows):
        console.print(
            "[yellow]Secret input of these connections is stored as it was typed:[/] seal it with "
            "membrane vault rotate; copies in older backups stay as they are."
        )


def rotate(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Seal all stored secrets with a new key; syncs may go on meanwhile.

    The new key is made in the key file, or is MEMBRANE_SECRET_KEY where that's set: then the former
    one belongs in MEMBRANE_SECRET_KEYS_OLD. A rotation that was cut off is finished first. Secret
    input that was stored as it was typed is sealed, too.
    """
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        secrets, vault = runtime.ledger.secrets, runtime.stores.vault
        former = set(vault.known) - {vault.newest}
        unfinished = not former.isdisjoint(secrets.count())
        keys = runtime.stores.secret_keys
        made = not (unfinished or runtime.settings.vault or keys.from_environment)
        if made:
            keys.add()
        done = secrets.reseal() + runtime.ledger.input.seal(runtime.apps.secret_input)
        newest = vault.newest
    if as_json:
        said = {"key": newest, "made": made, "sealed": done.sealed, "unread": done.unread}
        print_json(said)
    else:
        console.print(f"[green]✓[/] {done.sealed:,} secrets sealed with key {newest}")
        for why in done.unread.values():
            console.print(f"[yellow]left as it was:[/] {escape(why)}", soft_wrap=True)
        if made:
            console.print(
                "The former keys are still in the key file, for backups: membrane vault prune"
            )
    raise typer.Exit(Exit.SOME_FAILED if done.unread else Exit.DONE)


def prune(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Take keys that seal nothing any more out of the key file; older backups need them."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        in_use = {runtime.stores.vault.newest, *runtime.ledger.secrets.count()}
        keys = runtime.stores.secret_keys
        in_file = keys.in_file()
        unused = [key for key in in_file if key_id(key) not in in_use]
        if in_file and len(unused) == len(in_file) and not keys.from_environment:
            raise Fatal(
                "no key of the file seals anything, so that none would be left",
                hint="delete the file, if the secrets are in an external store for good",
            )
        if unused:
            keys.drop(unused)
        names = [key_id(key) for key in unused]
    if as_json:
        print_json({"dropped": names})
        return
    console.print(f"dropped: {', '.join(names)}" if names else "nothing to drop")


def _standing(runtime: Runtime) -> Sequence[dict[str, Any]]:
    """A row for each key at hand, and for each one that has sealed something."""
    counts, vault = runtime.ledger.secrets.count(), runtime.stores.vault
    names = dict.fromkeys([*vault.known, *sorted(counts)])
    uses = dict.fromkeys(vault.known, "opens") | {vault.newest: "seals and opens"}
    plain = len(runtime.ledger.input.plain(runtime.apps.secret_input))
    sealed = [
        {
            "key": "damaged" if name == UNKNOWN else name,
            "use": uses.get(name, "lost"),
            "secrets": counts.get(name, 0),
        }
        for name in names
    ]
    return [*sealed, *([{"key": PLAIN, "use": "not sealed", "secrets": plain}] if plain else [])]
