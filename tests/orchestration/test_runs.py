"""Runs of the jobs against a real Kinto, in this process: numbers, layers, secrecy, trouble."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.pocketbase import PocketBase, record_id
from membrane_sync.apps.process import free_port
from membrane_sync.errors import RateLimited
from membrane_sync.orchestration import failures, progress
from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.ports import ConnectionRecord, Override
from tests.end_to_end.helpers import (
    Tenant,
    Workspace,
    expected_person,
    fields_of,
    person,
    pocketbase_connection,
)
from tests.orchestration.helpers import (
    due_rows,
    evaluate_due,
    every_byte,
    failure,
    items_due,
    log_of,
    numbers,
    run_job,
)

MARKER = "Marker7Q4"


@pytest.fixture
def tenant(kinto: Kinto) -> Tenant:
    return Tenant(kinto)


class TestNumbers:
    def test_each_kind_of_run_reports_what_it_did(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        tenant.write(person(n) for n in range(1_200))
        connection = workspace.connect(tenant.connection)

        first = numbers(run_job(workspace, instance, connection))
        everything = {"dagster/partition_row_count": 1_200}
        read = {"requests": 2, "pages": 2, "mode": "incremental"}
        assert first == {
            "contacts": {**everything, **read, "pulled": 1_200, "created": 1_200},
            "contacts_mapped": {**everything, "mapped": 1_200},
            "contacts_delivered": {**everything, "delivered": 1_200, "linked": 1_200},
        }

        tenant.write([person(5_000)])
        tenant.update([{"id": "c00001", "phone": "+1"}, {"id": "c00002", "score": "many"}])
        tenant.delete(["c00003", "c00004"])
        second = numbers(run_job(workspace, instance, connection))
        # A score that is no number is kept as it came, and said so; its contact stays a lead.
        counts = {"pulled": 5, "created": 1, "updated": 2, "deleted": 2, "failed": 1}
        asked = {"requests": 1, "pages": 1, "mode": "incremental"}
        left = {"dagster/partition_row_count": 1_199}
        assert second["contacts"] == {**left, **asked, **counts}
        assert second["contacts_mapped"] == {**left, "mapped": 2}
        assert second["contacts_delivered"] == {
            **left,
            **{"delivered": 2, "removed": 2, "linked": 1, "unlinked": 2},
        }

        again = numbers(run_job(workspace, instance, connection))
        assert again == {
            "contacts": {**left, **asked},
            "contacts_mapped": left,
            "contacts_delivered": left,
        }

        full = numbers(run_job(workspace, instance, connection, mode="full"))
        assert full["contacts"]["mode"] == "full"
        # The two deleted ones come as tombstones.
        assert full["contacts"]["pulled"] == full["contacts"]["unchanged"] == 1_201
        assert full["contacts"].keys().isdisjoint({"created", "updated", "deleted"})
        assert full["contacts_delivered"] == again["contacts_delivered"]

    def test_cursors_of_one_run_meet_those_of_the_next(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        connection = workspace.connect(tenant.connection)
        cursors = []
        for n in range(2):
            tenant.write([person(n)])
            result = run_job(workspace, instance, connection)
            metadata = result.asset_materializations_for_node("kinto__contacts")[0].metadata
            cursors.append((metadata["cursor_from"].value, metadata["cursor_to"].value))
        assert cursors[0][0] == "none"
        assert cursors[0][1] == cursors[1][0] != cursors[1][1]

    def test_a_window_is_read_again_and_the_cursor_stays(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        tenant.write(person(n) for n in range(3))
        middle = _after_all(tenant)
        tenant.write(person(n) for n in range(3, 5))
        connection = workspace.connect(tenant.connection)
        run_job(workspace, instance, connection)
        cursor = workspace.lake_cursor(connection)
        tenant.write([person(5)])

        end = _after_all(tenant, later=60_000)
        window = run_job(workspace, instance, connection, mode="window", since=middle, until=end)
        found = numbers(window)["contacts"]
        assert (found["mode"], found["since"], found["until"]) == ("window", middle, end)
        assert (found["pulled"], found["created"], found["unchanged"]) == (3, 1, 2)
        assert workspace.lake_cursor(connection) == cursor
        assert len(workspace.rows()) == 6, "what the window brought is delivered, too"
        before = run_job(workspace, instance, connection, mode="window", until=middle)
        assert numbers(before)["contacts"]["pulled"] == 3

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"mode": "window"}, "a window needs a bound"),
            ({"mode": "window", "since": "yesterday"}, "since is no time: 'yesterday'"),
            ({"mode": "window", "until": "2026-01-31T00:00:00"}, "until names no time zone"),
            (
                {"mode": "window", "since": "2026-02-01T00:00Z", "until": "2026-02-01T01:00+01:00"},
                "the window is empty",
            ),
            ({"since": "2026-02-01T00:00Z"}, "since and until go with mode window"),
        ],
    )
    def test_a_window_that_makes_no_sense_reads_nothing(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        tenant: Tenant,
        config: dict[str, str],
        said: str,
    ) -> None:
        connection = workspace.connect(tenant.connection)
        before = tenant.requests()
        result = run_job(workspace, instance, connection, **config)
        assert said in failure(result)
        assert tenant.requests() == before

    def test_a_collection_without_times_has_no_window(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        path = "connectors/kinto/data_collections/contacts.yaml"
        workspace.replace(path, "    granularity: millisecond\n", "")
        connection = workspace.connect(tenant.connection)
        result = run_job(workspace, instance, connection, mode="window", since="2026-02-01T00:00Z")
        assert "collection 'contacts' has no window to read" in failure(result)

    def test_the_run_says_where_it_stands_while_it_waits(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        tenant: Tenant,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.02)
        tenant.write(person(n) for n in range(1_500))
        connection = workspace.connect(tenant.connection)
        result = run_job(workspace, instance, connection)
        said = [
            entry.user_message
            for entry in instance.all_logs(result.run_id)
            if entry.user_message.startswith(f"{connection}: ")
        ]
        assert len(said) > 6
        pulled = f"{connection}: pull: requests 2, pages 2, pulled 1,500, created 1,500, "
        assert any(re.fullmatch(re.escape(pulled) + r"[\d,]+ rows/s", line) for line in said)
        assert f"{connection}: map: mapped 1,500" in said
        assert said[-1] == f"{connection}: deliver: delivered 1,500, linked 1,500"

        monkeypatch.setattr(progress, "PROGRESS_SECONDS", 10.0)
        result = run_job(workspace, instance, connection)
        log = log_of(instance, result.run_id)
        assert f"{connection}: map: nothing new" in log
        assert log.count(f"{connection}: pull: ") == 1

    def test_a_run_that_waits_for_the_connection_says_so_and_then_for_whom(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        tenant: Tenant,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.02)
        monkeypatch.setattr(failures, "RETRIES", 0)
        monkeypatch.setenv("MEMBRANE_LOCK_WAIT_SECONDS", "1")
        connection = workspace.connect(tenant.connection)
        with workspace.runtime.connect(connection, what="a backfill"):
            result = run_job(workspace, instance, connection)
        assert "(a backfill, since" in failure(result)
        log = log_of(instance, result.run_id)
        assert f"{connection}: pull: {progress.WAITS}" in log
        assert "nothing new" not in log

    def test_the_ledger_has_one_run_of_all_three_stages(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        tenant.write([person(1), person(2)])
        result = run_job(workspace, instance, workspace.connect(tenant.connection))
        (run,) = workspace.runtime.ledger.runs.newest()
        assert run.id == result.run_id and run.finished_at is not None and run.report is not None
        assert (run.report.created, run.report.mapped, run.report.delivered) == (2, 2, 2)

    def test_what_a_mapping_loses_is_counted_or_named(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        package = "mappings/universal/packages/contacts.yaml"
        workspace.replace(package, "phone: {type: string}", "phone: {type: string, readOnly: true}")
        workspace.replace(package, "city: {type: string}", "city: {type: integer}")
        cities: list[Any] = ["Bern", "Rome", "Oslo", 5]
        tenant.write(person(n, address={"city": city}) for n, city in enumerate(cities))
        connection = workspace.connect(tenant.connection)
        result = run_job(workspace, instance, connection)
        counted = numbers(result)
        assert counted["contacts_mapped"]["failed"] == 3
        assert counted["contacts_mapped"]["mapped"] == 1
        assert counted["contacts_mapped"]["dropped_fields"] == ["phone"]
        assert "dropped_fields" not in counted["contacts_delivered"]
        log = log_of(instance, result.run_id)
        assert f"{connection}: map: dropped fields that the data schema doesn't take: phone" in log
        (run,) = workspace.runtime.ledger.runs.newest()
        assert run.report is not None and run.report.dropped_fields == ["phone"]
        letters = workspace.dead_letters(connection)
        assert {letter["field"] for letter in letters} == {"city"}
        assert {letter["external_id"] for letter in letters} == {"c00000", "c00001", "c00002"}
        assert letters[0]["formula"] == '{"$var": "$.address.city"}'
        assert "should be integer" in letters[0]["reason"] and letters[0]["value"]

    def test_a_schema_that_refers_to_another_shapes_values_and_columns(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        package = "mappings/universal/packages/contacts.yaml"
        workspace.replace(package, "city: {type: string}", "city: {$ref: schemas/places}")
        place = "mappings/universal/data_schemas/places.yaml"
        workspace.write(place, "schema: {type: integer, maximum: 5}\n")
        tenant.write([person(1, address={"city": "5"}), person(2, address={"city": "6"})])
        connection = workspace.connect(tenant.connection)
        mapped = numbers(run_job(workspace, instance, connection))["contacts_mapped"]
        assert (mapped["mapped"], mapped["failed"]) == (1, 1)
        (row,) = workspace.rows()
        assert row["city"] == 5, "the table has the column's type"
        workspace.write(place, "schema: {type: integer, maximum: 6}\n")
        mapped = numbers(run_job(workspace, instance, connection))["contacts_mapped"]
        assert mapped["mapped"] == 1, "another schema maps all again"


def _after_all(tenant: Tenant, later: int = 1) -> str:
    """A moment after all that the app has, by its own clock, as a person writes it."""
    last = max(record["last_modified"] for record in tenant.truth().values())
    return datetime.fromtimestamp((last + later) / 1_000, UTC).isoformat()


class TestLayers:
    def test_a_connection_with_an_override_is_mapped_its_own_way(
        self, workspace: Workspace, instance: dg.DagsterInstance, kinto: Kinto
    ) -> None:
        plain, special = Tenant(kinto), Tenant(kinto)
        for tenant in (plain, special):
            tenant.write([person(1)])
            workspace.connect(tenant.connection)
        key = special.connection.key
        workspace.write(
            f"mappings/connections/{key}/connection.yaml",
            f"integration: kinto\ntenant: {special.name}\n",
        )
        workspace.write(
            f"mappings/connections/{key}/field_mappings/contacts.yaml",
            "import_value: {city: {$concat: [{$var: $.address.city}, ' (HQ)']}}\n",
        )
        for tenant in (plain, special):
            assert run_job(workspace, instance, tenant.connection.key).success
        usual = expected_person(person(1))
        assert fields_of(workspace.delivered(plain.connection.key)) == {"c00001": usual}
        assert fields_of(workspace.delivered(key)) == {
            "c00001": {**usual, "city": f"{usual['city']} (HQ)"}
        }

    def test_one_sync_is_offered_by_two_integrations(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        tenant: Tenant,
        pocketbase: PocketBase,
    ) -> None:
        tenant.write([person(1)])
        pocketbase.create_contacts_collection()
        record = {"id": record_id(1), "email": "ada@example.org", "name": "Ada Lovelace"}
        pocketbase.write("contacts", [record])
        ours = workspace.connect(tenant.connection)
        theirs = workspace.connect(pocketbase_connection(pocketbase))
        assert run_job(workspace, instance, ours).success
        assert run_job(workspace, instance, theirs, job="sync_pocketbase_contacts").success
        names = {row["connection"]: row["full_name"] for row in workspace.rows()}
        assert names[theirs] == "Ada Lovelace" and names[ours].startswith("Åsa 1")

    def test_two_syncs_of_one_source_share_its_asset(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        workspace.write(
            "mappings/universal/packages/newsletter.yaml",
            """
data_schemas:
  readers:
    schema: {type: object, properties: {email: {type: string}}, required: [email]}
    table: {name: readers, key: id, connection_column: connection, create: true}
field_mappings:
  readers:
    data_source: contacts
    data_schema: readers
    direction: import
    import_value: {email: {$var: $.email}}
data_link_tables:
  readers: {}
syncs:
  readers: {field_mapping: readers, data_link_table: readers}
""",
        )
        specs = build_definitions(workspace.root).resolve_all_asset_specs()
        keys = [spec.key.path for spec in specs if spec.group_name == "kinto"]
        assert keys.count(["kinto", "contacts"]) == 1

        tenant.write([person(1)])
        connection = workspace.connect(tenant.connection)
        first = run_job(workspace, instance, connection, job="sync_kinto_readers")
        assert numbers(first)["contacts"]["created"] == 1
        assert [row["email"] for row in workspace.rows("readers")] == ["person1@example.org"]
        # The run is the readers', its pull included.
        (run,) = workspace.runtime.ledger.runs.newest()
        assert run.sync == "readers" and run.report is not None and run.report.created == 1

        second = numbers(run_job(workspace, instance, connection))
        assert "created" not in second["contacts"] and second["contacts_mapped"]["mapped"] == 1

    def test_a_connection_for_which_the_sync_is_disabled_is_not_scheduled(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        connection = workspace.connect(tenant.connection)
        workspace.write(
            f"mappings/connections/{connection}/connection.yaml",
            f"integration: kinto\ntenant: {tenant.name}\n",
        )
        workspace.write(f"mappings/connections/{connection}/syncs/contacts.yaml", "enabled: false")
        result = run_job(workspace, instance, connection)
        assert "disabled" in failure(result) and "takes part in: companies" in failure(result)
        evaluate_due(workspace, instance)
        planned = [item.sync for item in items_due(workspace)]
        assert planned == ["companies"]

    def test_a_run_may_be_of_another_instance(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        tenant.write([person(1)])
        connection = workspace.connect(tenant.connection)
        path = ("import_value", "city")
        own = Override(connection, "field_mapping", "contacts", path, "HQ", instance_key="emea")
        workspace.runtime.ledger.overrides.keep(connection, [own])
        for name in ("", "contacts@emea"):
            found = numbers(run_job(workspace, instance, connection, sync=name))
            assert found["contacts_delivered"]["delivered"] == 1
        assert sorted(row["city"] == "HQ" for row in workspace.rows()) == [False, True]

    def test_a_sync_that_an_override_disables_is_not_scheduled(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        connection = workspace.connect(tenant.connection)
        assert not isinstance(evaluate_due(workspace, instance), str)
        off = Override(connection, "sync", "contacts", ("enabled",), False)
        workspace.runtime.ledger.overrides.keep(connection, [off])
        evaluate_due(workspace, instance)
        assert (connection, "contacts") not in due_rows(workspace)


class TestSecrecy:
    def test_no_value_and_no_secret_gets_into_dagster(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        dagster_home: Path,
        tenant: Tenant,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        password = tenant.account.password
        fine = {"email": f"{MARKER}@example.org", "first_name": MARKER}
        tenant.write(
            [
                person(1, **fine),
                person(2, score=f"not a number {MARKER}"),
                person(3, email=None, last_name=MARKER),
                person(4, signed_up=f"never {MARKER}"),
                person(5, address=MARKER),
            ]
        )
        connection = workspace.connect(tenant.connection)
        counted = numbers(run_job(workspace, instance, connection))
        assert counted["contacts_mapped"]["failed"] >= 1
        numbers(run_job(workspace, instance, connection, mode="full"))

        def choke(*_: Any, **__: Any) -> None:
            raise ValueError(f"can't take {MARKER} with {password}")

        monkeypatch.setattr("membrane_sync.sync.run.map_stream", choke)
        result = run_job(workspace, instance, connection)
        said = failure(result)
        assert "ValueError in run.py:" in said and "membrane status" in said
        (run,) = workspace.runtime.ledger.runs.newest()
        assert MARKER in run.error

        wrong = {"username": tenant.name, "password": f"{password}-wrong"}
        workspace.connect(
            ConnectionRecord(connection, "kinto", tenant.name, "", tenant.connection.input, wrong)
        )
        failure(run_job(workspace, instance, connection))

        runs = instance.get_runs()
        assert len(runs) == 4
        for text in (MARKER, password):
            assert text not in "".join(log_of(instance, run.run_id) for run in runs)
            assert text.encode() not in every_byte(dagster_home)
        assert tenant.name.encode() in every_byte(dagster_home), "the search finds what is there"


class TestTrouble:
    def test_a_wrong_password_fails_at_once_and_says_what_to_do(
        self, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
    ) -> None:
        right = tenant.connection
        wrong = {"username": tenant.name, "password": "no"}
        connection = workspace.connect(
            ConnectionRecord(right.key, "kinto", right.tenant, "", right.input, wrong)
        )
        asked = tenant.requests()
        result = run_job(workspace, instance, connection)
        assert "membrane connect" in failure(result) and "401" in failure(result)
        assert tenant.requests() - asked == 1
        assert not [event for event in result.all_events if event.is_step_up_for_retry]
        assert numbers_of_successes(result) == []

    def test_an_app_that_is_down_is_tried_again(
        self,
        workspace: Workspace,
        instance: dg.DagsterInstance,
        tenant: Tenant,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(failures, "RETRY_SECONDS", 0.01)
        monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
        right = tenant.connection
        nowhere = {**right.input, "url": f"http://127.0.0.1:{free_port()}/v1"}
        connection = workspace.connect(
            ConnectionRecord(right.key, "kinto", right.tenant, "", nowhere, right.credentials)
        )
        result = run_job(workspace, instance, connection)
        retries = [event for event in result.all_events if event.is_step_up_for_retry]
        assert len(retries) == failures.RETRIES
        assert "can't be reached" in failure(result)
        assert "Trying again in 0.01 s" in log_of(instance, result.run_id)

    @pytest.mark.parametrize(("asked", "waits"), [(None, 15), (3, 15), (40, 40), (7_200, None)])
    def test_a_rate_limit_is_waited_out_if_it_ends_soon(
        self, asked: float | None, waits: float | None
    ) -> None:
        expected = dg.Failure if waits is None else dg.RetryRequested
        log = SimpleNamespace(warning=print)
        context: Any = SimpleNamespace(retry_number=0, log=log)
        with pytest.raises(expected) as caught, failures.failures(context):
            raise RateLimited("slow down", retry_after=asked)
        if isinstance(caught.value, dg.RetryRequested):
            assert (caught.value.seconds_to_wait, caught.value.max_retries) == (waits, 2)

    def test_a_connection_that_is_not_in_the_ledger_writes_nothing(
        self, workspace: Workspace, instance: dg.DagsterInstance
    ) -> None:
        result = run_job(workspace, instance, "nobody_kinto")
        assert "there is no connection 'nobody_kinto'" in failure(result)
        assert "membrane connect" in failure(result)
        assert workspace.runtime.ledger.runs.newest() == []
        written = {path.suffix for path in workspace.data.rglob("*") if path.is_file()}
        assert ".duckdb" not in written and not (workspace.data / "app.db").exists()

    def test_a_full_run_that_would_delete_most_of_it_deletes_nothing(
        self, workspace: Workspace, instance: dg.DagsterInstance, pocketbase: PocketBase
    ) -> None:
        pocketbase.create_contacts_collection()
        ids = [record_id(n) for n in range(9_000, 9_020)]
        pocketbase.write("contacts", [{"id": key, "email": f"{key}@example.org"} for key in ids])
        connection = workspace.connect(pocketbase_connection(pocketbase))
        job = "sync_pocketbase_contacts"
        before = numbers(run_job(workspace, instance, connection, job=job))["contacts"]
        everything = [record["id"] for record in pocketbase.list("contacts")]
        pocketbase.delete("contacts", everything)
        result = run_job(workspace, instance, connection, job=job, mode="full")
        assert "nothing was deleted" in failure(result)
        assert len(workspace.rows()) == before["created"] == len(everything)

        def full(*allowed: str, mode: str = "full") -> dg.ExecuteInProcessResult:
            return run_job(
                workspace, instance, connection, job=job, mode=mode, allow_deletions=allowed
            )

        assert "allow_deletions: [KEY" in failure(full("another"))
        assert "goes with mode full" in failure(full(connection, mode="incremental"))
        assert len(workspace.rows()) == len(everything)
        allowed = numbers(full("another", connection))
        assert allowed["contacts"]["deleted"] == len(everything)
        assert allowed["contacts"]["allow_deletions"] is True
        assert workspace.rows() == []


def numbers_of_successes(result: dg.ExecuteInProcessResult) -> Sequence[Any]:
    return [event for event in result.all_events if event.is_step_success]
