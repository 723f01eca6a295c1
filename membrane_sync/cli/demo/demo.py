"""The whole story on this machine: apps, customers, first sync, changes, next sync, nothing new.

It lives in a project of its own, made anew each time; the syncs are real Dagster runs, each
connection's in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.markup import escape

from membrane_sync.apps.kinto import Kinto, start_kinto
from membrane_sync.apps.pocketbase import PocketBase, record_id, start_pocketbase
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli import output
from membrane_sync.cli.dagster_process import dagster_environment, run_dev
from membrane_sync.cli.demo import data
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.cli.syncing import show_reports
from membrane_sync.errors import Fatal
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Report

TENANTS = ("acme", "globex")
BUCKET = "crm-{tenant}"


@dataclass
class Demo:
    """What the demo has made so far."""

    root: Path
    records: int
    console: Console
    rounds: dict[str, list[Report]] = field(default_factory=dict)


def run_demo(
    directory: Path, records: int, *, as_json: bool = False, ui: bool = False, port: int = 3000
) -> None:
    """Tell the story in `directory`, which is emptied first; with `ui`, open Dagster at the end.

    `records` is how many contacts each tenant has. Raises Fatal if a Dagster run fails.
    """
    console = Console(stderr=True, quiet=as_json)
    demo = Demo(_fresh(directory), records, console)
    with ExitStack() as stack:
        kinto, pocketbase = _start_apps(demo, stack)
        runtime = open_runtime(demo.root)
        connections = _connect(demo, runtime, kinto, pocketbase)
        _round(demo, runtime, connections, "first sync")
        with _step(demo, "the apps' users change, add and delete records"):
            _churn(demo, kinto, pocketbase)
        _round(demo, runtime, connections, "incremental sync")
        _round(demo, runtime, connections, "sync with nothing new")
        if as_json:
            output.print_json(
                {name: [asdict(r) for r in reports] for name, reports in demo.rounds.items()}
            )
        else:
            _where(demo, runtime)
        if ui:
            Console().print(
                f"Dagster's UI: [bold]http://127.0.0.1:{port}[/]  (Ctrl+C ends the demo)"
            )
            run_dev(demo.root, "127.0.0.1", port)


def _fresh(directory: Path) -> Path:
    """An empty project; only a folder that an earlier demo made is emptied."""
    marker = directory / ".membrane-demo"
    if directory.exists() and any(directory.iterdir()):
        if not marker.exists():
            raise Fatal(f"{directory} is not a demo's folder", hint="name a folder that's empty")
        shutil.rmtree(directory)
    scaffold(directory)
    marker.touch()
    return directory.resolve()


def _start_apps(demo: Demo, stack: ExitStack) -> tuple[Kinto, PocketBase]:
    apps = Path(os.environ.get("MEMBRANE_APPS_DIR", demo.root.parent / "apps"))
    with _step(demo, "start Kinto and PocketBase on loopback (installs them the first time)"):
        kinto = stack.enter_context(
            start_kinto(apps / "kinto", data=demo.root / ".membrane" / "apps" / "kinto")
        )
        pocketbase = stack.enter_context(
            start_pocketbase(
                apps / "pocketbase", data=demo.root / ".membrane" / "apps" / "pocketbase"
            )
        )
    with _step(demo, f"fill them with {demo.records * 3:,} contacts, and companies"):
        for tenant in TENANTS:
            account = kinto.create_account(tenant, _password(tenant))
            bucket = BUCKET.format(tenant=tenant)
            kinto.create_bucket(account, bucket)
            for collection, records in data.kinto_collections(tenant, demo.records).items():
                kinto.create_collection(account, bucket, collection)
                kinto.write(account, bucket, collection, records)
        pocketbase.create_contacts_collection()
        pocketbase.write("contacts", _pocketbase_contacts(demo))
    return kinto, pocketbase


def _connect(
    demo: Demo, runtime: Runtime, kinto: Kinto, pocketbase: PocketBase
) -> list[ConnectionRecord]:
    connections = [
        ConnectionRecord(
            key=f"{tenant}_kinto",
            integration="kinto",
            tenant=tenant,
            input={"url": kinto.url, "bucket": BUCKET.format(tenant=tenant)},
            credentials={"username": tenant, "password": _password(tenant)},
        )
        for tenant in TENANTS
    ]
    token = {"token": pocketbase.login()}
    connections.append(
        ConnectionRecord(
            "acme_pocketbase",
            "pocketbase",
            "acme",
            input={"url": pocketbase.url},
            credentials=token,
        )
    )
    names = ", ".join(connection.key for connection in connections)
    with _step(demo, f"connect two customers: {names}"):
        for connection in connections:
            runtime.apps.prove(connection)
            runtime.register(connection)
        _launch(demo).wait(timeout=120)
    return connections


def _round(
    demo: Demo, runtime: Runtime, connections: Sequence[ConnectionRecord], name: str
) -> None:
    """One sync of every connection in Dagster, all at the same time."""
    with _step(demo, f"{name}, in Dagster, each connection in its own run"):
        processes = [_launch(demo, connection.key) for connection in connections]
        codes = [process.wait(timeout=600) for process in processes]
    failed = [c.key for c, code in zip(connections, codes, strict=True) if code]
    if failed:
        raise Fatal(
            f"{name}: the Dagster run of {', '.join(failed)} failed",
            hint=f"see {demo.root / '.membrane' / 'demo.log'}",
        )
    runs = sorted(runtime.ledger.runs.newest(), key=lambda run: (run.connection, run.sync))
    demo.rounds[name] = [run.report for run in runs if run.report is not None]
    if not demo.console.quiet:
        output.console.rule(f"[bold]{name}", align="left")
        show_reports(demo.rounds[name])


def _launch(demo: Demo, *connections: str) -> subprocess.Popen[bytes]:
    log = demo.root / ".membrane" / "demo.log"
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "membrane_sync.orchestration.launch", *connections],
            cwd=demo.root,
            env=dagster_environment(demo.root),
            stdout=output,
            stderr=output,
        )


def _churn(demo: Demo, kinto: Kinto, pocketbase: PocketBase) -> None:
    for tenant in TENANTS:
        account = kinto.create_account(tenant, _password(tenant))
        place = (account, BUCKET.format(tenant=tenant), "contacts")
        churn = data.kinto_churn(tenant, demo.records)
        kinto.write(*place, [*churn.changed, *churn.created])
        kinto.delete(*place, churn.deleted)
    changed = [
        {"id": record["id"], "phone": "+351 21 5550000"}
        for record in _pocketbase_contacts(demo)[:40]
    ]
    pocketbase.update("contacts", changed)


def _pocketbase_contacts(demo: Demo) -> list[data.Record]:
    contacts = data.pocketbase_contacts("acme", demo.records)
    return [{**contact, "id": record_id(contact.pop("number"))} for contact in contacts]


def _where(demo: Demo, runtime: Runtime) -> None:
    """Where the data is now, and what to try."""
    console = output.console
    shown = _relative(demo.root)
    console.rule("[bold]Where it is", align="left")
    console.print(f"lake       {shown}/.membrane/lake/<connection>.duckdb")
    console.print(f"product    {shown}/.membrane/app.db, table contacts")
    console.print(f"           {_product_counts(runtime)}")
    console.rule("[bold]Try", align="left")
    query = (
        "SELECT city, count(*) AS contacts FROM mapped.contacts WHERE _deleted_at IS NULL "
        "GROUP BY city ORDER BY contacts DESC"
    )
    console.print(f"cd {shown}")
    console.print("membrane status")
    console.print(f'membrane records -c acme_kinto --sql "{escape(query)}"', soft_wrap=True)
    console.print("membrane dev          # Dagster's UI: assets, runs, backfills")
    console.print("\nTo change records and watch them sync, keep the apps running: make demo-ui")


def _product_counts(runtime: Runtime) -> str:
    from sqlalchemy import create_engine, text

    engine = create_engine(runtime.settings.databases["app"])
    try:
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT connection, count(*) FROM contacts GROUP BY 1 ORDER BY 1")
            )
            return ", ".join(f"{name}: {count:,} rows" for name, count in rows)
    finally:
        engine.dispose()


@contextmanager
def _step(demo: Demo, what: str) -> Iterator[None]:
    """Say what is being done while it's done, and how long it took."""
    started = monotonic()
    with demo.console.status(what):
        yield
    demo.console.print(f"[green]✓[/] {escape(what)} [dim]{monotonic() - started:.1f} s[/]")


def _password(tenant: str) -> str:
    return f"{tenant}-demo-password"


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
