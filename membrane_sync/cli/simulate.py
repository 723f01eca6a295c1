"""The command that starts the simulator: an app to try connectors and syncs on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from membrane_sync.cli.options import JsonOption
from membrane_sync.cli.output import console, errors, failures, print_json
from membrane_sync.errors import Fatal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from membrane_sync.testing.simulator import Faults, Hooks, Limits, Simulator

TENANT = "acme"


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(simulate)


def simulate(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8900,
    seed: Annotated[int, typer.Option(help="The same seed gives the same app.")] = 0,
    records: Annotated[
        int, typer.Option("--records", "-n", min=1, help="In each collection.")
    ] = 1000,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", help="As error=0.05, drift_every=10, or 12=reset for one request."),
    ] = None,
    hooks: Annotated[
        list[str] | None,
        typer.Option("--hook", help="How webhooks go wrong, as late=0.2 or id_only=true."),
    ] = None,
    quotas: Annotated[
        list[str] | None, typer.Option("--quota", help="Requests per seconds, as 100/10.")
    ] = None,
    dialect: Annotated[str, typer.Option(help="How quotas are spoken of.")] = "seconds",
    live: Annotated[
        bool, typer.Option("--live/--still", help="The app's clock is ours, or moves by writes.")
    ] = True,
    project: Annotated[
        Path | None, typer.Option("--project", help="Make a project for it in this new folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a SaaS API that behaves as badly as told, to try connectors and syncs on.

    docs/simulator.md has its collections and switches. Ctrl+C stops it.
    """
    from membrane_sync.testing.simulator import Simulator, running

    with failures(as_json):
        simulator = Simulator(
            seed=seed,
            records=records,
            faults=_faults(faults or []),
            limits=_limits(quotas or [], dialect),
            hooks=_hooks(hooks or []),
            live=live,
        )
        left_out = _make_project(project) if project else {}
        with running(simulator, port) as url:
            if as_json:
                print_json({"url": url, "token": f"token-{TENANT}", "left_out": left_out})
            else:
                _introduce(simulator, url, project, left_out)
            _watch(simulator)


def _faults(texts: Sequence[str]) -> Faults:
    from membrane_sync.testing.simulator import Faults

    given: dict[str, Any] = {}
    at: dict[int, str] = {}
    for name, value in (_split(text, "=", "--fault error=0.05") for text in texts):
        if name.isdecimal():
            at[int(name)] = value
        else:
            given[name] = value
    return _checked(Faults, {**given, "at": at}, "--fault")


def _hooks(texts: Sequence[str]) -> Hooks:
    from membrane_sync.testing.simulator import Hooks

    given = dict(_split(text, "=", "--hook late=0.2") for text in texts)
    return _checked(Hooks, given, "--hook")


def _limits(texts: Sequence[str], dialect: str) -> Limits:
    from membrane_sync.testing.simulator import Limits

    pairs = [_split(text, "/", "--quota 100/10") for text in texts]
    quotas = [{"requests": count, "per_seconds": seconds} for count, seconds in pairs]
    return _checked(Limits, {"quotas": quotas, "dialect": dialect}, "--quota")


def _split(text: str, mark: str, example: str) -> tuple[str, str]:
    first, found, second = text.partition(mark)
    if not found:
        raise Fatal(f"{text!r} can't be read", hint=f"write it as {example}")
    return first.strip(), second.strip()


M = TypeVar("M", bound="BaseModel")


def _checked(model: type[M], given: dict[str, Any], option: str) -> M:
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Fatal(
            f"{option}: {where}: {first['msg']}", hint="docs/simulator.md lists the switches"
        ) from None


def _make_project(directory: Path) -> dict[str, str]:
    """Write a project; gives the collections that this version can't carry out, and why."""
    from membrane_sync.cli.scaffold import scaffold
    from membrane_sync.elements.data_collection import DataCollection
    from membrane_sync.project.project import Project
    from membrane_sync.project.support import unsupported
    from membrane_sync.testing.simulator.project import KEY, write_project

    scaffold(directory, examples=False)
    write_project(directory)
    loaded = Project.load(directory)
    left_out: dict[str, str] = {}
    for file in sorted((directory / "connectors" / KEY / "data_collections").glob("*.yaml")):
        collection = loaded.find("data_collection", file.stem, integration=KEY)
        waiting = [message for _, message in unsupported(collection)] if collection else []
        if isinstance(collection, DataCollection) and waiting:
            file.unlink()
            left_out[file.stem] = waiting[0]
    return left_out


def _introduce(
    simulator: Simulator, url: str, project: Path | None, left_out: dict[str, str]
) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    say(f"Simulator: [bold]{escape(url)}[/]  (Ctrl+C stops it)")
    say(f"  token        token-{TENANT}, as Authorization: Bearer")
    say(f"  collections  {', '.join(simulator.tables)}")
    say(f"  try          curl -H 'Authorization: Bearer token-{TENANT}' '{url}/contacts?limit=2'")
    say(f"  strings      {url}/_control/state")
    if project is None:
        say("  a project    membrane simulate --project DIRECTORY makes one that's ready")
    else:
        say(f"\nIn [bold]{escape(str(project))}[/], in another terminal:")
        given = f"--set url={url} --credential token=token-{TENANT}"
        say(f"  membrane connect simulator --tenant {TENANT} {given}")
        say("  membrane sync")
    for key, why in left_out.items():
        say(f"  [dim]left out {escape(key)}: {escape(why)}[/]")


def _watch(simulator: Simulator) -> None:
    """A line of what is asked, on a terminal, until Ctrl+C."""
    try:
        with errors.status("waiting for requests") as status:
            before, since = 0, time.monotonic()
            while True:
                time.sleep(0.5)
                entries, now = simulator.log.entries, time.monotonic()
                if len(entries) != before:
                    last, pace = entries[-1], (len(entries) - before) / (now - since)
                    said = f"{last.method} {last.path} {last.status} {last.fault}".rstrip()
                    line = f"{len(entries):,} requests, {pace:,.0f}/s, last: {said}"
                    status.update(escape(line))
                before, since = len(entries), now
    except KeyboardInterrupt:
        return
