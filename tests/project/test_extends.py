"""Collections that extend another one of their connector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors

BASE = """
name: All objects
id: $.uid
list:
  path: /objects/{kind}
  path_parameters: {kind: {$var: $.parameters.kind}}
  records: $.body.items
  pagination: {type: page, parameter: page}
  cursor: {field: $.at, type: integer, inclusive: true}
create: {method: POST, path: /objects}
"""


def project(root: Path, **collections: str) -> Project:
    files = {
        "connectors/crm/connector.yaml": "base_url: https://crm.test\n",
        "mappings/integrations/crm/integration.yaml": "name: CRM\n",
    }
    files |= {f"connectors/crm/data_collections/{k}.yaml": text for k, text in collections.items()}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Project.load(root, {})


def found(of: Project, key: str) -> DataCollection:
    return cast(DataCollection, of.find("data_collection", key, integration="crm"))


def problems(of: Project) -> list[str]:
    return [f"{p.file.rpartition('/')[2]}:{p.line} {p.message}" for p in errors(check(of))]


def test_what_is_not_said_is_inherited(tmp_path: Path) -> None:
    deals = (
        "extends: {collection: base, parameters: {kind: deals}}\nlist: {records: $.body.deals}\n"
    )
    of = project(tmp_path, base=BASE, deals=deals)
    collection = found(of, "deals")
    assert problems(of) == []
    assert (collection.key, collection.name, collection.id) == ("deals", None, "$.uid")
    assert collection.list_ is not None and collection.create is not None
    assert (collection.list_.path, collection.list_.records) == ("/objects/{kind}", "$.body.deals")
    assert collection.extends is not None and collection.extends.parameters == {"kind": "deals"}
    assert found(of, "base").extends is None


def test_what_is_not_supported_is_masked_and_a_way_replaces_another(tmp_path: Path) -> None:
    deals = """
extends: {collection: base}
create: {not_supported: true}
list: {graphql: "{ deals { id } }", records: $.body.data.deals}
"""
    of = project(tmp_path, base=BASE, deals=deals)
    collection = found(of, "deals")
    assert problems(of) == []
    assert collection.create is not None and collection.create.not_supported
    assert collection.list_ is not None
    assert (collection.list_.path, collection.list_.graphql) == (None, "{ deals { id } }")


DEEP = """
list: {path: /x}
deletes:
  endpoint: {path: /gone, records: $.body.gone, id: $.uid}
custom_fields: {path: /fields, records: $.body}
events:
  all:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    unsubscribe: {method: DELETE, path: /hooks}
    refresh: {method: PATCH, path: /hooks}
    state: {path: {$var: $.body.path}, function: {$var: $.body.function}}
    lifetime_seconds: 3600
    signature: {scheme: hmac, header: X-Signature, secret: {$var: $.secret}}
    handle: {type: {$var: $.body.change}, id: {$var: $.body.id}}
"""


def test_requests_further_below_are_masked_and_replaced_too(tmp_path: Path) -> None:
    masked = """
extends: {collection: base}
deletes: {full_scan: true, endpoint: {not_supported: true}}
custom_fields: {not_supported: true}
events: {all: {refresh: {not_supported: true}, unsubscribe: {function: bye}}}
"""
    again = """
extends: {collection: masked}
deletes: {endpoint: {function: bye}}
custom_fields: {function: bye}
events: {all: {refresh: {graphql: "mutation { renew }"}, state: {path: 7}}}
"""
    hooks = tmp_path / "connectors/crm/hooks.py"
    hooks.parent.mkdir(parents=True)
    hooks.write_text("def bye(scope):\n    return {'path': '/bye'}\n")
    of = project(tmp_path, base=DEEP, masked=masked, again=again)
    assert problems(of) == []
    one, two = found(of, "masked"), found(of, "again")
    assert one.deletes.endpoint is None and one.deletes.full_scan
    assert one.custom_fields is not None and one.custom_fields.not_supported
    assert one.events.all is not None and two.events.all is not None
    assert one.events.all.refresh is None and one.events.all.unsubscribe is not None
    gone = one.events.all.unsubscribe
    assert (gone.path, gone.function, gone.method) == (None, "bye", "DELETE")
    assert two.deletes.endpoint is not None and two.custom_fields is not None
    assert (two.deletes.endpoint.function, two.custom_fields.function) == ("bye", "bye")
    assert two.events.all.refresh is not None
    assert (two.events.all.refresh.path, two.events.all.refresh.graphql) == (
        None,
        "mutation { renew }",
    )
    state = {"path": 7, "function": {"$var": "$.body.function"}}
    assert two.events.all.state == state, "what only looks like a request isn't one"


@pytest.mark.parametrize(
    ("deals", "problem"),
    [
        ("delete: {not_supported: true, path: /x}", "deals.yaml:2 delete: a call needs exactly"),
        (
            "deletes:\n  endpoint: {not_supported: true, path: /x}",
            "deals.yaml:3 deletes.endpoint: ",
        ),
        ("list:\n  pagination:\n    type: cursor", "deals.yaml:4 list.pagination: "),
        ("list: 3", "deals.yaml:2 list: should be a mapping"),
    ],
)
def test_what_does_not_fit_names_the_file_and_the_line(
    deals: str, problem: str, tmp_path: Path
) -> None:
    of = project(tmp_path, base=BASE, deals=f"extends: {{collection: base}}\n{deals}\n")
    assert [found for found in problems(of) if found.startswith(problem)], problems(of)


def test_a_mixin_need_not_be_whole_and_a_chain_keeps_the_nearest(tmp_path: Path) -> None:
    base = "list: {records: $.body.x, pagination: {type: page, parameter: p}}\n"
    of = project(
        tmp_path,
        base=base,
        middle="extends: {collection: base, parameters: {a: 1, b: 1}}\nlist: {path: /m}\n",
        deals="extends: {collection: middle, parameters: {b: 2}}\nlist: {records: $.body.y}\n",
    )
    assert problems(of) == []
    collection = found(of, "deals")
    assert collection.list_ is not None and collection.extends is not None
    assert (collection.list_.path, collection.list_.records) == ("/m", "$.body.y")
    assert collection.extends.parameters == {"a": 1, "b": 2}


def test_problems_are_told_where_they_stand(tmp_path: Path) -> None:
    deals = "extends: {collection: base}\nlist:\n  pagination: {parameter: p, result_cap: 9}\n"
    (said,) = problems(project(tmp_path, base=BASE, deals=deals))
    assert said.startswith("deals.yaml:3 ") and "sorted: ascending" in said
    (missing,) = problems(project(tmp_path, base=BASE, deals="extends: {collection: bass}\n"))
    assert missing.startswith("deals.yaml:1 ") and "did you mean 'base'" in missing


@pytest.mark.parametrize(
    ("collections", "says"),
    [
        ({"a": "a"}, ["a → a"]),
        ({"a": "b", "b": "a"}, ["a → b → a", "b → a → b"]),
        ({"a": "b", "b": "b"}, ["a → b → b", "b → b"]),
    ],
)
def test_a_circle_is_refused(tmp_path: Path, collections: dict[str, Any], says: list[str]) -> None:
    text = "extends: {{collection: {}}}\nlist: {{path: /x}}\n"
    of = project(tmp_path, **{key: text.format(base) for key, base in collections.items()})
    assert [said.partition("itself: ")[2] for said in problems(of)] == says


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (
            "cursor: {field: $.at, type: timestamp, inclusive: true, window_seconds: 60}",
            "$.window.from",
        ),
        (
            "pagination: {type: page, parameter: p, result_cap: 9}\n"
            "  cursor: {field: $.at, type: integer, inclusive: true, sorted: ascending}",
            "doesn't use $.cursor",
        ),
        (
            "query: {since: {$var: $.cursor}}\n"
            "  pagination: {type: page, parameter: p, result_cap: 9, tie_break: {query: {}}}\n"
            "  cursor: {field: $.at, type: integer, inclusive: true, sorted: ascending}",
            "tie_break doesn't use $.tie",
        ),
        ("pagination: {type: graphql, parameter: a, page_info: $.p}", "needs a request by graphql"),
        ("pagination: {type: keyset, parameter: a, result_cap: 9}", "can't be read beyond"),
        ("pagination: {type: page, parameter: p, result_cap: 9, page_size: 10}", "more than the"),
    ],
)
def test_a_request_must_send_what_is_relied_on(tmp_path: Path, listed: str, says: str) -> None:
    said = problems(project(tmp_path, a=f"list:\n  path: /x\n  {listed}\n"))
    assert says in said[0]
