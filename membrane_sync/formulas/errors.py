"""What goes wrong in a formula: an error that says where, in which operator, and why."""

from __future__ import annotations

from dataclasses import dataclass

from membrane_sync.formulas.values import Value


class FormulaError(ValueError):
    """A formula could not give its value.

    `path` is the place of the failing formula in the template, such as `full_name.$concat[0]`
    (empty for the template itself); `value` is what it failed on, always a JSON value. The message
    carries no values of the record, so that it can be logged.
    """

    def __init__(self, path: str, operator: str, value: Value, reason: str) -> None:
        super().__init__(path, operator, value, reason)
        self.path = path
        self.operator = operator
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.operator} {self.reason}".strip()
        return f"{self.path}: {text}" if self.path else text


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a record that has no value, kept so that the record can be repaired later."""

    field: str
    formula: Value
    value: Value
    reason: str
