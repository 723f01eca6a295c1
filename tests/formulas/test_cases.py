"""Run the cases in cases/*.yaml, which describe the language as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from membrane_sync.formulas import MISSING, FormulaError, evaluate

CASES = Path(__file__).parent / "cases"
OUTCOMES = ("gives", "missing", "fails")


def load() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8")):
            for number, case in enumerate(group["cases"]):
                given = case.get("given", group.get("given", {}))
                name = f"{path.stem}: {group['name']}: {case.get('name', number)}"
                found.append(pytest.param(given, case, id=name))
    return found


@pytest.mark.parametrize(("given", "case"), load())
def test_case(given: Any, case: dict[str, Any]) -> None:
    assert sum(outcome in case for outcome in OUTCOMES) == 1, f"give one of {OUTCOMES}"
    if "fails" in case:
        with pytest.raises(FormulaError) as raised:
            evaluate(case["formula"], given)
        assert {name: getattr(raised.value, name) for name in case["fails"]} == case["fails"]
    elif "missing" in case:
        assert evaluate(case["formula"], given) is MISSING
    else:
        assert typed(evaluate(case["formula"], given)) == typed(case["gives"])


def typed(value: Any) -> str:
    """The value as text, in which true is not 1."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def test_there_are_cases_in_every_file() -> None:
    assert len(load()) > 200
    assert all(yaml.safe_load(path.read_text(encoding="utf-8")) for path in CASES.iterdir())
