"""Public mappings give what Membrane's own engine gives, save for the corrections listed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.formulas import MISSING, check, evaluate, evaluate_fields

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "vectors" / "field_mappings.json"
VECTORS: dict[str, Any] = json.loads(
    (SHARED if SHARED.exists() else Path(__file__).with_name("vectors.json")).read_text("utf-8")
)

CORRECTED: dict[int, tuple[int, dict[str, Any]]] = {
    57: (2, {"assigneeId": "", "ownerId": ""}),  # $.assignees[0] of [""]
    185: (2, {"contactId": ""}),  # contact_ids[0] of [""]
    210: (2, {"companyId": None}),  # $.company_ids[0] of [null]
    211: (2, {"companyId": None}),  # $.company_ids[0] of [null]
}
"""By case number: the quirk that is corrected, and the fields that Membrane loses by it."""

NOT_CHECKABLE = {
    "keap/contacts": "an older $iterate, with locator and items",
    "keap/users": "an older $iterate, with locator and items",
}
"""Mappings that Membrane itself no longer understands, and what for."""


def template(case: dict[str, Any]) -> Any:
    return VECTORS["templates"][case["mapping"]][f"{case['direction']}Value"]


def expected(number: int, case: dict[str, Any]) -> Any:
    if case["expected"] == {"$undefined": True}:
        return MISSING
    return case["expected"] | CORRECTED.get(number, (0, {}))[1]


def typed(value: Any) -> str:
    return "MISSING" if value is MISSING else json.dumps(value, sort_keys=True)


def numbered() -> list[Any]:
    cases = enumerate(VECTORS["cases"])
    return [
        pytest.param(n, case, id=f"{n} {case['mapping']} {case['direction']}") for n, case in cases
    ]


def test_there_are_456_vectors() -> None:
    assert len(VECTORS["cases"]) == 456
    assert "MIT" in VECTORS["source"]


@pytest.mark.parametrize(("number", "case"), numbered())
def test_vector(number: int, case: dict[str, Any]) -> None:
    value = evaluate(template(case), case["record"])
    assert typed(value) == typed(expected(number, case))


@pytest.mark.parametrize("number", CORRECTED)
def test_only_what_is_corrected_is_listed(number: int) -> None:
    case = VECTORS["cases"][number]
    assert typed(evaluate(template(case), case["record"])) != typed(case["expected"])


@pytest.mark.parametrize(("number", "case"), numbered())
def test_field_by_field_gives_the_same(number: int, case: dict[str, Any]) -> None:
    value, errors = evaluate_fields(template(case), case["record"])
    assert errors == []
    assert typed(value) == typed(expected(number, case))


@pytest.mark.parametrize("mapping", VECTORS["templates"])
def test_public_mappings_check(mapping: str) -> None:
    problems = [p for part in VECTORS["templates"][mapping].values() for p in check(part)]
    assert bool(problems) == (mapping in NOT_CHECKABLE), problems


def test_the_copy_is_the_same_where_both_are_present() -> None:
    copy = json.loads(Path(__file__).with_name("vectors.json").read_text("utf-8"))
    assert copy == VECTORS
