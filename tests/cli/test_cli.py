"""The commands as a person or a script meets them: words, JSON and exit codes."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from membrane_sync.apps.kinto import Account, Kinto
from membrane_sync.cli.main import app
from membrane_sync.cli.output import Exit, failures
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.masking import Mask

PASSWORD = "planted-secret-4711"


class Cli:
    """Runs commands in one project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runner = CliRunner()

    def __call__(self, *arguments: str, **environment: str) -> Result:
        options = {"MEMBRANE_PROJECT": str(self.root), **environment}
        return self.runner.invoke(app, list(arguments), env=options)

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == Exit.DONE, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    scaffold(tmp_path / "crm")
    return Cli(tmp_path / "crm")


@pytest.fixture
def account(kinto: Kinto, tmp_path: Path) -> Account:
    name = f"cli{abs(hash(tmp_path)) % 10**8}"
    account = kinto.create_account(name, PASSWORD)
    kinto.create_bucket(account, name)
    for collection in ("contacts", "companies"):
        kinto.create_collection(account, name, collection)
    people = [{"id": f"p{n}", "email": f"p{n}@x.example", "first_name": "Ada"} for n in range(30)]
    kinto.write(account, name, "contacts", people)
    return account


@pytest.fixture
def connected(cli: Cli, kinto: Kinto, account: Account) -> Cli:
    result = connect(cli, kinto, account)
    assert result.exit_code == Exit.DONE, result.output
    return cli


def connect(
    cli: Cli,
    kinto: Kinto,
    account: Account,
    password: str = PASSWORD,
    *,
    same_account: bool = False,
) -> Result:
    return cli(
        "connect",
        "kinto",
        "--tenant=acme",
        f"--set=url={kinto.url}",
        f"--set=bucket={account.user}",
        f"--credential=username={account.user}",
        "--credential=password=env:KINTO_PASSWORD",
        *(["--same-account"] if same_account else []),
        KINTO_PASSWORD=password,
    )


def test_init_makes_a_project_that_is_correct(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "shop")
    result = cli("init", str(cli.root))
    assert result.exit_code == Exit.DONE
    assert "mappings/universal/packages/contacts.yaml" in result.stdout
    assert cli("check").exit_code == Exit.DONE


def test_init_leaves_a_folder_that_is_in_use_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = Cli(tmp_path)("init", str(tmp_path))
    assert result.exit_code == Exit.FAILED
    assert "not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_check_names_file_and_line(cli: Cli) -> None:
    file = cli.root / "mappings" / "universal" / "syncs" / "people.yaml"
    file.parent.mkdir()
    file.write_text("field_mapping: contcats\ndata_link_table: contacts\n")
    result = cli("check")
    assert result.exit_code == Exit.PROJECT
    assert "mappings/universal/syncs/people.yaml:1" in result.stderr
    assert "did you mean 'contacts'?" in result.stderr
    problems = json.loads(cli("check", "--json").stdout)["problems"]
    assert [(p["file"], p["line"]) for p in problems] == [
        ("mappings/universal/syncs/people.yaml", 1)
    ]


def test_a_broken_project_stops_every_command_that_runs(cli: Cli) -> None:
    (cli.root / "mappings" / "universal" / "packages" / "contacts.yaml").write_text("syncs: [1]\n")
    for command in (["sync"], ["status"], ["records", "-c", "x"], ["dev"]):
        assert cli(*command).exit_code == Exit.PROJECT, command


def test_outside_of_a_project(tmp_path: Path) -> None:
    result = Cli(tmp_path)("check")
    assert result.exit_code == Exit.FAILED
    assert "membrane init" in result.stderr


def test_explain_shows_where_each_value_is_from(cli: Cli) -> None:
    folder = cli.root / "mappings" / "connections" / "acme_kinto"
    (folder / "field_mappings").mkdir(parents=True)
    (folder / "connection.yaml").write_text("integration: kinto\ntenant: acme\n")
    (folder / "field_mappings" / "contacts.yaml").write_text(
        "import_value:\n  city: {$var: $.address.town}\n"
    )
    leaves = cli.json("explain", "field_mapping", "contacts", "--connection", "acme_kinto")
    by_path = {leaf["path"]: leaf for leaf in leaves}
    assert by_path["import_value.city"]["layer"] == "connection"
    assert by_path["import_value.city"]["value"] == {"$var": "$.address.town"}
    assert by_path["import_value.city"]["file"].endswith("acme_kinto/field_mappings/contacts.yaml")
    assert by_path["import_value.city"]["line"] == 2
    assert by_path["import_value.email"]["layer"] == "universal"
    table = cli("explain", "field_mapping", "contacts", "--connection", "acme_kinto")
    assert "import_value.city" in table.stdout
    assert cli("explain", "field_mapping", "contcats").exit_code == Exit.FAILED


def test_schema_of_one_and_of_all_kinds(cli: Cli, tmp_path: Path) -> None:
    schema = json.loads(cli("schema", "field_mapping").stdout)
    assert "import_value" in schema["$defs"]["FieldMapping"]["properties"]
    result = cli("schema", "--output", str(tmp_path / "schemas"))
    assert result.exit_code == Exit.DONE
    assert (tmp_path / "schemas" / "data_collection.schema.json").exists()
    assert cli("schema", "feild_mapping").exit_code == Exit.FAILED


def test_connect_proves_the_credentials_first(cli: Cli, kinto: Kinto, account: Account) -> None:
    result = connect(cli, kinto, account, password="wrong-" + PASSWORD)
    assert result.exit_code == Exit.FAILED
    assert "the app refused the credentials: kinto: GET " in result.stderr
    assert "401" in result.stderr and "connectors/kinto/connector.yaml" in result.stderr
    assert PASSWORD not in result.output
    assert "No connection yet" in cli("status").stdout
    assert connect(cli, kinto, account).exit_code == Exit.DONE


def test_connect_says_what_is_missing_or_misspelt(cli: Cli) -> None:
    result = cli("connect", "kinto", "--tenant=acme", "--set=ulr=http://x")
    assert result.exit_code == Exit.FAILED
    assert "did you mean 'url'?" in result.stderr
    result = cli("connect", "kinto", "--tenant=acme", "--set=url=http://x")
    assert result.exit_code == Exit.FAILED
    assert "--set bucket=" in result.stderr
    assert cli("connect", "kinot", "--tenant=acme").exit_code == Exit.FAILED
    assert cli("connect", "kinto").exit_code == Exit.USAGE


def test_credentials_are_not_stored_in_the_clear(connected: Cli) -> None:
    found = [
        path
        for path in (connected.root / ".membrane").rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]
    assert found == []


def test_sync_then_nothing_changed(connected: Cli) -> None:
    first = connected("sync")
    assert first.exit_code == Exit.DONE, first.output
    assert "30" in first.stdout
    second = connected("sync")
    assert second.exit_code == Exit.DONE
    assert "Nothing changed: 2 requests, 0 rows written." in second.stdout
    reports = connected.json("sync")["reports"]
    assert {report["sync"]: report["requests"] for report in reports} == {
        "companies": 1,
        "contacts": 1,
    }


def test_pull_goes_no_further_than_the_lake(connected: Cli) -> None:
    [report] = connected.json("pull", "contacts", "--connection=acme_kinto")["reports"]
    assert (report["pulled"], report["created"], report["mapped"]) == (30, 30, 0)
    [report] = connected.json("sync", "contacts", "--connection=acme_kinto")["reports"]
    assert (report["pulled"], report["mapped"], report["delivered"]) == (0, 30, 30)


def test_full_reads_everything_again(connected: Cli) -> None:
    connected("sync", "contacts")
    [report] = connected.json("sync", "contacts", "--full")["reports"]
    assert (report["pulled"], report["unchanged"], report["delivered"]) == (30, 30, 0)


def test_a_refused_scan_may_be_allowed_for_once(
    connected: Cli, kinto: Kinto, account: Account
) -> None:
    declared = connected.root / "connectors/kinto/data_collections/contacts.yaml"
    text = declared.read_text(encoding="utf-8")
    # Without _since, Kinto shows no tombstones.
    text = text.replace(
        "_since: {$firstNotEmpty: [{$var: $.cursor}, 0]}", "_since: {$var: $.cursor}"
    )
    text = text.replace("tombstone: {$var: $.deleted}", "full_scan: true")
    declared.write_text(text, encoding="utf-8")
    connected("sync", "contacts")
    kinto.delete(account, account.user, "contacts", [f"p{n}" for n in range(20)])
    one = ("sync", "contacts", "--connection=acme_kinto", "--full")
    refused = connected(*one)
    assert refused.exit_code == Exit.FAILED
    assert "--allow-deletions" in refused.output, refused.output
    assert "is for the full scan of one sync" in connected("sync", "--allow-deletions").output
    [report] = connected.json(*one, "--allow-deletions")["reports"]
    assert (report["deleted"], report["removed"]) == (20, 20)


def test_backfill_reads_a_window_and_leaves_the_cursor(
    connected: Cli, kinto: Kinto, account: Account
) -> None:
    connected("sync")
    late = [{"id": "late", "email": "late@x.example"}]
    kinto.write(account, account.user, "contacts", late)
    window = ("backfill", "acme_kinto", "--sync", "contacts", "--since", "2020-01-01T00:00Z")
    (report,) = connected.json(*window)["reports"]
    assert (report["pulled"], report["created"], report["delivered"]) == (31, 1, 1)
    (report,) = connected.json(*window, "--until", "2020-01-02T00:00Z")["reports"]
    assert report["pulled"] == 0
    (report,) = connected.json("sync", "contacts")["reports"]
    assert (report["pulled"], report["unchanged"]) == (1, 1), "the cursor had stayed"
    for wrong in ("soon", "2020-01-01"):
        result = connected("backfill", "acme_kinto", "--sync", "contacts", "--since", wrong)
        assert result.exit_code == Exit.FAILED
        assert "write it as 2026-01-31T00:00:00Z" in result.output


def test_status_records_links(connected: Cli) -> None:
    connected("sync")
    rows = {row["sync"]: row for row in connected.json("status")}
    assert rows["contacts"]["records"] == 30
    assert rows["contacts"]["links"] == 30
    assert rows["contacts"]["result"] == "30 created, 30 mapped, 30 delivered"
    assert "acme_kinto" in connected("status").stdout
    streams = connected.json("records", "--connection=acme_kinto")
    assert {"collection": "contacts", "records": 30, "deleted": 0} in streams
    shown = connected.json("records", "contacts", "--connection=acme_kinto", "--limit=3")
    assert len(shown) == 3
    assert shown[0]["email"].endswith("@x.example")
    query = "SELECT count(*) AS n FROM mapped.contacts"
    assert connected.json("records", "-c", "acme_kinto", "--sql", query) == [{"n": 30}]
    links = connected.json("links", "contacts", "--connection=acme_kinto", "--limit=2")
    assert len(links) == 2
    assert links[0]["external_id"] == "p0"
    assert "30 links" in connected("links", "-c", "acme_kinto").stdout


def test_records_can_only_be_looked_at(connected: Cli) -> None:
    connected("sync", "contacts")
    result = connected("records", "-c", "acme_kinto", "--sql", "DELETE FROM records.contacts")
    assert result.exit_code != Exit.DONE
    [row] = connected.json(
        "records", "-c", "acme_kinto", "--sql", "SELECT count(*) AS n FROM records.contacts"
    )
    assert row == {"n": 30}


def test_dead_letters_and_their_exit_code(connected: Cli, kinto: Kinto, account: Account) -> None:
    kinto.write(account, account.user, "contacts", [{"id": "bad", "first_name": "No email"}])
    result = connected("sync", "contacts")
    assert result.exit_code == Exit.SOME_FAILED
    assert "1 failed" in result.stdout
    assert "membrane dead-letters --connection acme_kinto" in result.stdout
    [letter] = connected.json("dead-letters", "--connection=acme_kinto")
    assert (letter["external_id"], letter["field"], letter["verb"]) == ("bad", "email", "map")
    assert "required" in letter["reason"]
    assert "required" in connected("dead-letters", "-c", "acme_kinto").stdout
    kinto.write(account, account.user, "contacts", [{"id": "bad", "email": "now@x.example"}])
    assert connected("sync", "contacts").exit_code == Exit.DONE
    assert connected.json("dead-letters", "--connection=acme_kinto") == []


def test_unknown_names_say_which_there_are(connected: Cli) -> None:
    assert "acme_kinto" in connected("status").stdout
    for command in (
        ["sync", "contcats"],
        ["sync", "--connection=acme_kitno"],
        ["records", "contcats", "-c", "acme_kinto"],
        ["links", "-c", "nobody"],
    ):
        result = connected(*command)
        assert result.exit_code == Exit.FAILED, command
        assert "→" in result.stderr, command
    error = json.loads(connected("sync", "contcats", "--json").stdout)["error"]
    assert error["code"] == "not_found"


def test_an_app_that_is_down_means_later(connected: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membrane_sync.clients.retrying.ATTEMPTS", 1)
    record_input = f"--set=url=http://127.0.0.1:9/v1"  # noqa: F541
    result = connected(
        "connect",
        "kinto",
        "--tenant=gone",
        "--no-test",
        record_input,
        "--set=bucket=b",
        "--credential=username=u",
        "--credential=password=p",
    )
    assert result.exit_code == Exit.DONE
    result = connected("sync", "contacts", "--connection=gone_kinto")
    assert result.exit_code == Exit.LATER
    assert "can't be reached" in result.stderr
    assert "✗ gone_kinto contacts" in result.stderr and "Nothing changed" not in result.stdout


def test_one_failing_connection_does_not_hold_up_the_others(
    connected: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_an_app_that_is_down_means_later(connected, monkeypatch)
    result = connected("sync", "contacts", "--json")
    reports = {r["connection"]: r for r in json.loads(result.stdout)["reports"]}
    assert reports["acme_kinto"]["delivered"] == 30
    assert result.exit_code == Exit.LATER


def test_the_lake_of_an_earlier_connection_is_not_handed_on(
    connected: Cli, kinto: Kinto, account: Account
) -> None:
    connected("sync")
    assert connected("disconnect", "acme_kinto").exit_code == Exit.DONE
    result = no_test(connected, "--tenant=globex", "--key=acme_kinto", *ACCOUNT)
    assert result.exit_code == Exit.FAILED
    assert "records of an earlier connection" in result.stderr
    assert connect(connected, kinto, account).exit_code == Exit.FAILED
    assert connect(connected, kinto, account, same_account=True).exit_code == Exit.DONE
    assert "Nothing changed" in connected("sync").stdout


def test_disconnect_forgets_the_credentials(connected: Cli) -> None:
    assert connected("disconnect", "acme_kinto").exit_code == Exit.DONE
    assert "No connection yet" in connected("status").stdout
    assert connected("disconnect", "acme_kinto").exit_code == Exit.FAILED


def test_help_starts_fast_enough_to_be_used() -> None:
    code = "import sys; from membrane_sync.cli.main import app; print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def no_test(cli: Cli, *arguments: str) -> Result:
    """Connect an account of an app that isn't there."""
    options = ["--no-test", "--credential=username=u", "--credential=password=p"]
    return cli("connect", "kinto", *options, *arguments)


ACCOUNT = ("--set=url=http://127.0.0.1:9/v1", "--set=bucket=b")


def test_a_key_is_never_given_to_another_tenant(cli: Cli) -> None:
    assert no_test(cli, "--tenant=acme", "--key=main", *ACCOUNT).exit_code == Exit.DONE
    result = no_test(cli, "--tenant=globex", "--key=main", *ACCOUNT)
    assert result.exit_code == Exit.FAILED
    assert "connection 'main' is tenant 'acme''s" in result.stderr
    assert "another --key" in result.stderr
    result = no_test(cli, "--tenant=acme", "--key=Main", *ACCOUNT)
    assert "only in case" in result.stderr


def test_another_account_needs_another_key(cli: Cli) -> None:
    moved = ("--set=url=http://127.0.0.1:10/v1", "--set=bucket=b")
    assert no_test(cli, "--tenant=acme", *ACCOUNT).exit_code == Exit.DONE
    assert no_test(cli, "--tenant=acme", *ACCOUNT).exit_code == Exit.DONE
    result = no_test(cli, "--tenant=acme", *moved)
    assert result.exit_code == Exit.FAILED
    assert "another url" in result.stderr and "--same-account" in result.stderr
    assert no_test(cli, "--tenant=acme", "--same-account", *moved).exit_code == Exit.DONE


@pytest.mark.parametrize("key", ["../x", "a/b", "", ".", "a b", "x" * 101, "ключ", "a\nb"])
def test_a_key_names_a_file_safely(cli: Cli, key: str) -> None:
    result = no_test(cli, "--tenant=../..", *ACCOUNT, *([f"--key={key}"] if key else []))
    assert result.exit_code == Exit.FAILED
    assert "can't be the key of a connection" in result.stderr.replace("\n", "")
    assert no_test(cli, "--tenant= ", "--key=fine", *ACCOUNT).exit_code == Exit.FAILED


def test_a_misplaced_secret_is_not_repeated(cli: Cli) -> None:
    result = cli("connect", "kinto", "--tenant=acme", *ACCOUNT, f"--credential={PASSWORD}")
    assert result.exit_code == Exit.FAILED
    assert "--credential name=value" in result.stderr
    assert PASSWORD not in result.output


def test_a_connection_of_a_removed_integration_holds_up_nobody(connected: Cli) -> None:
    shutil.copytree(
        connected.root / "mappings" / "integrations" / "kinto",
        connected.root / "mappings" / "integrations" / "old",
    )
    gone = connected.root / "mappings" / "integrations" / "old"
    (gone / "integration.yaml").write_text("connector: kinto\n")
    options = ["--no-test", "--credential=username=u", "--credential=password=p"]
    result = connected("connect", "old", "--tenant=acme", *options, *ACCOUNT)
    assert result.exit_code == Exit.DONE, result.output
    shutil.rmtree(gone)
    result = connected("sync", "contacts", "--json")
    assert result.exit_code == Exit.FAILED
    said = json.loads(result.stdout)
    assert [report["delivered"] for report in said["reports"]] == [30]
    [error] = said["errors"]
    assert (error["connection"], error["code"]) == ("acme_old", "not_found")
    assert "membrane disconnect acme_old" in error["hint"]
    rows = {row["connection"]: row for row in connected.json("status")}
    assert "which the project doesn't have" in rows["acme_old"]["result"]


def test_a_defect_in_one_connection_holds_up_nobody(
    connected: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("membrane_sync.cli.syncing.run_sync", broken)
    result = connected("sync", "--json")
    assert result.exit_code == Exit.FAILED
    errors = json.loads(result.stdout)["errors"]
    assert [error["sync"] for error in errors] == ["companies", "contacts"]
    assert errors[0]["message"] == "RuntimeError: no such luck"


def test_interrupting_says_what_stays(connected: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("membrane_sync.cli.syncing.run_sync", interrupted)
    result = connected("sync")
    assert result.exit_code == Exit.INTERRUPTED
    assert "what was committed stays" in result.stderr
    assert "error" in json.loads(connected("sync", "--json").stdout)


@pytest.mark.parametrize("command", [["schema"], ["check"], ["check", "--json"], ["explain"]])
def test_who_stops_reading_ends_it_without_a_word(cli: Cli, command: list[str]) -> None:
    if command == ["explain"]:
        command = ["explain", "field_mapping", "contacts", "--integration", "kinto"]
    process = subprocess.Popen(
        [sys.executable, "-m", "membrane_sync.cli.main", *command],
        cwd=cli.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(60), said) == (Exit.NOT_READ, "")


@pytest.mark.parametrize("command", ["status", "sync", "worker", "serve", "dev"])
def test_no_command_begins_with_a_ledger_of_a_newer_version(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def began(*_: object, **__: object) -> None:
        raise AssertionError("it began")

    for program in ("become_worker", "run_dev"):
        monkeypatch.setattr(f"membrane_sync.cli.dagster_process.{program}", began)
    monkeypatch.setattr("uvicorn.run", began)
    monkeypatch.setenv("MEMBRANE_API_KEYS", "k" * 40)
    assert cli("status").exit_code == Exit.DONE
    with closing(sqlite3.connect(cli.root / ".membrane" / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE membrane_version SET version = 99")
    result = cli(command)
    assert result.exit_code == Exit.FAILED
    assert "written by a newer version" in result.stderr
    assert "→ install the newer membrane-sync" in result.stderr


def test_no_sync_at_all(connected: Cli) -> None:
    for path in (connected.root / "mappings" / "universal" / "packages").iterdir():
        path.write_text(path.read_text().replace("schedule:", "enabled: false\n    schedule:"))
    result = connected("sync")
    assert result.exit_code == Exit.FAILED
    assert "no connection takes part in any sync" in result.stderr
    [row] = connected.json("status")
    assert row["result"] == "takes part in no sync"


def test_unknown_link_tables_and_odd_names(connected: Cli, tmp_path: Path) -> None:
    result = connected("links", "contcats", "-c", "acme_kinto")
    assert result.exit_code == Exit.FAILED
    assert "did you mean 'contacts'?" in result.stderr
    odd = tmp_path / 'bad "name'
    assert connected("init", str(odd)).exit_code == Exit.DONE
    assert Cli(odd)("check").exit_code == Exit.DONE
    query = "SELECT 'NaN'::DOUBLE AS n"
    connected("sync")
    assert connected.json("records", "-c", "acme_kinto", "--sql", query) == [{"n": None}]


def test_a_defect_says_where_and_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    mask = Mask({"token": PASSWORD})
    with pytest.raises(typer.Exit) as left, failures():
        raise RuntimeError(f"it has {PASSWORD} in it")
    said = capsys.readouterr()
    assert left.value.exit_code == Exit.FAILED
    assert "RuntimeError: it has *** in it" in said.err and "test_cli.py" in said.err
    assert "planted" not in said.out + said.err
    assert mask.text("x") == "x"


def test_a_ledger_whose_address_is_none_shows_no_part_of_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBRANE_LEDGER_URL", "postgresql://u:pass:planted@host:planted/db")
    result = cli("status")
    assert result.exit_code == Exit.FAILED
    assert "no URL of a database" in result.stderr and "planted" not in result.stderr
