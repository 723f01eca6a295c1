"""Commands for those who write connectors: connector check."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import Exit, console, errors, failures, print_json
from membrane_sync.errors import Fatal, NotFound, ProjectError
from membrane_sync.ports import ConnectionRecord

if TYPE_CHECKING:
    from membrane_sync.kit.connector import Target
    from membrane_sync.kit.findings import Finding
    from membrane_sync.project.project import Project

group = typer.Typer(help="For authors of connectors.", no_args_is_help=True)

COLOURS = {"ok": "green", "failed": "red bold", "not_declared": "dim", "not_provable": "yellow"}


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="connector")


@group.command()
def check(
    app: Annotated[str, typer.Argument(help="The integration or connector, as kinto.")],
    connection: ConnectionOption = None,
    url: Annotated[str, typer.Option(help="In place of the connector's base_url.")] = "",
    values: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Input, as --set url=https://…")
    ] = None,
    credentials: Annotated[
        list[str] | None,
        typer.Option("--credential", help="As token=env:NAME (from the environment) or token=-."),
    ] = None,
    option: Annotated[
        str, typer.Option(help="Without a connection: which of the ways to authenticate.")
    ] = "",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Start the simulator, and check against it.")
    ] = False,
    collections: Annotated[
        list[str] | None, typer.Option("--collection", help="Only these; can be repeated.")
    ] = None,
    pages: Annotated[int, typer.Option(min=1, help="Pages to read of each list.")] = 5,
    write: Annotated[
        bool, typer.Option("--write", help="Create, change and delete a record of each collection.")
    ] = False,
    sample: Annotated[
        Path | None, typer.Option(help="JSON: the fields of a new record by collection.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Keep the exchanges in this file, without secrets.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Play such a file back, without the app.")
    ] = None,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Hold a connector's promises against the app: pages, cursor, ids, deletions, single records.

    Reads only, unless --write is given. Exits with 1 if a promise fails.
    """
    from membrane_sync.cli.connect import as_refused
    from membrane_sync.kit import recorded
    from membrane_sync.kit.connector import check_connector

    with failures(as_json), ExitStack() as stack:
        loaded = _project(project, app, simulate, stack)
        if replay is not None:
            target = _replayed(loaded, app, replay)
        else:
            given = _Given(connection, url, values or [], credentials or [], option, simulate)
            record_of = _account(loaded, app, given, stack)
            target = _target(loaded, app, record_of, url)
        target = replace(
            target, collections=_chosen(target, collections or []), samples=_samples(sample, target)
        )
        if replay is None:
            target = replace(target, pages=pages, write=write)
        recorder = None
        if record is not None:
            target, recorder = recorded.recording(target)
        with errors.status("checking") as status, as_refused(target.connector.key):
            found = check_connector(target, lambda what: status.update(f"checking {escape(what)}"))
        if record is not None and recorder is not None:
            recorded.save(target, recorder, record)
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        _show(found)
    if any(finding.verdict == "failed" for finding in found):
        raise typer.Exit(Exit.FAILED)


class _Given:
    """What the command line says of the account to check against."""

    def __init__(
        self,
        connection: str | None,
        url: str,
        values: Sequence[str],
        credentials: Sequence[str],
        option: str,
        simulate: bool,
    ) -> None:
        self.connection = connection
        self.url = url
        self.values = values
        self.credentials = credentials
        self.option = option
        self.simulate = simulate


def _project(start: Path, app: str, simulate: bool, stack: ExitStack) -> Project:
    """The project; the packaged one of the simulator, where there is no other that has it."""
    from membrane_sync.bootstrap import find_root
    from membrane_sync.project.project import Project
    from membrane_sync.project.references import check as find_problems
    from membrane_sync.project.references import errors as only_errors
    from membrane_sync.testing.simulator.project import KEY, write_project

    try:
        root = find_root(start)
    except NotFound:
        root = None
    if simulate and app == KEY and (root is None or not (root / "connectors" / app).is_dir()):
        root = Path(stack.enter_context(TemporaryDirectory()))
        write_project(root)
    loaded = Project.load(root or find_root(start))
    own = f"connectors/{_connector_key(loaded, app)}/"
    # What this version can't carry out is said of each collection; the rest must be right.
    problems = [p for p in find_problems(loaded) if p.file.startswith(own)]
    wrong = [p for p in only_errors(problems) if "not supported yet" not in p.message]
    if wrong:
        raise ProjectError(wrong)
    return loaded


def _connector_key(loaded: Project, app: str) -> str:
    return loaded.integration(app).connector if app in loaded.integrations else app


def _parts(loaded: Project, app: str, option: str = "") -> tuple[Any, list[Any], dict[str, Any]]:
    """The connector with one way to authenticate, its collections, the integration's parameters."""
    from membrane_sync.elements.connector import Connector
    from membrane_sync.elements.data_collection import DataCollection
    from membrane_sync.project.authentication import access

    keys = loaded.keys("data_collection", app)
    found = [loaded.get(DataCollection, name, integration=app) for name in keys]
    if app not in loaded.integrations:
        return loaded.get(Connector, app, integration=app), found, {}
    way = access(loaded, app, option)
    return way.connector, found, dict(way.parameters)


def _target(loaded: Project, app: str, record: ConnectionRecord, url: str) -> Target:
    from membrane_sync.kit.connector import Target
    from membrane_sync.kit.recorded import live_api

    connector, collections, parameters = _parts(loaded, app, record.option)
    if url:
        connector = connector.model_copy(update={"base_url": url})
    open_api = live_api(connector, parameters)
    return Target(
        connector,
        collections,
        record,
        open_api,
        parameters,
        functions=_functions(loaded, connector.key),
        every=collections,
    )


def _functions(loaded: Project, connector: str) -> Mapping[str, Any]:
    from membrane_sync.project.hooks import HOOKS, Hooks

    return Hooks(loaded.root / "connectors" / connector / HOOKS)


def _replayed(loaded: Project, app: str, file: Path) -> Target:
    from membrane_sync.kit.recorded import replaying

    connector, collections, parameters = _parts(loaded, app)
    functions = _functions(loaded, connector.key)
    return replaying(file, connector, collections, parameters, functions)


def _account(loaded: Project, app: str, given: _Given, stack: ExitStack) -> ConnectionRecord:
    """The connection of the ledger, the simulator's, or one of what is on the command line."""
    from membrane_sync.cli.credentials import gather, pairs, secrets_of

    if given.connection:
        from membrane_sync.bootstrap import Runtime

        found = Runtime(loaded).ledger.connection(given.connection)
        if found.integration != app:
            raise Fatal(f"connection {found.key!r} is one of {found.integration}, not of {app}")
        return found
    values, credentials = pairs(given.values, "--set"), secrets_of(given.credentials)
    if given.simulate:
        url = stack.enter_context(_simulated())
        values, credentials = {"url": url, **values}, {"token": "token-acme", **credentials}
    connector, _, _ = _parts(loaded, app, given.option)
    return ConnectionRecord(
        "check",
        app,
        "check",
        option=given.option,
        input=gather(connector.input_schema, values),
        credentials=gather(connector.authentication.input_schema, credentials, secret=True),
    )


@contextmanager
def _simulated() -> Iterator[str]:
    """A simulator with some records that were changed and deleted."""
    from membrane_sync.testing.simulator import Simulator, running

    simulator = Simulator(records=500)
    for key in simulator.tables:
        simulator.edit(key, 5)
        simulator.delete(key, 2)
    simulator.settle()
    with running(simulator) as url:
        yield url


def _chosen(target: Target, keys: Sequence[str]) -> list[Any]:
    known = {collection.key: collection for collection in target.collections}
    unknown = [key for key in keys if key not in known]
    if unknown:
        from membrane_sync.elements.nearest import nearest

        hint = nearest(unknown[0], list(known), "declared are")
        raise NotFound(f"there is no data_collection {unknown[0]!r}", hint=hint)
    return [known[key] for key in keys] or list(known.values())


def _samples(file: Path | None, target: Target) -> dict[str, dict[str, Any]]:
    if file is None:
        return cast(dict[str, dict[str, Any]], target.samples)
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(item, dict) for item in given.values()):
        raise Fatal(f"{file} is no JSON object of records", hint='as {"contacts": {"email": "…"}}')
    return given


def _show(found: Sequence[Finding]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in ("collection", "promise", "verdict", "seen", "what to do"):
        table.add_column(column, no_wrap=column in ("collection", "verdict"), overflow="fold")
    before = None
    for finding in _joined(found):
        said = finding.verdict.replace("_", " ")
        verdict = f"[{COLOURS[finding.verdict]}]{said}[/]"
        name = "" if finding.collection == before else escape(finding.collection)
        before = finding.collection
        advice = finding.advice if finding.verdict != "ok" else ""
        table.add_row(name, escape(finding.promise), verdict, escape(finding.seen), escape(advice))
    console.print(table, highlight=False)
    counts: Counter[str] = Counter(finding.verdict for finding in found)
    parts = [f"{counts[v]} {v.replace('_', ' ')}" for v in COLOURS if counts[v]]
    console.print(", ".join(parts), highlight=False)


def _joined(found: Sequence[Finding]) -> Iterator[Finding]:
    """What a collection doesn't declare, and has nothing said of, on one line."""
    for _, group_of in groupby(found, key=lambda finding: finding.collection):
        findings = list(group_of)
        plain = [f for f in findings if f.verdict == "not_declared" and not f.advice]
        yield from (finding for finding in findings if finding not in plain)
        if plain:
            yield replace(plain[0], promise=", ".join(finding.promise for finding in plain))
