"""The unified data models of the package load, refer to one another, and fill in each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from membrane_sync.elements.unified_data_model import UnifiedDataModel
from membrane_sync.formulas import check, evaluate, variables
from membrane_sync.formulas.inference import schema_at
from membrane_sync.formulas.locators import parse
from membrane_sync.formulas.transform import fill_fields, transform_variables
from membrane_sync.project.schema_check import problems
from membrane_sync.udm import model_keys, model_text
from tests.fixtures import REPOSITORY

KEYS = model_keys()
COMMON = ["createdTime", "createdBy", "updatedTime", "updatedBy"]
FALLBACKS = {
    "activities": ["tasks", "meetings", "notes", "emails"],
    "contact-lists": ["campaigns"],
    "customers": ["companies"],
    "emails": ["activities"],
    "employees": ["users"],
    "leads": ["contacts"],
    "meetings": ["activities"],
    "notes": ["activities"],
    "suppliers": ["companies"],
    "tasks": ["activities"],
}


def load_model(key: str) -> UnifiedDataModel:
    return UnifiedDataModel.model_validate({"key": key, **yaml.safe_load(model_text(key))})


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("referenceUdm"), str):
            yield schema["referenceUdm"]
        for part in schema.values():
            yield from references(part)


def known(model: UnifiedDataModel, locators: set[str]) -> bool:
    return all(schema_at(model.fields_schema, parse(locator)) for locator in locators)


def test_there_are_43() -> None:
    assert len(KEYS) == 43
    page = (REPOSITORY / "docs/elements.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in KEYS), "docs/elements.md lists them"
    assert {"contacts", "companies", "deals", "job-candidates", "timeoff-requests"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_model(key: str) -> None:
    model = load_model(key)
    assert model.key == key
    assert model.singular_name and model.plural_name
    assert list(problems(model.fields_schema)) == []
    fields = list(model.fields_schema["properties"])
    assert [fields[0], *fields[-4:]] == ["id", *COMMON]
    assert len(fields) > 5
    assert set(references(model.fields_schema)) <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_methods_name_fields_that_exist(key: str) -> None:
    model = load_model(key)
    for method in model.methods.values():
        for names in method.values():
            assert set(names) <= set(model.fields_schema["properties"])


def test_fallbacks_are_these() -> None:
    found = {key: [f.udm for f in load_model(key).udm_fallbacks] for key in KEYS}
    assert {key: models for key, models in found.items() if models} == FALLBACKS


@pytest.mark.parametrize("key", FALLBACKS)
def test_fallback_models_translate_fields_that_exist(key: str) -> None:
    model = load_model(key)
    for fallback in model.udm_fallbacks:
        other = load_model(fallback.udm)
        for source, target, fields in (
            (other, model, fallback.import_fields or {}),
            (model, other, fallback.export_fields or {}),
        ):
            assert check(fields) == []
            assert known(source, variables(fields))
            assert set(fields) <= set(target.fields_schema["properties"])


@pytest.mark.parametrize("key", KEYS)
def test_field_fallbacks_read_and_give_fields_that_exist(key: str) -> None:
    model = load_model(key)
    for field, formulas in model.field_fallbacks.items():
        assert known(model, {field})
        assert check(formulas) == []
        assert known(model, variables(formulas))


NATIVE = {
    "fullName": {"$var": "$.n"},
    "primaryEmail": {"$var": "$.m"},
    "addresses": [{"city": {"$var": "c"}}],
}
UNIVERSAL = {
    "first": {"$var": "firstName"},
    "last": {"$upper": {"$var": "lastName"}},
    "mail": {"$var": "emails[0].value"},
    "phone": {"$var": "primaryPhone"},
    "city": {"$var": "primaryAddress.city"},
}


@pytest.mark.parametrize("key", ["contacts", "leads", "users"])
def test_one_universal_mapping_serves_an_app_that_knows_other_fields(key: str) -> None:
    fields = fill_fields(NATIVE, load_model(key).field_fallbacks)
    mapping = transform_variables(UNIVERSAL, fields)
    assert mapping == {
        "first": {"$firstName": {"$var": "$.n"}},
        "last": {"$upper": {"$lastName": {"$var": "$.n"}}},
        "mail": {"$var": "$.m"},
        "city": {"$var": "c"},
    }
    record = {"n": "Ada Lovelace", "m": "ada@example.org", "c": "London"}
    assert evaluate(mapping, record) == {
        "first": "Ada", "last": "LOVELACE", "mail": "ada@example.org", "city": "London",
    }  # fmt: skip
