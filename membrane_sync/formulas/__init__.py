"""Membrane's formula language: values computed from a record, written as plain data."""

from membrane_sync.formulas import functions as _functions  # importing these registers operators
from membrane_sync.formulas import jsonata as _jsonata  # noqa: F401
from membrane_sync.formulas import patterns as _patterns  # noqa: F401
from membrane_sync.formulas import texts as _texts  # noqa: F401
from membrane_sync.formulas.check import Problem, check, variables
from membrane_sync.formulas.errors import FieldError, FormulaError
from membrane_sync.formulas.evaluator import OPERATORS, evaluate, evaluate_fields
from membrane_sync.formulas.values import MISSING

NOT_RUNNABLE = _functions.NOT_RUNNABLE

__all__ = [
    "MISSING",
    "NOT_RUNNABLE",
    "OPERATORS",
    "FieldError",
    "FormulaError",
    "Problem",
    "check",
    "evaluate",
    "evaluate_fields",
    "variables",
]
