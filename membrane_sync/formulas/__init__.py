"""Membrane's formula language: values computed from a record, written as plain data."""

from membrane_sync.formulas import functions as _functions  # noqa: F401  # registers operators
from membrane_sync.formulas import jsonata as _jsonata  # noqa: F401
from membrane_sync.formulas import lookups as _lookups
from membrane_sync.formulas import patterns as _patterns  # noqa: F401
from membrane_sync.formulas import python as _python  # noqa: F401
from membrane_sync.formulas import texts as _texts  # noqa: F401
from membrane_sync.formulas.check import Problem, check, variables
from membrane_sync.formulas.errors import FieldError, FormulaError
from membrane_sync.formulas.evaluator import OPERATORS, evaluate, evaluate_fields
from membrane_sync.formulas.values import MISSING

ASKING = _lookups.ASKING

__all__ = [
    "ASKING",
    "MISSING",
    "OPERATORS",
    "FieldError",
    "FormulaError",
    "Problem",
    "check",
    "evaluate",
    "evaluate_fields",
    "variables",
]
