"""Whatever stands at any place of any file, `check` answers, and says that this file is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from membrane_sync.project.project import Project
from membrane_sync.project.references import check
from tests.project.projects import VALID, valid_project

FILES = sorted(path.relative_to(VALID) for path in VALID.rglob("*.yaml"))
ODD: list[Any] = [None, 7, "x", {"$x": 1}, [{"key": []}]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path in the value, itself first."""
    yield path
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, step))


def put(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    value[path[0]] = put(value[path[0]], path[1:], odd)
    return value


@pytest.mark.parametrize("file", FILES, ids=str)
def test_odd_values(file: Path, tmp_path: Path) -> None:
    path = valid_project(tmp_path) / file
    value = yaml.safe_load(path.read_text())
    blamed = 0
    for place in places(value):
        for odd in ODD:
            path.write_text(yaml.safe_dump(put(deepcopy(value), place, odd)))
            problems = check(Project.load(tmp_path, {}))
            assert all(problem.file and problem.line and problem.message for problem in problems)
            blamed += any(problem.file == file.as_posix() for problem in problems)
    assert blamed >= len(ODD) / 2, "odd values hardly ever matter here"
