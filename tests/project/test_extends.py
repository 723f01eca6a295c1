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
