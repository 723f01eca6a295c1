"""hooks.py: functions of the project, found by name; errors say where; tenants can name none."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.bootstrap import open_runtime
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.errors import NotFound, ProjectError, TakesTooLong
from membrane_sync.formulas import MISSING, FormulaError, evaluate, evaluate_fields
from membrane_sync.formulas.python import calling
from membrane_sync.formulas.transform import transform_variables
from membrane_sync.ports import ConnectionRecord, Override
from membrane_sync.project import patience
from membrane_sync.project.hooks import find_hook, hook_names, load_hook
from membrane_sync.project.overrides import Refused, Target, customised, new_overrides
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.sync.mapper import importer, map_texts, map_values
from tests.project.projects import valid_project, write

HOOKS = """
from dataclasses import dataclass


@dataclass
class Names:
    first: str


def shout(text, times=1):
    return None if text is None else (text.upper() + "!") * times


def broken(text):
    raise ValueError(f"secret {text}")


def today(*_):
    return {1, 2}


def _private():
    return 1


async def later():
    return 1
"""


SLOW = """
import time


def endless(*_):
    while True:
        try:
            pass
        except Exception:
            pass


def stubborn():
    try:
        while True:
            pass
    except BaseException:
        pass
    while True:
        pass


def waiting():
    time.sleep(1)
    return 1


def asking(scope):
    answer = yield 1
    try:
        answer = yield answer
    except ValueError as error:
        answer = yield str(error)
    while True:
        pass


def quick():
    return 1
"""


def hooks(folder: Path, text: str = HOOKS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hooks.py").write_text(text, encoding="utf-8")
    return folder / "hooks.py"


def test_a_function_is_loaded_by_its_name(tmp_path: Path) -> None:
    file = hooks(tmp_path / "connectors/crm")
    assert load_hook(file, "shout")("a", 2) == "A!A!"
    first, second = load_hook(file, "shout"), load_hook(file, "shout")
    assert inspect.unwrap(first) is inspect.unwrap(second), "the file is run once"
    assert hook_names(file) == ["broken", "shout", "today"]
    for name in ("shuot", "_private", "Names", "later", "dataclass"):
        with pytest.raises(NotFound, match="connectors/crm/hooks.py has no function") as raised:
            load_hook(file, name)
        assert "shout" in str(raised.value)


def test_a_file_that_changed_is_run_again(tmp_path: Path) -> None:
    file = hooks(tmp_path, "def one():\n    return 1\n")
    assert load_hook(file, "one")() == 1
    hooks(tmp_path, "def one():\n    return 2\n")
    os.utime(file, ns=(1, 1))
    assert load_hook(file, "one")() == 2


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("def f():\n    return (\n", 2, "no Python"),
        ("def f(): ...\nimport no_such_package\n", 2, "ModuleNotFoundError"),
        ("def f(): ...\n\n\n1 / 0\n", 4, "ZeroDivisionError"),
    ],
)
def test_a_file_that_can_not_be_run_says_where(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    file = hooks(tmp_path / "mappings/universal", text)
    with pytest.raises(ProjectError) as raised:
        load_hook(file, "f")
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == ("mappings/universal/hooks.py", line)
    assert says in problem.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no function 'f'"):
        load_hook(tmp_path / "hooks.py", "f")
    with pytest.raises(NotFound, match="no hooks.py"):
        find_hook([], "f")


# --- $python --------------------------------------------------------------------------------------


def run(args: dict[str, Any], scope: Any, **functions: Callable[..., Any]) -> Any:
    with calling(lambda name: functions[name]):
        return evaluate({"$python": args}, scope)


def test_arguments_by_name_by_place_and_absent() -> None:
    def pair(a: Any, b: Any = "b") -> Any:
        return [a, b]

    here, gone = {"$var": "$.a"}, {"$var": "$.no"}
    scope = {"a": 1}
    assert run({"function": "f", "arguments": [here]}, scope, f=pair) == [1, "b"]
    assert run({"function": "f", "arguments": {"b": here, "a": gone}}, scope, f=pair) == [None, 1]
    assert run({"function": "f"}, scope, f=lambda: None) is None


def test_a_function_can_not_change_the_record() -> None:
    record = {"list": [1]}
    args = {"function": "f", "arguments": [{"$var": "$.list"}]}
    assert run(args, record, f=lambda items: items.clear() or items) == []
    assert record == {"list": [1]}


def test_a_function_that_fails_says_where_and_never_the_value(tmp_path: Path) -> None:
    file = hooks(tmp_path)
    for name, says in (("broken", "broken raised ValueError at hooks.py:15"), ("today", "a set")):
        args = {"function": name, "arguments": [{"$var": "$.a"}]}
        with pytest.raises(FormulaError) as raised:
            run(args, {"a": "planted"}, **{name: load_hook(file, name)})
        assert says in str(raised.value) and "planted" not in str(raised.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    around: dict[str, Any] = {}
    around["a"] = [around]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value, says in ((around, "holds itself"), (deep, "too deeply"), ({(1,): 1}, "a dict")):
        with pytest.raises(FormulaError, match=says):
            run({"function": "f"}, {}, f=lambda value=value: value)


def test_a_function_that_ends_the_process_fails_as_others_do() -> None:
    with pytest.raises(FormulaError, match="f raised SystemExit"):
        run({"function": "f"}, {}, f=lambda: sys.exit(3))


def test_without_hooks_a_function_can_not_be_called() -> None:
    with pytest.raises(FormulaError, match="there are none here"):
        evaluate({"$python": {"function": "f"}}, {})


def test_composition_keeps_arguments_in_their_places() -> None:
    args = {"function": "f", "arguments": [{"$var": "a"}, {"$var": "b"}]}
    composed = transform_variables({"$python": args}, {"b": {"$var": "$.bb"}})
    assert composed == {"$python": {**args, "arguments": [None, {"$var": "$.bb"}]}}
    assert transform_variables({"$python": args}, {"c": 1}) is MISSING


# --- in a project ---------------------------------------------------------------------------------

CALLING = """
data_source: contacts
data_schema: contacts
import_value:
  email: {$var: $.email}
  name: {$python: {function: shout, arguments: [{$var: $.name}]}}
"""
CONTACTS = "mappings/universal/field_mappings/contacts.yaml"


def project(root: Path, text: str = CALLING) -> Project:
    valid_project(root)
    write(root, {CONTACTS: text})
    hooks(root / "mappings/universal")
    (root / "mappings/connections/acme/field_mappings/contacts.yaml").unlink()
    return Project.load(root)


def test_a_mapping_calls_the_nearest_function_of_its_layers(tmp_path: Path) -> None:
    found = project(tmp_path)
    assert errors(check(found)) == []
    for connection, expected in (("", "ADA!"), ("acme", "hi Ada")):
        if connection:
            hooks(
                tmp_path / "mappings/connections/acme",
                "def shout(text):\n    return f'hi {text}'\n",
            )
        sync = found.sync("contacts", "crm", connection)
        assert sync is not None
        mapper = importer(sync.mapping, sync.schema)
        mapper = type(mapper)(**{**vars(mapper), "functions": sync.names.function})
        record = {"email": "a@x", "name": "Ada"}
        (one,) = map_values(mapper, [record])
        many = list(map_texts(mapper, [json.dumps(record)] * 400))
        assert one.value["name"] == expected
        assert {m.text for m in many} == {one.text}


def test_records_are_mapped_again_if_a_function_changes(tmp_path: Path) -> None:
    found = project(tmp_path)
    sync = found.sync("contacts", "crm")
    hooks(tmp_path / "mappings/universal", HOOKS.replace('"!"', '"?"'))
    changed = found.sync("contacts", "crm")
    assert sync is not None and changed is not None
    assert sync.version != changed.version


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (CALLING.replace("shout", "shuot"), 6, "no function 'shuot' in the hooks.py of mappings/"),
        (CALLING.replace("function: shout", "functoin: shout"), 6, "did you mean function?"),
        (CALLING.replace("function: shout", "function: {$var: $.f}"), 6, "name of a function"),
    ],
)
def test_what_check_says_of_functions(tmp_path: Path, text: str, line: int, says: str) -> None:
    found = errors(check(project(tmp_path, text)))
    assert any(says in p.message and (p.file, p.line) == (CONTACTS, line) for p in found), found
    if "shuot" in text:
        assert any("shout" in problem.message for problem in found)


def test_a_connector_can_not_call_the_functions_of_mappings(tmp_path: Path) -> None:
    found = project(tmp_path)
    path = tmp_path / "connectors/crm/connector.yaml"
    more = "headers: {X: {$python: {function: shout}}}\n"
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert any("for field mappings alone" in p.message for p in check(Project.load(found.root)))


# --- tenants --------------------------------------------------------------------------------------

TARGET = Target("acme", "crm", "field_mapping", "contacts")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("import_value.email", {"$python": {"function": "shout"}}),
        ("import_value.email", {"$concat": ["a", {"$python": {"function": "shout"}}]}),
        ("import_value", {"email": {"x": [{"$python": {"function": "shout"}}]}}),
        ("import_value.email", {"$plain": {"$python": {"function": "shout"}}}),
        ("import_value.email.$python", {"function": "shout"}),
    ],
)
def test_no_override_may_call_a_function(tmp_path: Path, path: str, value: Any) -> None:
    found = project(tmp_path)
    with pytest.raises(Refused, match="no override may call a function"):
        new_overrides(found, TARGET, [], path, value)


def test_an_override_in_the_ledger_that_calls_a_function_is_not_applied(tmp_path: Path) -> None:
    found = project(tmp_path)
    value = {"$python": {"function": "shout"}}
    planted = Override("acme", "field_mapping", "contacts", ("import_value", "email"), value)
    seen = customised(found, "acme", "crm", [planted])
    mapping = seen.get(FieldMapping, "contacts", integration="crm", connection="acme")
    assert mapping.import_value["email"] == {"$var": "$.email"}
    assert seen.customisation is not None
    (judged,) = seen.customisation.judged
    assert not judged.applied and "no override may call a function" in judged.conflict


def test_no_override_may_choose_a_schemas_function(tmp_path: Path) -> None:
    target = Target("acme", "crm", "data_schema", "contacts")
    with pytest.raises(Refused, match="function is for files of the project alone"):
        new_overrides(project(tmp_path), target, [], "function", "shout")


# --- schemas by function --------------------------------------------------------------------------

SCHEMAS = """
def own(tenant):
    calls.append(tenant["connection"])
    if tenant["input"].get("fail"):
        raise RuntimeError("planted")
    fields = {"email": {"type": "string"}, "name": {"type": tenant["input"]["type"]}}
    return {"type": "object", "properties": fields}


calls = []


def times():
    return len(calls)
"""


def test_a_schema_by_function_is_the_tenants_own(tmp_path: Path) -> None:
    found = project(tmp_path)
    path = tmp_path / "mappings/universal/data_schemas/contacts.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nfunction: own\n", encoding="utf-8")
    file = hooks(tmp_path / "mappings/universal", HOOKS + SCHEMAS)
    runtime = open_runtime(found.root)
    records = [
        ConnectionRecord(key, "crm", key, input={"account": "1", **more})
        for key, more in (("a", {"type": "string"}), ("b", {"type": "integer"}))
    ]
    shapes = [runtime.sync("contacts", record).schema for record in records for _ in range(3)]
    assert [s.schema_["properties"]["name"]["type"] for s in shapes if s] == ["string"] * 3 + [
        "integer"
    ] * 3
    assert load_hook(file, "times")() == 2, "once for each tenant"
    for more, says in (
        ({"fail": True}, "own raised RuntimeError"),
        ({"type": "txt"}, "gave no schema"),
    ):
        broken = ConnectionRecord("c", "crm", "c", input={"account": "1", **more})
        with pytest.raises(ProjectError, match=says) as raised:
            runtime.sync("contacts", broken)
        assert "planted" not in str(raised.value)


ODD_SCHEMAS = """
import functools, sys


def around(tenant):
    fields = {}
    fields["a"] = {"properties": fields}
    return {"properties": fields}


def deep(tenant):
    schema = {}
    for _ in range(100_000):
        schema = {"items": schema}
    return schema


def no_json(tenant):
    return {"properties": {"a": {"examples": {1, 2}}}}


def unknown(tenant):
    return {"properties": {"a": {"$ref": "nobody"}, "b": {"$ref": "contacts"}}}


def nothing(tenant):
    pass


def ends(tenant):
    sys.exit(3)


@functools.cache
def cached():
    return {}


def tuples(tenant):
    return {"type": "object", "properties": {1: {"enum": ("a", "b")}}}
"""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("around", "hooks.py:5: data_schema contacts: its function gave no schema: it's no JSON"),
        ("deep", "hooks.py:11: .*nested too deeply"),
        ("no_json", "hooks.py:18: .*it's no JSON"),
        ("unknown", r"hooks.py:22: .*properties.a.\$ref: there is no data_schema 'nobody'"),
        ("nothing", "hooks.py:26: .*a schema must be a mapping"),
        ("ends", "hooks.py:31: ends raised SystemExit"),
        ("cached", "hooks.py:34: cached raised TypeError"),
        ("tuples", None),
    ],
)
def test_what_a_function_may_give_for_a_schema(
    function: str, says: str | None, tmp_path: Path
) -> None:
    found = project(tmp_path)
    hooks(tmp_path / "mappings/universal", ODD_SCHEMAS)
    schema = found.get(DataSchema, "contacts").model_copy(update={"function": function})
    if says is None:
        made = found.schema_of(schema, "crm", "acme", {}).schema_
        assert made["properties"] == {"1": {"enum": ["a", "b"]}}
    else:
        with pytest.raises(ProjectError, match=says):
            found.schema_of(schema, "crm", "acme", {})


def test_check_names_a_schemas_function_that_is_not_there(tmp_path: Path) -> None:
    found = project(tmp_path)
    path = tmp_path / "mappings/universal/data_schemas/contacts.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nfunction: shuot\n", encoding="utf-8")
    problems = errors(check(Project.load(found.root)))
    assert ["no function 'shuot'" in p.message and "shout" in p.message for p in problems] == [True]


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(patience, "HOOK_SECONDS", 0.3)
    monkeypatch.setattr(patience, "POLL_SECONDS", 0.05)
    return hooks(tmp_path / "mappings/universal", SLOW)


def test_an_endless_function_is_stopped(slow: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TakesTooLong) as caught:
        load_hook(slow, "endless")()
    (problem,) = caught.value.problems
    assert problem.message == "endless takes longer than 0.3 seconds, and was stopped"
    assert problem.file == "mappings/universal/hooks.py" and 5 < problem.line < 11
    assert "endless takes too long, and is stopped: mappings/universal/hooks.py:" in caplog.text
    assert load_hook(slow, "quick")() == 1


def test_one_that_catches_it_is_stopped_again(slow: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TakesTooLong):
        load_hook(slow, "stubborn")()
    assert time.monotonic() - started < 20


def test_one_that_waits_is_stopped_when_it_comes_back(slow: Path) -> None:
    with pytest.raises(TakesTooLong):
        load_hook(slow, "waiting")()


def test_each_step_of_a_generator_has_its_time(slow: Path) -> None:
    made = load_hook(slow, "asking")({})
    assert next(made) == 1
    time.sleep(0.5)
    assert made.send(2) == 2
    assert made.throw(ValueError("no")) == "no"
    with pytest.raises(TakesTooLong, match="asking takes longer"):
        next(made)
    closed = load_hook(slow, "asking")({})
    next(closed)
    closed.close()


def test_a_formula_says_which_function_takes_too_long(slow: Path) -> None:
    with calling(lambda name: load_hook(slow, name)):
        value, (error,) = evaluate_fields({"a": {"$python": {"function": "endless"}}, "b": 1}, {})
    assert value == {"b": 1}
    assert error.reason.startswith("a: $python mappings/universal/hooks.py:")
    assert error.reason.endswith("endless takes longer than 0.3 seconds, and was stopped")


def test_a_file_that_never_comes_to_its_end_is_stopped(slow: Path) -> None:
    slow.write_text("def a():\n    pass\n\nwhile True:\n    pass\n")
    with pytest.raises(TakesTooLong, match="the file takes longer"):
        load_hook(slow, "a")


def test_nothing_is_stopped_but_what_takes_too_long(
    slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions that end when their time does: each is stopped or not, and nothing after it is."""
    monkeypatch.setattr(patience, "HOOK_SECONDS", 0.02)
    monkeypatch.setattr(patience, "POLL_SECONDS", 0.001)

    def busy(seconds: float) -> int:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            pass
        return 1

    def tried(number: int) -> int:
        try:
            return int(patience.within("busy", slow, busy, 0.018 + number % 5 / 1000))
        except TakesTooLong:
            return 0

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tried, range(200)))
        assert set(found) <= {0, 1}
        assert list(pool.map(busy, [0.01] * 8)) == [1] * 8
    assert not patience._WATCHES
