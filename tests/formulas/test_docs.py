"""The formula page runs: every example gives what it says, every operator has its heading."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from membrane_sync.formulas import ASKING, OPERATORS, evaluate
from membrane_sync.formulas.filters import COMPARISONS, FILTERS

PAGE = (Path(__file__).parents[2] / "docs" / "formulas.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml formula\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
HEADINGS = re.findall(r"^### `(\$\w+)`", PAGE, re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_example(text: str) -> None:
    example: dict[str, Any] = yaml.safe_load(text)
    assert set(example) == {"given", "formula", "gives"}
    value = evaluate(example["formula"], example["given"])
    assert json.dumps(value, sort_keys=True) == json.dumps(example["gives"], sort_keys=True)


def test_every_operator_has_one_heading() -> None:
    assert sorted(HEADINGS) == sorted(OPERATORS)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_has_an_example(name: str) -> None:
    """Of those that need a project it's a file, which tests/docs check."""
    section = PAGE.split(f"### `{name}`", 1)[1].split("\n### ", 1)[0]
    fence = "```yaml\n# mappings" if name in {*ASKING, "$python"} else "```yaml formula"
    assert fence in section
    assert name in section.split(fence, 1)[1]


@pytest.mark.parametrize("name", sorted({*COMPARISONS, *FILTERS}))
def test_every_comparison_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("quirk", range(1, 7))
def test_every_correction_is_described(quirk: int) -> None:
    assert re.search(
        rf"^{quirk}\. \*\*", PAGE.split("## Differences from Membrane")[1], re.MULTILINE
    )
