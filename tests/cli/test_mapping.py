"""`membrane map` and `membrane lineage`: on files, on projects, and on every public mapping."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.main import app
from membrane_sync.cli.output import Exit
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord, Override
from membrane_sync.records import Batch, Link, LinkKey, Offset, RawRecord
from membrane_sync.sync import preview
from membrane_sync.sync.mapper import Mapper
from tests.formulas.test_cases import CASES
from tests.formulas.test_vectors import CORRECTED, VECTORS, expected, typed

PACKAGE = "mappings/universal/packages/contacts.yaml"


def membrane(*arguments: str, records: str | bytes = "", root: Path = Path()) -> Result:
    options = {"MEMBRANE_PROJECT": str(root)}
    return CliRunner().invoke(app, list(arguments), input=records, env=options)


def lines(result: Result, exit_code: Exit = Exit.DONE) -> list[Any]:
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout_bytes.decode().split("\n")[:-1]]


def ndjson(records: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in no project, with nothing but the test's own files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    scaffold(tmp_path / "crm")
    return tmp_path / "crm"


def file(folder: Path, text: str, name: str = "mapping.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def replace(root: Path, old: str, new: str) -> None:
    path = root / PACKAGE
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- the public mappings -------------------------------------------------------------------------


def by_template() -> Iterator[Any]:
    cases = enumerate(VECTORS["cases"])
    keyed = sorted(cases, key=lambda pair: (pair[1]["mapping"], pair[1]["direction"], pair[0]))
    for key, group in groupby(keyed, key=lambda pair: (pair[1]["mapping"], pair[1]["direction"])):
        yield pytest.param(*key, list(group), id=" ".join(key))


@pytest.mark.parametrize("spelling", ["camelCase", "snake_case"])
@pytest.mark.parametrize(("name", "direction", "cases"), list(by_template()))
def test_vectors(
    name: str, direction: str, cases: list[tuple[int, Any]], spelling: str, outside: Path
) -> None:
    """Undefined results print null; those that tests/formulas/test_vectors.py lists differ."""
    keys = {f"{direction}Value": VECTORS["templates"][name][f"{direction}Value"]}
    if spelling == "snake_case":
        keys = {f"{direction}_value": value for value in keys.values()}
    path = file(outside, yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))
    records = ndjson(case["record"] for _, case in cases)
    found = lines(membrane("map", path, "--direction", direction, records=records))
    assert len(found) == len(cases)
    for (number, case), value in zip(cases, found, strict=True):
        wanted = expected(number, case)
        assert typed(value) == typed(wanted).replace("MISSING", "null"), f"case {number}"


def test_all_vectors_are_run() -> None:
    numbers = [number for case in by_template() for number, _ in case.values[2]]
    assert sorted(numbers) == [*range(456)]
    assert {quirk for quirk, _ in CORRECTED.values()} == {2}


# --- a file alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "record", "gives"),
    [
        ("{$var: $}", {"a": [1, None]}, {"a": [1, None]}),
        ("{$var: $.name}", {"name": "Åsa\u2028"}, "Åsa\u2028"),
        ("{$var: $.name}", {"nme": 1}, None),
        ("{a: {$var: $.b}}", {"b": None}, {"a": None}),
        ("{a: {$var: $.b}}", {}, None),
        ("{$var: $}", 5, 5),
        ("text", {}, "text"),
        ("[{$var: $.a}, 2]", {"a": 1}, [1, 2]),
        ("{n: {$var: $.n}}", {"n": 2**80}, {"n": 2**80}),
        ("{}", {}, {}),
    ],
)
def test_a_file_gives_the_value_of_its_formula(
    formula: str, record: Any, gives: Any, outside: Path
) -> None:
    path = file(outside, f"import_value: {formula}\n")
    assert lines(membrane("map", path, records=ndjson([record]))) == [gives]


def test_default_formulas_and_directions(outside: Path) -> None:
    path = file(
        outside,
        "defaultImportValue: {a: import}\nexportValue: {a: export}\ndefaultExportValue: {a: no}\n",
    )
    assert lines(membrane("map", path, records="{}")) == [{"a": "import"}]
    assert lines(membrane("map", path, "--direction=export", records="{}")) == [{"a": "export"}]
    assert membrane("map", path, "--direction=sideways", records="{}").exit_code == Exit.USAGE


def test_a_file_without_a_suffix_or_with_a_strange_name(outside: Path) -> None:
    for name in ("mapping", "my mapping (2).yml"):
        path = file(outside, "import_value: {a: 1}\n", name)
        assert lines(membrane("map", path, records="{}")) == [{"a": 1}]
    assert lines(membrane("map", "mapping", records="{}")) == [{"a": 1}]


def test_a_file_of_a_membrane_workspace(outside: Path) -> None:
    kept = "key: contacts\nuuid: '1'\ndataSourceUuid: '2'\nisCustomized: true\n"
    path = file(outside, f"{kept}importValue: {{a: 1}}\n")
    assert lines(membrane("map", path, records="{}")) == [{"a": 1}]


def test_a_schema_on_the_spot_applies(outside: Path) -> None:
    path = file(
        outside,
        "import_value: {a: {$var: $.a}, b: 1}\n"
        "app_schema: {properties: {a: {type: integer}, c: {$ref: elsewhere}}}\n",
    )
    result = membrane("map", path, records=ndjson([{"a": "5"}, {"a": "x"}, {}]))
    first, second, third = lines(result)
    assert first == {"a": 5} and third == {}
    assert second["error"] == {
        "field": "a",
        "reason": "should be integer, is text",
        "formula": {"$var": "$.a"},
        "value": "x",
    }
    assert "dropped, since the schema doesn't take them: b" in result.stderr


def test_every_line_has_its_answer(outside: Path) -> None:
    path = file(
        outside,
        "import_value: {at: {$extractDate: {$var: $.at}}, on: {$extractDate: {$var: $.on}}}\n",
    )
    records = [
        b'\xef\xbb\xbf{"at": "2026-01-02"}',
        b'{"at": "soon", "on": "later"}',
        b"",
        b"{not json}",
        b'{"at": NaN}',
        b'{"at": "\xff"}',
        b"[" * 100_000,
        b'{"at": "\\ud800"}',
        b'{"on": "2026-01-02"}\r',
    ]
    result = membrane("map", path, records=b"\n".join(records))
    found = lines(result, Exit.FAILED)
    assert len(found) == len(records)
    assert found[0].keys() == {"at"} and found[-1].keys() == {"on"}
    error = found[1]["error"]
    assert (error["field"], error["value"]) == ("at", "soon")
    assert error["formula"] == {"$extractDate": {"$var": "$.at"}}
    assert [also["field"] for also in error["also"]] == ["on"]
    for answer, why in zip(found[2:7], ("", "", "NaN", "UTF-8", "deep"), strict=True):
        assert "the line is no JSON" in answer["error"]["reason"]
        assert why in answer["error"]["reason"]
    assert found[7]["error"]["field"] == "at"
    assert "5 lines are no JSON" in result.stderr


def test_records_that_fail_are_no_failure_of_the_command(outside: Path) -> None:
    path = file(outside, "import_value: {at: {$extractDate: soon}}\n")
    assert "error" in lines(membrane("map", path, records="{}\n"))[0]
    assert lines(membrane("map", path, records="")) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import_valeu: {a: 1}\n", "did you mean 'import_value'?"),
        ("export_value: {a: 1}\n", "mapping.yaml:1: error: the field mapping has no import_value"),
        ("import_value: {a: 1\n", "mapping.yaml:2: error: not YAML"),
        ("import_value: 1\nimportValue: 2\n", "mapping.yaml:2"),
        ("- 1\n", "must hold a mapping"),
        ("", "needs import_value or export_value"),
    ],
)
def test_a_wrong_mapping_says_where_and_what(text: str, says: str, outside: Path) -> None:
    result = membrane("map", file(outside, text), records="{}\n")
    assert result.exit_code == Exit.PROJECT
    assert result.stdout == ""
    assert says in result.stderr


def test_a_file_that_is_not_there(outside: Path) -> None:
    result = membrane("map", "no/such.yaml", records="{}\n")
    assert result.exit_code == Exit.PROJECT and "no/such.yaml" in result.stderr


def test_what_looks_wrong_in_a_formula_is_said_and_run_nevertheless(outside: Path) -> None:
    path = file(outside, "import_value:\n  a: {$concatt: [1]}\n")
    result = membrane("map", path, records="{}\n")
    assert lines(result) == [{"a": {"$concatt": [1]}}]
    assert "mapping.yaml:2: warning: " in result.stderr and "$concat" in result.stderr


def test_ten_thousand_fields(outside: Path) -> None:
    fields = {f"f{n}": {"$var": f"$.f{n}"} for n in range(10_000)}
    path = file(outside, json.dumps({"importValue": fields}))
    record = {name: n for n, name in enumerate(fields)}
    assert lines(membrane("map", path, records=ndjson([record]))) == [record]
    assert len(json.loads(membrane("lineage", path, "--json").stdout)) == 10_000


LISTED, PLAIN = ('{"$concat": [', "]}"), ('{"$lower": ', "}")


@pytest.mark.parametrize(
    ("depth", "written", "says"),
    [(200, LISTED, ""), (200, PLAIN, ""), (300, LISTED, "at most 250 levels"),
     (300, PLAIN, "at most 250 levels"), (20_000, PLAIN, "nesting depth")],
)  # fmt: skip
def test_a_deep_formula_gives_a_result_or_says_where_it_is_too_deep(
    depth: int, written: tuple[str, str], says: str, outside: Path
) -> None:
    formula = written[0] * depth + "x" + written[1] * depth
    path = file(outside, f"import_value: {formula}\n")
    result = membrane("map", path, records="{}\n")
    if not says:
        assert lines(result) == ["x"]
    else:
        assert result.exit_code == Exit.PROJECT
        assert "mapping.yaml:1: error: " in result.stderr and says in result.stderr


def test_memory_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "BATCH_LINES", 50)
    mapper = Mapper({"a": {"$var": "$.a"}}, objects=False)
    line = json.dumps({"a": "x" * 2_000}).encode()

    def peak(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in preview.preview(mapper, (line for _ in range(count)))) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(5_000) < 2 * peak(500)


def test_answers_come_while_records_are_still_coming(outside: Path) -> None:
    path = file(outside, "import_value: {$var: $}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "membrane_sync.cli.main", "map", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(ndjson({"n": n} for n in range(4_000)).encode())
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"n": 0}
    process.stdin.close()
    assert len(process.stdout.readlines()) == 3_999
    assert process.wait(timeout=60) == 0


def app_cases() -> Iterator[Any]:
    groups = yaml.safe_load((CASES / "apps.yaml").read_text(encoding="utf-8"))
    for group in groups:
        for case in group["cases"]:
            yield pytest.param(group["given"], case, id=f"{group['name']}: {case['name']}")


@pytest.mark.parametrize(("record", "case"), list(app_cases()))
def test_what_mappings_of_well_known_apps_ask_for(record: Any, case: Any, outside: Path) -> None:
    path = file(outside, yaml.safe_dump({"importValue": case["formula"]}, sort_keys=False))
    (found,) = lines(membrane("map", path, records=ndjson([record])))
    if "fails" in case:
        assert found["error"]["value"] == case["fails"]["value"]
    else:
        assert typed(found) == typed(case.get("gives"))


# --- a project -----------------------------------------------------------------------------------


def test_a_key_is_run_into_its_data_schema(project: Path) -> None:
    records = [
        {"email": "a@x.example", "first_name": "Ada", "score": 95},
        {"email": 7},
        {"first_name": "No email"},
        {},
    ]
    found = lines(membrane("map", "contacts", records=ndjson(records), root=project))
    assert found[0] == {"email": "a@x.example", "full_name": "Ada", "stage": "vip"}
    assert found[1]["email"] == "7"
    assert found[2]["error"]["field"] == "email" and "required" in found[2]["error"]["reason"]
    assert found[3]["error"]["field"] == "email"


def test_what_a_function_prints_is_no_answer(project: Path) -> None:
    file(
        project / "mappings/universal",
        "def shout(x):\n    print('planted')\n    return x\n",
        "hooks.py",
    )
    replace(
        project, "phone: {$var: $.phone}", "phone: {$python: {function: shout, arguments: [a]}}"
    )
    result = membrane("map", "contacts", records='{"email": "a"}\n' * 2, root=project)
    assert [found["phone"] for found in lines(result)] == ["a", "a"]
    assert result.stderr.count("planted") == 2


def test_each_layer_has_its_own_mapping(project: Path) -> None:
    folder = project / "mappings/connections/acme_kinto"
    (folder / "field_mappings").mkdir(parents=True)
    (folder / "connection.yaml").write_text("integration: kinto\ntenant: acme\n")
    file(folder / "field_mappings", "import_value: {city: HQ}\n", "contacts.yaml")
    open_runtime(project).ledger.connect(ConnectionRecord("pb", "pocketbase", "acme"))
    record = ndjson([{"email": "a", "name": "Ada", "address": {"city": "Bern"}}])
    for options, city, full_name in (
        ([], "Bern", None),
        (["-c", "acme_kinto"], "HQ", None),
        (["-i", "pocketbase"], "Bern", "Ada"),
        (["--connection", "pb"], "Bern", "Ada"),
    ):
        (found,) = lines(membrane("map", "contacts", *options, records=record, root=project))
        assert (found.get("city"), found.get("full_name")) == (city, full_name), options


def test_an_override_made_at_run_time_counts(project: Path) -> None:
    ledger = open_runtime(project).ledger
    ledger.connect(ConnectionRecord("acme", "kinto", "acme"))
    path = ("import_value", "city")
    ledger.overrides.keep("acme", [Override("acme", "field_mapping", "contacts", path, "HQ")])
    record = ndjson([{"email": "a", "address": {"city": "Bern"}}])
    (theirs,) = lines(membrane("map", "contacts", "-c", "acme", records=record, root=project))
    (others,) = lines(membrane("map", "contacts", "-i", "kinto", records=record, root=project))
    assert (theirs["city"], others["city"]) == ("HQ", "Bern")


def test_fields_that_the_schema_does_not_take_are_named(project: Path) -> None:
    replace(project, "phone: {type: string}", "phone: {type: string, readOnly: true}")
    replace(project, "phone: {$var: $.phone}", "phone: {$var: $.phone}\n      city: {$var: $.c}")
    replace(project, "      city: {$var: $.address.city}\n", "")
    replace(project, "city: {type: string}", "city: {type: object, properties: {zip: {}}}")
    record = {"email": "a", "phone": "planted", "c": {"zip": 1, "street": "planted"}}
    result = membrane("map", "contacts", records=ndjson([record]), root=project)
    assert lines(result)[0]["city"] == {"zip": 1}
    assert "city.street, phone" in result.stderr
    assert "planted" not in result.output


def test_a_schema_that_refers_to_another_is_whole(project: Path) -> None:
    replace(project, "city: {type: string}", "city: {$ref: schemas/cities}")
    folder = project / "mappings/universal/data_schemas"
    folder.mkdir()
    file(folder, "schema: {type: integer, maximum: 5}\n", "cities.yaml")
    records = ndjson({"email": "a", "address": {"city": city}} for city in ("4", "6"))
    good, bad = lines(membrane("map", "contacts", records=records, root=project))
    assert good["city"] == 4
    assert bad["error"]["reason"] == "is greater than 5"


def test_an_export_is_cut_to_what_the_collection_takes(project: Path) -> None:
    replace(project, "    direction: import\n", "    export_value: {$var: $}\n")
    record = {"email": 5, "nickname": "x"}
    plain = membrane("map", "contacts", "-d", "export", records=ndjson([record]), root=project)
    assert lines(plain) == [record], "for no app in particular"
    result = membrane(
        "map", "contacts", "-d", "export", "-i", "kinto", records=ndjson([record]), root=project
    )
    assert lines(result) == [{"email": "5"}]
    assert "nickname" in result.stderr


def test_what_is_wrong_with_the_mapping_stops_it_and_nothing_else_does(project: Path) -> None:
    file(project / "mappings/universal/packages", "data_sources: {x: {udn: 1}}\n", "other.yaml")
    assert membrane("map", "contacts", records="{}", root=project).exit_code == Exit.DONE
    replace(project, "type: string, format: date", "type: strng, format: date")
    wrong = membrane("map", "contacts", records="{}", root=project)
    assert wrong.exit_code == Exit.PROJECT and "'string'" in wrong.stderr
    replace(project, "type: strng", "type: string")
    replace(project, "$concat:", "$concatt:")
    wrong = membrane("map", "contacts", records="{}", root=project)
    assert wrong.exit_code == Exit.PROJECT and f"{PACKAGE}:" in wrong.stderr
    replace(project, "field_mappings:", "field_mappings: [")
    wrong = membrane("map", "contacts", records="{}", root=project)
    assert wrong.exit_code == Exit.PROJECT and "not YAML" in wrong.stderr


def test_a_mapping_through_a_unified_data_model_is_run_for_an_app(project: Path) -> None:
    replace(project, "contacts: {collection_key: contacts}", "contacts: {udm: contacts}")
    replace(project, "email: {$var: $.email}", "email: {$var: $.primaryEmail}")
    replace(project, "    import_value:", "    unified_import_value:")
    replace(
        project,
        "    direction: import",
        "    unified_export_value: {primaryEmail: {$var: $.email}}",
    )
    path = project / "connectors/kinto/connector.yaml"
    unified = """
unified_data_models:
  contacts:
    collection_mappings:
      - key: contacts
        fields_from_collection: {primaryEmail: {$var: $.mail}}
        fields_to_collection: {email: {$var: $.primaryEmail}}
"""
    path.write_text(path.read_text(encoding="utf-8") + unified, encoding="utf-8")
    options = ["map", "contacts", "-i", "kinto"]
    (came,) = lines(membrane(*options, records='{"mail": "a@x"}', root=project))
    assert came["email"] == "a@x"
    (went,) = lines(membrane(*options, "-d", "export", records='{"email": "a@x"}', root=project))
    assert went == {"email": "a@x"}


def test_formulas_that_ask_are_answered_by_the_connections_lake(project: Path) -> None:
    replace(project, "phone: {$var: $.phone}", "phone: {$findAppRecordId: {recordId: {$var: $.b}}}")
    replace(project, "city: {type: string}", "city: {referenceCollection: {key: contacts}}")
    replace(
        project, "city: {$var: $.address.city}", "city: {$lookup: {query: {email: {$var: $.c}}}}"
    )
    runtime = open_runtime(project)
    runtime.ledger.connect(ConnectionRecord("acme", "kinto", "acme"))
    lake = runtime.lake(runtime.ledger.connection("acme"))
    payload = json.dumps({"id": "k1", "email": "boss@x.org"})
    lake.store(Batch("contacts", [RawRecord("k1", payload)]))
    lake.keep_links(LinkKey("contacts"), [Link("k1", "app-1")], (), (), Offset("push:contacts"), ())
    lake.close()
    records = [
        {"email": "a", "b": "k1", "c": "boss@x.org"},
        {"email": "b", "b": "gone", "c": "nobody@x.org"},
    ]
    found = lines(membrane("map", "contacts", "-c", "acme", records=ndjson(records), root=project))
    assert [(f.get("phone"), f.get("city")) for f in found] == [("app-1", "k1"), (None, None)]
    file(project / "mappings/universal/packages", "syncs: {aaa: {fild_mapping: x}}\n", "wrong.yaml")
    again = lines(membrane("map", "contacts", "-c", "acme", records=ndjson(records), root=project))
    assert again == found, "another sync that is wrong is no obstacle"
    (project / "mappings/universal/packages/wrong.yaml").unlink()
    alone = lines(membrane("map", "contacts", "-i", "kinto", records=ndjson(records), root=project))
    assert all("name a connection" in line["error"]["reason"] for line in alone)
    replace(project, "{recordId:", "{dataLinkTable: {key: contcats}, recordId:")
    wrong = membrane("map", "contacts", "-c", "acme", records=ndjson(records), root=project)
    assert "no data_link_table 'contcats'" in wrong.stderr and "contacts" in wrong.stderr


def test_unknown_keys_and_connections(project: Path, outside: Path) -> None:
    result = membrane("map", "contcats", records="{}", root=project)
    assert result.exit_code == Exit.FAILED and "contacts" in result.stderr
    result = membrane("map", "contacts", "-c", "nobody", records="{}", root=project)
    assert result.exit_code == Exit.FAILED and "nobody" in result.stderr
    result = membrane("map", "contacts", records="{}", root=outside)
    assert result.exit_code == Exit.FAILED and "membrane init" in result.stderr


# --- lineage -------------------------------------------------------------------------------------


def test_lineage_says_what_each_field_reads(project: Path) -> None:
    rows = json.loads(membrane("lineage", "contacts", "--json", root=project).stdout)
    reads = {row["field"]: row["reads"] for row in rows}
    assert reads["full_name"] == ["$.first_name", "$.last_name"]
    assert reads["city"] == ["$.address.city"]
    assert reads["stage"] == ["$.score"]
    assert rows[0] == {"field": "email", "reads": ["$.email"], "formula": {"$var": "$.email"}}
    table = membrane("lineage", "contacts", root=project).stdout
    assert "full_name" in table and "$.first_name, $.last_name" in table
    app = membrane("lineage", "contacts", "-i", "pocketbase", "--json", root=project)
    assert ["$.name"] in [row["reads"] for row in json.loads(app.stdout)]


def test_explain_shows_the_same_lineage(project: Path) -> None:
    for options in ([], ["--json"], ["-i", "pocketbase", "--json"]):
        told = membrane("lineage", "contacts", *options, root=project)
        same = membrane("explain", "field_mapping", "contacts", "--lineage", *options, root=project)
        assert (same.exit_code, same.stdout) == (Exit.DONE, told.stdout)
    wrong = membrane("explain", "sync", "contacts", "--lineage", root=project)
    assert wrong.exit_code == Exit.FAILED and "field_mapping" in wrong.stderr


def test_lineage_of_nested_fields_whole_records_and_the_other_direction(outside: Path) -> None:
    path = file(
        outside,
        """
import_value:
  address: {city: {$var: $.c}, geo: {lat: 1}}
  tags: {$iterate: {source: {$var: $.labels}, item: {$var: $.item.name}}}
export_value: {$mergeObjects: [{$var: $}, {$var: $.more}]}
""",
    )
    rows = json.loads(membrane("lineage", path, "--json").stdout)
    assert {row["field"]: row["reads"] for row in rows}.keys() == {
        "address.city",
        "address.geo.lat",
        "tags",
    }
    assert rows[0]["reads"] == ["$.c"] and rows[1]["reads"] == []
    assert all(read.startswith("$.labels") for read in rows[2]["reads"]) and rows[2]["reads"]
    (whole,) = json.loads(membrane("lineage", path, "-d", "export", "--json").stdout)
    assert (whole["field"], whole["reads"]) == ("$", ["$", "$.more"])
    missing = file(outside, "export_value: 1\n", "other.yaml")
    error = membrane("lineage", missing, "--json")
    assert (
        error.exit_code == Exit.PROJECT
        and "import_value" in json.loads(error.stdout)["error"]["message"]
    )
