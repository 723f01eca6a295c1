"""Run-time overrides: what they touch stays, what they don't follows, and what's refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.flow import Flow
from membrane_sync.errors import NotFound
from membrane_sync.ports import Override
from membrane_sync.project.explain import explain
from membrane_sync.project.layers import value_at
from membrane_sync.project.located import plain
from membrane_sync.project.overrides import (
    Refused,
    Target,
    customised,
    new_overrides,
    override_path,
)
from membrane_sync.project.project import Project
from membrane_sync.project.yaml_file import read_value, write_yaml
from membrane_sync.testing import MemoryLedger
from tests.project.projects import edit, valid_project, write
from tests.stores.test_ledger import ACME

UNIVERSAL = "mappings/universal/field_mappings/contacts.yaml"
FLOW = """\
nodes:
  start:
    type: api_trigger
    links:
      - {key: mail, filter: {$var: $.output.email}}
      - {key: call}
  mail: {type: http_request, config: {request: {url: https://a.example}}}
  call: {type: http_request, config: {request: {url: https://b.example}}}
"""


class Customised:
    """A project on disk with one connection's overrides in a ledger; each look reads the files."""

    def __init__(self, root: Path, connection: str = "globex") -> None:
        self.root = root
        self.connection = connection
        self.ledger = MemoryLedger()
        self.ledger.connect(replace(ACME, key=connection, integration="crm"))

    @property
    def files(self) -> Project:
        return Project.load(self.root, {})

    @property
    def project(self) -> Project:
        return self.instance("default")

    def instance(self, instance_key: str) -> Project:
        overrides = self.ledger.overrides.of(self.connection)
        return customised(self.files, self.connection, "crm", overrides, instance_key)

    def target(self, kind: str, key: str = "contacts", instance_key: str = "default") -> Target:
        return Target(self.connection, "crm", kind, key, instance_key)

    def set(
        self, path: str, value: str, kind: str = "field_mapping", **other: str
    ) -> list[Override]:
        existing = self.ledger.overrides.of(self.connection)
        made = new_overrides(
            self.files, self.target(kind, **other), existing, path, read_value(value)
        )
        self.ledger.overrides.keep(self.connection, made)
        return made

    def reset(self, path: str = "", kind: str = "field_mapping") -> int:
        target = self.target(kind)
        steps = override_path(self.files, target, path) if path else ()
        return self.ledger.overrides.reset(self.connection, kind, target.key, steps)

    def mapping(self, project: Project | None = None) -> dict[str, Any]:
        seen = (project or self.project).get(
            FieldMapping, "contacts", integration="crm", connection=self.connection
        )
        assert isinstance(seen.import_value, dict)
        return plain(seen.import_value)

    def conflicts(self) -> dict[str, str]:
        custom = self.project.customisation
        assert custom is not None
        return {".".join(j.override.path): j.conflict for j in custom.judged if j.conflict}


@pytest.fixture
def crm(tmp_path: Path) -> Customised:
    return Customised(valid_project(tmp_path))


def var(name: str) -> dict[str, str]:
    return {"$var": f"$.{name}"}


# --- what they do ---------------------------------------------------------------------------------


def test_an_override_is_seen_by_its_connection_alone(crm: Customised) -> None:
    before = crm.mapping()
    crm.set("import_value.email", "{$var: $.mail}")
    assert crm.mapping() == {**before, "email": var("mail")}
    others = {"integration": "crm", "connection": "acme"}
    seen = crm.project.get(FieldMapping, "contacts", **others).import_value
    assert seen["email"] == var("email")
    assert crm.project.get(FieldMapping, "contacts").import_value["email"] == var("email")


def test_it_lies_over_the_connections_files(tmp_path: Path) -> None:
    acme = Customised(valid_project(tmp_path), "acme")
    acme.set("import_value.name", "{$var: $.nick}")
    assert acme.mapping()["name"] == var("nick")
    acme.reset("import_value.name")
    assert acme.mapping()["name"] == var("full_name")


def test_it_reaches_the_syncs_and_their_version(crm: Customised) -> None:
    before = crm.project.sync("contacts", "crm", "globex")
    crm.set("import_value.email", "{$var: $.mail}")
    after = crm.project.sync("contacts", "crm", "globex")
    other = crm.project.sync("contacts", "crm", "acme")
    assert before is not None and after is not None and other is not None
    assert after.version != before.version
    assert other.version == customised_version(crm, "acme")
    crm.reset()
    again = crm.project.sync("contacts", "crm", "globex")
    assert again is not None and again.version == before.version


def customised_version(crm: Customised, connection: str) -> str:
    sync = crm.files.sync("contacts", "crm", connection)
    assert sync is not None
    return sync.version


def test_a_mapping_merges_and_a_formula_is_one_value(crm: Customised) -> None:
    made = crm.set("import_value", "{email: {$var: $.mail}, address: {city: Oslo}}")
    assert [o.path[1:] for o in made] == [("email",), ("address", "city")]
    assert crm.mapping()["address"] == {"city": "Oslo"}
    assert "name" in crm.mapping()
    crm.set("import_value.address", "{$var: $.place}")
    assert crm.mapping()["address"] == var("place")
    assert [o.path[1] for o in crm.ledger.overrides.of("globex")] == ["address", "email"]


def test_remove_takes_away(crm: Customised) -> None:
    [made] = crm.set("import_value.name", "{$remove: true}")
    assert made.removed
    assert "name" not in crm.mapping()
    crm.set("import_value.address", "{city: {$remove: true}}")
    assert crm.mapping()["address"] == {}


def test_null_and_nothing_are_not_the_same(crm: Customised) -> None:
    crm.set("import_value.name", "null")
    assert crm.mapping()["name"] is None


def test_camel_case_is_accepted(crm: Customised) -> None:
    [made] = crm.set("importValue.email", "{$var: $.mail}")
    assert made.path == ("import_value", "email")
    [made] = crm.set("pullUpdatesIntervalSeconds", "60", "data_source")
    assert made.path == ("pull_updates_interval_seconds",)


def test_names_with_dots_are_escaped(crm: Customised) -> None:
    [made] = crm.set("meta.a\\.b", "1")
    assert made.path == ("meta", "a.b")
    leaves = explain(crm.project, "field_mapping", "contacts", "crm", "globex")
    assert [leaf.path for leaf in leaves if leaf.layer == "override"] == ["meta.a\\.b"]


def test_items_of_a_keyed_list_by_index_or_key(crm: Customised) -> None:
    write(crm.root, {"mappings/universal/flows/contacts.yaml": FLOW})
    [made] = crm.set("nodes.start.links[0].filter", "{$var: $.output.phone}", "flow")
    assert made.path == ("nodes", "start", "links", "mail", "filter")
    crm.set("nodes.start.links.call", "{$remove: true}", "flow")
    crm.set("nodes.start.links", "[{key: mail, name: Mail}]", "flow")
    flow = crm.project.get(Flow, "contacts", integration="crm", connection="globex")
    [link] = flow.nodes["start"].links
    assert (link.key, link.name, link.filter) == ("mail", "Mail", var("output.phone"))
    crm.reset("nodes.start.links.call", "flow")
    assert [link.key for link in links(crm)] == ["mail", "call"]
    crm.set("nodes.start.links", "[]", "flow")
    assert links(crm) == []


def links(crm: Customised) -> Any:
    flow = crm.project.get(Flow, "contacts", integration="crm", connection="globex")
    return flow.nodes["start"].links


def test_a_new_item_of_a_keyed_list(crm: Customised) -> None:
    flow = FLOW.replace("      - {key: call}\n", "")
    write(crm.root, {"mappings/universal/flows/contacts.yaml": flow})
    crm.set("nodes.start.links", "[{key: call}]", "flow")
    assert [link.key for link in links(crm)] == ["mail", "call"]


def test_instances_are_apart(crm: Customised) -> None:
    crm.set("import_value.email", "{$var: $.a}")
    crm.set("import_value.email", "{$var: $.b}", instance_key="second")
    crm.set("import_value.name", "{$var: $.c}", instance_key="second")
    assert crm.mapping()["email"] == var("a")
    second = crm.mapping(crm.instance("second"))
    assert (second["email"], second["name"]) == (var("b"), var("c"))
    assert crm.mapping(crm.instance("third"))["email"] == var("email")
    assert crm.reset() == 1
    assert crm.mapping(crm.instance("second"))["email"] == var("b")
    with pytest.raises(Refused, match="'no key!' is no key"):
        crm.set("import_value.name", "1", instance_key="no key!")


# --- when the files change ------------------------------------------------------------------------


def test_untouched_paths_follow_and_touched_ones_stay(crm: Customised) -> None:
    crm.set("import_value.name", "{$var: $.nick}")
    edit(crm.root, {UNIVERSAL: {"{$var: $.email}": "{$var: $.mail}"}})
    assert crm.mapping()["email"] == var("mail")
    assert crm.mapping()["name"] == var("nick")
    assert crm.conflicts() == {}


def test_what_changed_on_both_sides_is_a_conflict_and_stays(crm: Customised) -> None:
    crm.set("import_value.email", "{$var: $.nick}")
    edit(crm.root, {UNIVERSAL: {"{$var: $.email}": "{$var: $.mail}"}})
    assert crm.mapping()["email"] == var("nick")
    [(path, conflict)] = crm.conflicts().items()
    assert path == "import_value.email"
    assert '{"$var": "$.mail"}' in conflict and "reset it" in conflict
    crm.set("import_value.email", "{$var: $.nick}")
    assert crm.conflicts() == {}
    assert crm.mapping()["email"] == var("nick")


def test_a_change_to_the_same_is_no_conflict(crm: Customised) -> None:
    crm.set("import_value.email", "{$var: $.mail}")
    crm.set("import_value.name", "{$remove: true}")
    edit(crm.root, {UNIVERSAL: {"{$var: $.email}": "{$var: $.mail}"}})
    text = (crm.root / UNIVERSAL).read_text().splitlines()
    write(crm.root, {UNIVERSAL: "\n".join(line for line in text if "  name:" not in line)})
    assert crm.conflicts() == {}


def test_a_field_that_the_files_take_away_is_a_conflict(crm: Customised) -> None:
    crm.set("import_value.address.city", "Oslo")
    edit(crm.root, {UNIVERSAL: {"  address:\n    city: {$var: $.city}\n": ""}})
    assert "to nothing" in crm.conflicts()["import_value.address.city"]
    assert crm.mapping()["address"] == {"city": "Oslo"}


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"  address:\n    city: {$var: $.city}": "  address: {$var: $.place}"}, "is a formula"),
        ({"import_value:": "frozen_import_fields: [address]\nimport_value:"}, "frozen"),
        ({"  address:\n    city: {$var: $.city}": "  address: [{$var: $.city}]"}, "have no keys"),
    ],
)
def test_what_the_files_no_longer_allow_is_not_applied(
    crm: Customised, edits: Mapping[str, str], says: str
) -> None:
    crm.set("import_value.address.city", "Oslo")
    edit(crm.root, {UNIVERSAL: edits})
    assert "Oslo" not in repr(crm.mapping())
    assert crm.conflicts()["import_value.address.city"].startswith("not applied: ")
    assert says in crm.conflicts()["import_value.address.city"]
    assert crm.project.sync("contacts", "crm", "globex") is not None


def test_what_makes_an_element_wrong_is_not_applied(crm: Customised) -> None:
    """One tenant's override must not stop the sync: neither the tenant's nor the others'."""
    second = "mappings/universal/field_mappings/second.yaml"
    write(crm.root, {second: (crm.root / UNIVERSAL).read_text()})
    crm.set("field_mapping", "second", "sync")
    crm.set("delete", "ignore", "sync")
    sync = crm.project.sync("contacts", "crm", "globex")
    assert sync is not None and sync.mapping.key == "second"
    write(crm.root, {second: None})
    sync = crm.project.sync("contacts", "crm", "globex")
    assert sync is not None and (sync.mapping.key, sync.sync.delete) == ("contacts", "ignore")
    assert "there is no field_mapping 'second'" in crm.conflicts()["field_mapping"]
    assert set(crm.conflicts()) == {"field_mapping"}


def test_what_removes_a_key_that_is_now_needed_is_not_applied(crm: Customised) -> None:
    """An override that was right when it was made; its value isn't marked by any line."""
    missing = Override("globex", "sync", "contacts", ("data_link_table",), removed=True)
    crm.ledger.overrides.keep("globex", [missing])
    assert crm.project.sync("contacts", "crm", "globex") is not None
    assert "missing key 'data_link_table'" in crm.conflicts()["data_link_table"]


def test_an_element_that_is_gone(crm: Customised) -> None:
    crm.set("import_value.email", "x")
    for name in ("mappings/universal/field_mappings", "mappings/connections/acme/field_mappings"):
        write(crm.root, {f"{name}/contacts.yaml": None})
    assert "there is no field_mapping 'contacts' any more" in crm.conflicts()["import_value.email"]
    assert crm.reset("import_value.email") == 1


# --- what's refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "value", "says"),
    [
        ("field_mapping", "import_value.email.$var", "$.x", "import_value.email is a formula"),
        ("field_mapping", "import_value.name.$concat[0]", "1", "has no item [0] that has a key"),
        ("field_mapping", "import_value.email", "{$vra: $.x}", "$vra is no operator"),
        ("field_mapping", "import_value.email", "{$var: '$.a[0'}", "without its ]"),
        ("field_mapping", "import_value.mail", "x", "field 'mail' is not in data schema"),
        ("field_mapping", "direction", "sideways", "'sideways' is unknown"),
        ("field_mapping", "nme", "x", "unknown key 'nme'; did you mean 'name'?"),
        ("field_mapping", "data_schema", "contcts", "there is no data_schema 'contcts'"),
        ("field_mapping", "key", "other", "key is its identity"),
        ("field_mapping", "frozen_import_fields", "[]", "said in files alone"),
        ("field_mapping", "frozenImportFields", "[]", "said in files alone"),
        ("field_mapping", "import_value.email", ".nan", "a number must be finite"),
        ("field_mapping", "import_value.email", "{$remove: false}", "$remove must be true"),
        ("field_mapping", "import_value", "{$remove: true}", "needs import_value"),
        ("field_mapping", "import_value..email", "x", "name a path"),
        ("field_mapping", "a[", "x", "can't be read"),
        ("field_mapping", "$", "x", "name a path"),
        ("sync", "match", "[emial]", "match field 'emial' is not in data schema"),
        ("sync", "match[0]", "email", "has no item [0] that has a key"),
        ("sync", "data_link_table", "{$remove: true}", "missing key 'data_link_table'"),
        ("sync", "enabled", "maybe", "overridden: enabled: should be true or false"),
        ("data_source", "collection_key", "people", "can't list a collection 'people'"),
        ("data_schema", "table", "{$remove: true}", "table is for files of the project alone"),
        ("data_schema", "table.name", "users", "table is for files of the project alone"),
        ("data_schema", "table.tenantColumn", "null", "table is for files of the project alone"),
        ("data_schema", "schema.properties.email.type", "txt", "unknown type 'txt'"),
    ],
)
def test_refused(kind: str, path: str, value: str, says: str, crm: Customised) -> None:
    with pytest.raises(Refused) as caught:
        crm.set(path, value, kind)
    assert says in caught.value.message
    assert f"{kind} contacts: {path} can't be overridden" in caught.value.message
    assert list(crm.ledger.overrides.of("globex")) == []


@pytest.mark.parametrize(
    "path", ["import_value.email", "import_value", "default_import_value.name", "importValue.email"]
)
def test_frozen_fields_are_refused(path: str, crm: Customised) -> None:
    frozen = "frozen_import_fields: [email]\nimport_value:"
    edit(crm.root, {UNIVERSAL: {"import_value:": frozen}})
    with pytest.raises(Refused, match=f"field 'email' is frozen in {UNIVERSAL}:3"):
        crm.set(path, "{$var: $.x}")
    crm.set("import_value", "{name: {$var: $.x}}")
    assert crm.mapping()["name"] == var("x")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("default_export_value.primaryEmail", "field 'primaryEmail' is frozen"),
        ("unified_export_value.primaryEmail", "field 'primaryEmail' is frozen"),
        ("export_value.mail", "would be taken instead of field 'primaryEmail', which is frozen"),
    ],
)
def test_frozen_fields_of_a_model_are_refused(path: str, reason: str, crm: Customised) -> None:
    unified = "default_export_value: {primaryEmail: {$var: $.email}, fullName: {$var: $.name}}"
    frozen = "frozen_unified_export_fields: [primaryEmail]"
    edit(crm.root, {UNIVERSAL: {"import_value:": f"{unified}\n{frozen}\nimport_value:"}})
    with pytest.raises(Refused, match=reason):
        crm.set(path, "{$var: $.x}")
    crm.set("default_export_value.fullName", "{$var: $.x}")


def test_frozen_fields_of_a_model_leave_an_apps_own_export_value_free(crm: Customised) -> None:
    unified = "default_export_value: {primaryEmail: {$var: $.email}}\nexport_value: {mail: a}"
    frozen = "frozen_unified_export_fields: [primaryEmail]"
    edit(crm.root, {UNIVERSAL: {"import_value:": f"{unified}\n{frozen}\nimport_value:"}})
    crm.set("export_value.mail", "{$var: $.x}")


def test_a_connections_file_may_freeze_for_its_own_overrides(tmp_path: Path) -> None:
    acme = Customised(valid_project(tmp_path), "acme")
    file = "mappings/connections/acme/field_mappings/contacts.yaml"
    text = (acme.root / file).read_text()
    write(acme.root, {file: f"frozen_import_fields: [name]\n{text}"})
    with pytest.raises(Refused, match=f"frozen in {file}:1"):
        acme.set("import_value.name", "{$var: $.nick}")


def test_a_connections_file_cannot_unfreeze_for_overrides(tmp_path: Path) -> None:
    acme = Customised(valid_project(tmp_path), "acme")
    edit(acme.root, {UNIVERSAL: {"import_value:": "frozen_import_fields: [email]\nimport_value:"}})
    file = "mappings/connections/acme/field_mappings/contacts.yaml"
    text = (acme.root / file).read_text()
    write(acme.root, {file: f"frozen_import_fields: []\n{text}"})
    with pytest.raises(Refused, match=f"frozen in {UNIVERSAL}:3"):
        acme.set("import_value.email", "{$var: $.nick}")


def test_many_fields_at_once(crm: Customised) -> None:
    fields = {f"f{n}": {"type": "string"} for n in range(2_000)}
    schema = crm.root / "mappings/universal/data_schemas/contacts.yaml"
    schema.write_text(write_yaml({"schema": {"type": "object", "properties": fields}}))
    mapping = {"data_source": "contacts", "data_schema": "contacts", "import_value": {"f0": "x"}}
    (crm.root / UNIVERSAL).write_text(write_yaml(mapping))
    started = monotonic()
    crm.set("import_value", json.dumps({name: var(name) for name in fields}))
    assert crm.mapping() == {name: var(name) for name in fields}
    assert monotonic() - started < 20


def test_below_another_override(crm: Customised) -> None:
    crm.set("import_value.address", "{$var: $.place}")
    with pytest.raises(Refused, match="import_value.address is overridden already"):
        crm.set("import_value.address.city", "Oslo")
    crm.set("import_value.address", "{$remove: true}")
    with pytest.raises(Refused, match="import_value.address is overridden already"):
        crm.set("import_value.address.city", "Oslo")


@pytest.mark.parametrize(
    ("kind", "key", "says"),
    [
        ("field_maping", "contacts", "did you mean 'field_mapping'?"),
        ("connector", "crm", "kinds are"),
        ("connection", "globex", "did you mean"),
        ("field_mapping", "contcts", "did you mean 'contacts'?"),
    ],
)
def test_unknown_names(kind: str, key: str, says: str, crm: Customised) -> None:
    with pytest.raises(NotFound) as caught:
        crm.set("name", "x", kind, key=key)
    assert says in caught.value.hint


def test_what_was_wrong_before_does_not_stand_in_the_way(crm: Customised) -> None:
    """The check is of what the override changes; the files have a command of their own."""
    edit(crm.root, {UNIVERSAL: {"{$var: $.email}": "{$vra: $.email}"}})
    crm.set("import_value.name", "{$var: $.nick}")
    with pytest.raises(Refused, match="import_value.email: "):
        crm.set("import_value.email", "{$vra: $.mail}")


# --- explain --------------------------------------------------------------------------------------


def test_explain_shows_overrides_and_conflicts(crm: Customised) -> None:
    crm.set("import_value.email", "{$var: $.mail}")
    crm.set("import_value.name", "{$remove: true}")
    crm.set("import_value.address.city", "Oslo")
    edit(crm.root, {UNIVERSAL: {"{$var: $.email}": "{$var: $.e}", "{$var: $.city}": "{$var: $.c}"}})
    leaves = explain(crm.project, "field_mapping", "contacts", "crm", "globex")
    own = [leaf for leaf in leaves if leaf.layer == "override"]
    assert [(leaf.path, leaf.value, leaf.file, leaf.line) for leaf in own] == [
        ("import_value.email", var("mail"), "ledger", 2),
        ("import_value.address.city", "Oslo", "ledger", 1),
        ("import_value.name", {"$remove": True}, "ledger", 3),
    ]
    assert [bool(leaf.conflict) for leaf in own] == [True, True, False]
    assert all(not leaf.conflict for leaf in leaves if leaf.layer != "override")
    files = explain(crm.project, "field_mapping", "contacts", "crm")
    assert {leaf.layer for leaf in files} == {"universal"}


# --- whatever is overridden -----------------------------------------------------------------------

NAMES = st.sampled_from(["email", "name", "address.city", "address"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.just({"$var": "$.x"}),
    st.just({"$remove": True}),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(changes=st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_the_last_word_counts_and_resetting_undoes(
    changes: list[tuple[str, Any]], crm: Customised
) -> None:
    files, target = crm.files, crm.target("field_mapping")
    layer = {"integration": "crm", "connection": "globex"}
    before = files.block("field_mapping", "contacts", **layer)
    for name, value in changes:
        existing = crm.ledger.overrides.of("globex")
        path = ("import_value", *name.split("."))
        if name == "address.city" and any(o.path == path[:2] for o in existing):
            continue  # refused, as one above it is there already
        crm.ledger.overrides.keep(
            "globex", new_overrides(files, target, existing, ".".join(path), value)
        )
        seen = customised(files, "globex", "crm", crm.ledger.overrides.of("globex"))
        block = seen.block("field_mapping", "contacts", **layer)
        assert block is not None
        expected = () if value == {"$remove": True} else (value,)
        assert tuple(map(plain, value_at(block, path))) == expected
    crm.ledger.overrides.reset("globex", "field_mapping", "contacts")
    after = customised(files, "globex", "crm", crm.ledger.overrides.of("globex"))
    assert after.block("field_mapping", "contacts", **layer) == before
