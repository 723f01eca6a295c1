"""Three layers become one: what merges, what replaces, what removes, and where it is from."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membrane_sync.project.layers import resolve
from membrane_sync.project.located import Block, Items, Mark, leaves, mark_at
from membrane_sync.project.yaml_file import read_yaml
from tests.project.projects import project_of


def block_of(value: dict[str, Any], layer: str = "universal") -> Block:
    """The value with marks; each key and item gets a line of its own."""
    lines = iter(range(1, 10_000))

    def marked(part: Any) -> Any:
        mark = Mark(f"{layer}.yaml", next(lines), layer)
        if isinstance(part, dict):
            block = Block(mark)
            for key, item in part.items():
                block.put(key, marked(item), Mark(f"{layer}.yaml", next(lines), layer))
            return block
        if isinstance(part, list):
            return Items(mark, [(marked(item), mark) for item in part])
        return part

    block = marked(value)
    assert isinstance(block, Block)
    return block


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    return plain(resolve(block_of(layer, str(index)) for index, layer in enumerate(layers)))


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


EMAIL = {"$var": "$.email"}


@pytest.mark.parametrize(
    ("layers", "result"),
    [
        pytest.param([{"a": 1}, {"b": 2}], {"a": 1, "b": 2}, id="absent keys inherit"),
        pytest.param(
            [{"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}], {"a": {"x": 1, "y": 2}}, id="maps"
        ),
        pytest.param([{"a": 1}, {"a": None}], {"a": None}, id="null overrides"),
        pytest.param([{"a": {"x": 1}}, {"a": None}], {"a": None}, id="null overrides a map"),
        pytest.param([{"a": {"x": 1}}, {"a": {}}], {"a": {"x": 1}}, id="an empty map says nothing"),
        pytest.param([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}, id="lists are replaced"),
        pytest.param([{"a": [1]}, {"a": []}], {"a": []}, id="an empty list replaces"),
        pytest.param(
            [{"a": {"$concat": [EMAIL], "sep": 1}}, {"a": {"$var": "$.b"}}],
            {"a": {"$var": "$.b"}},
            id="a formula replaces a formula whole",
        ),
        pytest.param([{"a": {"x": 1}}, {"a": EMAIL}], {"a": EMAIL}, id="a formula replaces a map"),
        pytest.param(
            [{"a": EMAIL}, {"a": {"x": 1}}], {"a": {"x": 1}}, id="a map replaces a formula"
        ),
        pytest.param([{"a": EMAIL}, {"a": "text"}], {"a": "text"}, id="a text replaces a formula"),
        pytest.param([{"a": {"x": 1}}, {"a": {"x": {"$remove": True}}}], {"a": {}}, id="remove"),
        pytest.param([{"a": 1}, {"b": {"$remove": True}}], {"a": 1}, id="removing nothing"),
        pytest.param(
            [{"a": 1}, {"b": {"c": {"d": {"$remove": True}, "e": 1}}}],
            {"a": 1, "b": {"c": {"e": 1}}},
            id="removing nothing in a new map",
        ),
        pytest.param(
            [{"a": 1}, {"a": {"$remove": True}}, {"a": 2}], {"a": 2}, id="removed, and back again"
        ),
        pytest.param(
            [{"l": [{"key": "a", "x": 1, "y": 1}, {"key": "b"}]}, {"l": [{"key": "a", "y": 2}]}],
            {"l": [{"key": "a", "x": 1, "y": 2}, {"key": "b"}]},
            id="keyed lists merge in the order of the parent",
        ),
        pytest.param(
            [{"l": [{"key": "a"}, {"key": "b"}]}, {"l": [{"$remove": True, "key": "a"}]}],
            {"l": [{"key": "b"}]},
            id="remove from a keyed list",
        ),
        pytest.param(
            [{}, {"l": [{"key": "a", "$remove": True}, {"key": "b"}]}],
            {"l": [{"key": "b"}]},
            id="remove from a keyed list that isn't there",
        ),
        pytest.param(
            [{"l": [{"key": "a"}]}, {"l": [{"key": "c"}, {"key": "b"}]}],
            {"l": [{"key": "a"}, {"key": "c"}, {"key": "b"}]},
            id="new items come last",
        ),
        pytest.param(
            [{"l": [{"key": "a"}]}, {"l": [{"name": "b"}]}],
            {"l": [{"name": "b"}]},
            id="a list with an item without key replaces",
        ),
        pytest.param(
            [{"l": [{"key": "a", "x": 1}]}, {"l": [{"key": "a"}, {"key": "a"}]}],
            {"l": [{"key": "a"}, {"key": "a"}]},
            id="a list with a key twice replaces",
        ),
        pytest.param(
            [{"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 3}}],
            {"a": {"x": 3, "y": 2}},
            id="three layers",
        ),
    ],
)
def test_layers(layers: list[dict[str, Any]], result: dict[str, Any]) -> None:
    assert merged(*layers) == result


def test_order_of_keys_is_the_parents() -> None:
    assert list(merged({"b": 1, "a": 1}, {"c": 1, "a": 2})) == ["b", "a", "c"]


def test_no_layer() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        resolve([])


def test_marks_keep_layer_file_and_line() -> None:
    parent = block_of({"a": {"x": 1, "y": EMAIL}, "l": [{"key": "p", "n": 1}]}, "universal")
    child = block_of({"a": {"y": {"$var": "$.b"}}, "l": [{"key": "p", "m": 2}]}, "connection")
    result = resolve([parent, child])
    assert mark_at(result, ("a", "x")) == mark_at(parent, ("a", "x"))
    assert mark_at(result, ("a", "y")) == mark_at(child, ("a", "y"))
    assert mark_at(result, ("l", 0, "n")) == mark_at(parent, ("l", 0, "n"))
    assert mark_at(result, ("l", 0, "m")) == mark_at(child, ("l", 0, "m"))
    assert mark_at(result, ("a", "missing")) == mark_at(child, ("a",))
    layers = {path: mark.layer for path, _, mark in leaves(result)}
    assert layers == {
        ("a", "x"): "universal",
        ("a", "y"): "connection",
        ("l", 0, "key"): "connection",
        ("l", 0, "n"): "universal",
        ("l", 0, "m"): "connection",
    }


KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"])
FORMULAS = st.sampled_from(["$.x", "$.y"]).map(lambda locator: {"$var": locator})
REMOVE = st.just({"$remove": True})


def keyed(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    item = st.builds(
        lambda key, rest: {"key": key, **rest}, KEYS, st.dictionaries(KEYS, values, max_size=2)
    )
    return st.lists(item, max_size=3)


LAYERS = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | FORMULAS | REMOVE,
        lambda inner: (
            st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2) | keyed(inner)
        ),
        max_leaves=8,
    ),
    max_size=3,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS,
        "b": st.dictionaries(KEYS, SCALARS),
        "c": st.dictionaries(KEYS, st.dictionaries(KEYS, FORMULAS)),
    },
)
"""Layers that agree on what is a map, and remove nothing."""


@given(LAYERS)
def test_resolving_again_changes_nothing(layer: dict[str, Any]) -> None:
    once = merged(layer)
    assert merged(once) == once
    assert merged(layer, layer) == once
    assert merged(layer, {}) == once
    assert merged({}, layer) == once


@given(LAYERS)
def test_no_removal_is_left(layer: dict[str, Any]) -> None:
    assert "$remove" not in str(leaves_outside_plain_lists(merged(layer)))


def leaves_outside_plain_lists(value: Any) -> Any:
    """Lists without keys are values of their own: a removal there is reported, not carried out."""
    if isinstance(value, dict):
        return {key: leaves_outside_plain_lists(item) for key, item in value.items()}
    return None if isinstance(value, list) else value


@given(LAYERS, LAYERS, LAYERS)
def test_layers_can_be_resolved_one_after_the_other(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    assert merged(merged(a, b), c) == merged(a, b, c)


@given(SHAPED, SHAPED, SHAPED)
def test_layers_of_one_shape_resolve_in_any_grouping(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    assert merged(a, merged(b, c)) == merged(a, b, c)


@given(LAYERS, LAYERS)
def test_inputs_are_never_changed(a: dict[str, Any], b: dict[str, Any]) -> None:
    blocks = [block_of(a, "a"), block_of(b, "b")]
    before = deepcopy(blocks), [dict(block.marks) for block in blocks]
    result = resolve(blocks)
    result.put("new", 1, Mark("x", 1))
    assert (blocks, [block.marks for block in blocks]) == before


@given(LAYERS, LAYERS)
def test_every_value_has_a_mark_of_one_of_the_layers(a: dict[str, Any], b: dict[str, Any]) -> None:
    for _, _, mark in leaves(resolve([block_of(a, "a"), block_of(b, "b")])):
        assert mark.layer in ("a", "b")


CONNECTOR = {
    "connectors/crm/connector.yaml": "base_url: https://crm.example\n",
    "mappings/integrations/crm/integration.yaml": "",
    "mappings/connections/acme/connection.yaml": "integration: crm\ntenant: acme\n",
}
SNAKE = "import_value: {email: {$var: $.email}, name: {$var: $.name}}\n"
CAMEL = "importValue: {name: {$var: $.fullName}}\n"


@pytest.mark.parametrize("layer", ["universal", "integrations/crm", "connections/acme"])
def test_camel_case_is_accepted_in_every_layer(layer: str, tmp_path: Path) -> None:
    files = {**CONNECTOR, f"mappings/{layer}/field_mappings/people.yaml": CAMEL}
    project = project_of(tmp_path, files)
    mapping: Any = project.find("field_mapping", "people", integration="crm", connection="acme")
    assert mapping.import_value == {"name": {"$var": "$.fullName"}}


@pytest.mark.parametrize(("parent", "child"), [(SNAKE, CAMEL), (CAMEL, SNAKE)])
def test_spellings_may_differ_between_layers(parent: str, child: str, tmp_path: Path) -> None:
    files = {
        **CONNECTOR,
        "mappings/universal/field_mappings/people.yaml": parent,
        "mappings/connections/acme/field_mappings/people.yaml": child,
    }
    project = project_of(tmp_path, files)
    mapping: Any = project.find("field_mapping", "people", integration="crm", connection="acme")
    assert mapping.import_value == {
        "email": {"$var": "$.email"},
        "name": {"$var": "$.fullName" if child is CAMEL else "$.name"},
    }


def test_camel_case_in_packages_and_in_nested_parts(tmp_path: Path) -> None:
    text = """\
        fieldMappings:
          people: {dataSource: contacts, importValue: {firstName: {$var: $.firstName}}}
        syncs:
          people:
            fieldMapping: people
            dataLinkTable: people
            schedule: {everyMinutes: 5}
        flows:
          hello:
            nodes: {start: {type: api_trigger, onError: continue, config: {fieldMapping: people}}}
        """
    project = project_of(tmp_path, {"mappings/universal/packages/people.yaml": text})
    assert project.documents.problems == []
    mapping: Any = project.find("field_mapping", "people")
    assert (mapping.data_source, list(mapping.import_value)) == ("contacts", ["firstName"])
    sync: Any = project.find("sync", "people")
    assert sync.schedule.every_minutes == 5
    flow: Any = project.find("flow", "hello")
    assert flow.nodes["start"].on_error == "continue"
    assert flow.nodes["start"].config.field_mapping == "people"


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        "on: yes\nday: 2026-01-02\ntime: 12:30\nten: 010\nhex: 0x1F\nsmall: 1e-3\n"
        "none: ~\nnothing:\nflag: True\ntext: '1'\n404: gone\nversion: 1.2.3\ngroup: 1_000\n"
    )
    assert read_yaml(path, "file.yaml") == {
        "on": "yes",
        "day": "2026-01-02",
        "time": "12:30",
        "ten": 10,
        "hex": 31,
        "small": 0.001,
        "none": None,
        "nothing": None,
        "flag": True,
        "text": "1",
        "404": "gone",
        "version": "1.2.3",
        "group": "1_000",
    }
