"""Dagster's UI as a user sees it: the graph, a new connection, and a backfill started by clicking.

Dagster's daemon looks for new backfills every 30 seconds, which no setting changes: most of the
time this test takes is that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from membrane_sync.apps.kinto import Kinto
from tests.end_to_end.helpers import Tenant, Workspace, expected_person, fields_of, person
from tests.orchestration.ui import DevServer, graph_url, wait_for

JOB = "sync_kinto_contacts"
NODES = {
    "kinto": ("contacts", "contacts_mapped", "contacts_delivered", "companies"),
    "pocketbase": ("contacts", "contacts_mapped", "contacts_delivered"),
}


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield opened
    opened.close()


def test_connections_are_synced_from_the_ui(
    workspace: Workspace, kinto: Kinto, page: Page, tmp_path: Path
) -> None:
    # The schedule must not come in between.
    workspace.replace(
        "mappings/universal/packages/contacts.yaml",
        "schedule: {every_minutes: 15}",
        'schedule: {cron: "0 0 1 1 *"}',
    )
    acme, globex = Tenant(kinto, "acme"), Tenant(kinto, "globex")
    for tenant in (acme, globex):
        tenant.write(person(n) for n in range(300))
    workspace.connect(acme.connection)

    with DevServer(workspace.root) as server:
        show_graph(server, page, tmp_path)
        wait_for("the first connection", lambda: server.partitions("kinto/contacts"), seconds=40)

        workspace.connect(globex.connection)
        both = ["acme_kinto", "globex_kinto"]
        wait_for(
            "the new connection to become a partition, without a reload",
            lambda: server.partitions("kinto/contacts") == both,
            seconds=40,
        )
        # Held here, acme's first run has to wait, and its second must not even start.
        with workspace.runtime.connect("acme_kinto", what="a test"):
            launch_backfill(page, f"{server.url}/assets/kinto/contacts", both)
            launch_backfill(page, f"{server.url}/locations/membrane_sync/jobs/{JOB}", both)
            wait_for(
                "globex to be synced, and acme to have begun",
                lambda: (
                    statuses(server, "globex_kinto") == ["SUCCESS", "SUCCESS"]
                    and "STARTED" in statuses(server, "acme_kinto")
                ),
                seconds=75,
            )
            assert statuses(server, "acme_kinto") == ["QUEUED", "STARTED"]
        wait_for(
            "acme to be synced",
            lambda: statuses(server, "acme_kinto") == ["SUCCESS", "SUCCESS"],
            seconds=45,
        )
        runs = server.runs()
        show_success(server, page, tmp_path)

    for connection in both:
        mine = sorted((r for r in runs if is_of(r, connection)), key=lambda run: run["startTime"])
        assert all(one["endTime"] <= other["startTime"] for one, other in pairwise(mine))
    assert any(
        one["startTime"] < other["endTime"] and other["startTime"] < one["endTime"]
        for one in runs
        for other in runs
        if is_of(one, "acme_kinto") and is_of(other, "globex_kinto")
    ), "tenants should not have waited for one another"
    for tenant in (acme, globex):
        truth = tenant.truth()
        assert workspace.records(tenant.connection.key) == truth
        assert fields_of(workspace.delivered(tenant.connection.key)) == {
            key: expected_person(record) for key, record in truth.items()
        }
    assert left_behind(workspace.root) == []


BACKFILL = """mutation ($backfill: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfill) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


def test_a_window_is_backfilled_for_chosen_connections(workspace: Workspace, kinto: Kinto) -> None:
    """What the dialog sends with its section *Config* filled in."""
    package = "mappings/universal/packages/contacts.yaml"
    workspace.replace(package, "schedule: {every_minutes: 15}", "schedule: null")
    tenants = [Tenant(kinto, name) for name in ("window_a", "window_b", "window_c")]
    for tenant in tenants:
        tenant.write(person(n) for n in range(3))
        workspace.connect(tenant.connection)
    chosen = [tenant.connection.key for tenant in tenants[:2]]
    config = {"mode": "window", "since": "2020-01-01T00:00:00Z"}
    with DevServer(workspace.root) as server:
        wait_for("partitions", lambda: len(server.partitions("kinto/contacts")) == 3, seconds=40)
        params = {
            "assetSelection": [{"path": ["kinto", "contacts"]}],
            "partitionNames": chosen,
            "runConfigData": {"ops": {"kinto__contacts": {"config": config}}},
        }
        launched = server.ask(BACKFILL, backfill=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        wait_for(
            "both to be read",
            lambda: all(statuses(server, connection) == ["SUCCESS"] for connection in chosen),
            seconds=90,
        )
        assert statuses(server, tenants[2].connection.key) == []
    for tenant in tenants[:2]:
        assert workspace.records(tenant.connection.key) == tenant.truth()
        cursors = workspace.select(
            tenant.connection.key, "SELECT * FROM cursors WHERE stream = 'contacts'"
        )
        assert cursors == [], "a window never makes a cursor"


def show_graph(server: DevServer, page: Page, shots: Path) -> None:
    page.goto(graph_url(server.url, NODES))
    for integration, names in NODES.items():
        expect(page.get_by_text(integration, exact=True).first).to_be_visible()
        for name in names:
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("contacts_mapped", exact=True)).to_have_count(2)
    page.screenshot(path=shots / "graph.png")


def launch_backfill(page: Page, url: str, partitions: list[str]) -> None:
    """Materialize all partitions by clicking, on an asset's or a job's page."""
    page.goto(url)
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog.get_by_text(f"{len(partitions)} partitions")).to_be_visible()
    for partition in partitions:
        expect(dialog.get_by_text(partition, exact=True).first).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()


def show_success(server: DevServer, page: Page, shots: Path) -> None:
    last = max(server.runs(), key=lambda run: run["endTime"])
    page.goto(f"{server.url}/runs/{last['runId']}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    expect(page.get_by_text("RUN_SUCCESS", exact=True).first).to_be_visible()
    page.screenshot(path=shots / "run.png")

    page.goto(f"{server.url}/assets/kinto/contacts_delivered?view=partitions&partition=acme_kinto")
    expect(page.get_by_text("Materialized (2)")).to_be_visible()
    expect(page.get_by_text("dagster/partition_row_count")).to_be_visible()
    page.screenshot(path=shots / "partition.png")

    page.goto(graph_url(server.url, NODES))
    expect(page.get_by_text("100% filled").first).to_be_visible()
    expect(page.get_by_text("2 / 2 Passed").first).to_be_visible()
    page.screenshot(path=shots / "graph_after.png")


def is_of(run: dict[str, Any], connection: str) -> bool:
    return bool(run["tags"].get("dagster/partition") == connection)


def statuses(server: DevServer, connection: str) -> list[str]:
    return sorted(run["status"] for run in server.runs() if is_of(run, connection))


def left_behind(root: Path) -> list[str]:
    """Processes that still run in the project."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if process.info["cwd"] == str(root):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found
