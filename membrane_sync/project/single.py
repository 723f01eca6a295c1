"""One field mapping out of one file, which need not be in a project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from membrane_sync.elements.base import KEY_PATTERN, IsFormula, IsSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.errors import Problem, ProjectError
from membrane_sync.formulas import check as check_formula
from membrane_sync.project.keys import snake_keys
from membrane_sync.project.located import Block, problem_at
from membrane_sync.project.membrane_words import KEPT_BY_MEMBRANE
from membrane_sync.project.schema_check import problems as schema_problems
from membrane_sync.project.validation import validated
from membrane_sync.project.walk import marked_values
from membrane_sync.project.yaml_file import YamlProblem, read_yaml


def read_field_mapping(path: Path) -> tuple[FieldMapping, list[Problem]]:
    """The field mapping of a file, in either spelling, and what its formulas and schema get wrong.

    ProjectError if the file can't be read or isn't a field mapping.
    """
    try:
        block = snake_keys(FieldMapping, _own_keys(read_yaml(path, str(path))))
    except YamlProblem as error:
        raise ProjectError(error.problems) from None
    if "key" not in block:
        key = path.stem if re.match(KEY_PATTERN, path.stem) else "mapping"
        block.put("key", key, block.mark)
    mapping = cast(FieldMapping, validated("field_mapping", block))
    return mapping, _problems(block)


def _own_keys(block: Block) -> Block:
    """Without the books that Membrane keeps of an exported file, which say nothing of it."""
    result = Block(block.mark)
    for key, value in block.items():
        if key != "dataSourceKey" and not KEPT_BY_MEMBRANE.fullmatch(key):
            result.put(key, value, block.marks[key])
    return result


def _problems(block: Block) -> list[Problem]:
    name = f"field_mapping {block['key']}"
    found = []
    for marked in marked_values(FieldMapping, block):
        if isinstance(marked.marker, IsFormula):
            inner = [(problem.path, problem.message) for problem in check_formula(marked.value)]
        elif isinstance(marked.marker, IsSchema):
            inner = list(schema_problems(marked.value))
        else:
            continue
        for path, message in inner:
            found.append(problem_at(block, (*marked.path, *path), message, name))
    return found
