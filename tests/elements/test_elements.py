"""Each kind has its module, its folder and its strict model, and says where its behaviour is."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import membrane_sync
from membrane_sync.elements import CONNECTOR_KINDS, KINDS, LAYERED_KINDS, Authentication, folder_of
from membrane_sync.elements.base import KEY_PATTERN, Spec
from membrane_sync.elements.data_collection import Cursor, Pagination
from membrane_sync.elements.request import Request, expand_path

PACKAGE = Path(membrane_sync.__file__).parent
ALL: dict[str, type[Spec]] = {**KINDS, "authentication": Authentication}


def all_models() -> list[type[Spec]]:
    """Every model an element is made of."""
    waiting: list[type[Any]] = list(ALL.values())
    found: dict[type[Spec], None] = {}
    while waiting:
        model = waiting.pop()
        if model in found:
            continue
        found[model] = None
        for info in model.model_fields.values():
            waiting += [part for part in parts(info.annotation) if issubclass(part, BaseModel)]
    return sorted(found, key=lambda model: model.__name__)


def parts(annotation: Any) -> list[type[Any]]:
    inner = [part for argument in typing.get_args(annotation) for part in parts(argument)]
    return [annotation, *inner] if isinstance(annotation, type) else inner


@pytest.mark.parametrize("kind", ALL)
def test_module_and_class_are_named_after_the_kind(kind: str) -> None:
    model = ALL[kind]
    assert model.__module__ == f"membrane_sync.elements.{kind}"
    assert model.__name__ == "".join(word.capitalize() for word in kind.split("_"))


@pytest.mark.parametrize("kind", KINDS)
def test_folder_is_the_plural(kind: str) -> None:
    assert folder_of(kind) == f"{kind}s"


def test_every_kind_has_its_place() -> None:
    heads = {"connector", "integration", "connection", "package"}
    assert heads | set(CONNECTOR_KINDS) | set(LAYERED_KINDS) == set(KINDS)


def test_a_package_may_hold_every_layered_kind() -> None:
    fields = KINDS["package"].model_fields
    assert {folder_of(kind) for kind in LAYERED_KINDS} <= set(fields)


@pytest.mark.parametrize("kind", ALL)
def test_docstring_names_where_the_behaviour_is(kind: str) -> None:
    said = inspect.getdoc(sys.modules[ALL[kind].__module__]) or ""
    named = re.findall(r"`([a-z_]+/(?:[a-z_]+\.py)?)`", said)
    assert named or "until then it's declared and checked" in said
    for place in named:
        assert (PACKAGE / place).exists(), f"{kind}: there is no {place}"


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_models_refuse_unknown_keys_and_keep_still(model: type[Spec]) -> None:
    assert model.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"no_such_key": 1})
    unknown = [error for error in caught.value.errors() if error["type"] == "extra_forbidden"]
    assert [error["loc"] for error in unknown] == [("no_such_key",)]
    assert model.model_config["frozen"]
    assert model.model_config["strict"]


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_every_model_says_what_it_is(model: type[Spec]) -> None:
    assert model.__doc__


@pytest.mark.parametrize("path", sorted((PACKAGE / "elements").glob("*.py")), ids=lambda p: p.stem)
def test_elements_only_import_inwards(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    ours = [name for name in imported if name.startswith("membrane_sync.")]
    assert all(name.startswith(("membrane_sync.elements", "membrane_sync.errors")) for name in ours)


@pytest.mark.parametrize("key", ["contacts", "a", "_x", "Acme-2", "a" * 100])
def test_keys(key: str) -> None:
    assert re.fullmatch(KEY_PATTERN, key)


@pytest.mark.parametrize("key", ["", "-a", "a b", "a/b", "../a", "a.b", "ä", "a" * 101])
def test_no_keys(key: str) -> None:
    with pytest.raises(ValidationError):
        KINDS["data_link_table"].model_validate({"key": key})


def test_title_is_the_name_or_else_the_key() -> None:
    model = KINDS["data_link_table"]
    assert model(key="open_deals").title == "Open deals"
    assert model(key="open_deals", name="Deals we may win").title == "Deals we may win"


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("a b/c", "a%20b%2Fc"),
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        (True, "true"),
        ("{x}", "%7Bx%7D"),
    ],
)
def test_path_parameters_are_encoded(value: Any, segment: str) -> None:
    assert expand_path("/a/{id}/b", {"id": value, "x": "no"}) == f"/a/{segment}/b"


@pytest.mark.parametrize(
    "ways", [{}, {"path": "/a", "function": "f"}, {"graphql": "q", "function": "f"}]
)
def test_a_request_is_one_call(ways: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="exactly one of"):
        Request.model_validate(ways)


@pytest.mark.parametrize(
    ("pagination", "says"),
    [
        ({"type": "cursor"}, "parameter and next"),
        ({"type": "next_url"}, "next"),
        ({"type": "none", "page_size_parameter": "limit"}, "needs page_size"),
    ],
)
def test_pagination_is_complete(pagination: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Pagination.model_validate(pagination)


SAFE: list[dict[str, Any]] = [
    {"unique": True},
    {"lag_seconds": 1, "granularity": "second"},
    {"inclusive": True},
]


@pytest.mark.parametrize("safe", SAFE)
def test_cursors_that_lose_nothing(safe: dict[str, Any]) -> None:
    cursor = {"field": "$.at", "type": "integer", "inclusive": False, **safe}
    assert Cursor.model_validate(cursor).field == "$.at"
