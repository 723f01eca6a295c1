"""Evaluating a formula: walk the template, run its operators, drop what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from membrane_sync.formulas.copies import Copy, CopyFailure, resolve_copies
from membrane_sync.formulas.errors import FieldError, FormulaError
from membrane_sync.formulas.values import (
    MAX_SIZE,
    MISSING,
    Step,
    TooMuch,
    Value,
    path_text,
    size_of,
)

MAX_DEPTH: Final = 600
"""Levels a formula may nest: an operator, a list and an object count one each.

Operators also use up Python's own limit on nested calls, so some may stop sooner, though 200 of
them within one another work. Either way the answer is a FormulaError.
"""

MAX_SECONDS: Final = 60.0
"""After so long an evaluation makes nothing more; most take less than a millisecond."""

SMALL: Final = 10_000
"""What may be made of items and texts without a look at the size of the result."""

TOO_MUCH: Final = (
    f"takes more than {MAX_SECONDS:.0f} seconds, or makes more than {MAX_SIZE:,} characters"
)
TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep, or deeper than Python can follow"


class Where(NamedTuple):
    """A place in the template, as a chain from the inside out: cheap to make, read on errors."""

    parent: Where | None
    step: Step
    depth: int

    def inside(self, *steps: Step) -> Where:
        """A place further in; however many steps it takes, it is one level deeper."""
        place = self
        for step in steps:
            place = Where(place, step, self.depth + 1)
        return place

    def __str__(self) -> str:
        steps: list[Step] = []
        place = self
        while place.parent is not None:
            steps.append(place.step)
            place = place.parent
        return path_text(reversed(steps))


ROOT: Final = Where(None, "$", 0)


@dataclass(slots=True)
class Call:
    """What an operator that evaluates its own arguments is given.

    `build(part, scope, at(*steps))` evaluates a part of the arguments; `spend(size)` is to be
    called with the size of what is made, before it's made, so that no evaluation goes on for ever.
    """

    operator: str
    args: Value
    formula: dict[str, Value]
    scope: Value
    where: Where
    build: Callable[[Value, Value, Where], Value]
    spend: Callable[[int], None]
    strict: bool = True

    def option(self, name: str) -> Value:
        """The argument of this name, unevaluated; MISSING where the arguments have no names."""
        return self.args.get(name, MISSING) if isinstance(self.args, dict) else MISSING

    def at(self, *steps: Step) -> Where:
        """The place of a part of the arguments."""
        return self.where.inside(self.operator, *steps)

    def error(self, value: Value, reason: str) -> FormulaError:
        """The error that says that this formula failed on this value."""
        return FormulaError(str(self.where), self.operator, value, reason)

    def unusable(self, value: Value, reason: str) -> Value:
        """MISSING where failures are to be silent; else that error is raised."""
        if self.strict:
            raise self.error(value, reason)
        return MISSING


ValueFunction: TypeAlias = Callable[[Value], Value]
CallFunction: TypeAlias = Callable[[Call], Value]


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the language: of its evaluated argument, or (lazy) of the call itself."""

    name: str
    function: ValueFunction | None = None
    lazy: CallFunction | None = None


OPERATORS: Final[dict[str, Operator]] = {}
"""Every operator by its name, `$concat`."""


def formula(name: str) -> Callable[[ValueFunction], ValueFunction]:
    """Register an operator whose argument is evaluated first; ValueError says it can't be used."""

    def register(function: ValueFunction) -> ValueFunction:
        OPERATORS[name] = Operator(name, function=function)
        return function

    return register


def lazy_formula(name: str) -> Callable[[CallFunction], CallFunction]:
    """Register an operator that picks which of its arguments to evaluate, and in which scope."""

    def register(function: CallFunction) -> CallFunction:
        OPERATORS[name] = Operator(name, lazy=function)
        return function

    return register


def operator_of(node: dict[str, Value]) -> Operator | None:
    """The operator of a formula, which its first key names; None for a plain object."""
    first = next(iter(node), None)
    return OPERATORS.get(first) if isinstance(first, str) else None


def evaluate(formula: Value, scope: Value, strict: bool = True) -> Value:
    """Give the formula's value for this scope, MISSING if it has none; FormulaError if it fails.

    Neither argument is changed, but the value may share parts with them. Not strict means that
    an operator that can't use a value gives MISSING, as in Membrane.

    >>> evaluate({"name": {"$concat": [{"$var": "$.first"}, "!"]}}, {"first": "Ada"})
    {'name': 'Ada!'}
    """
    evaluation = _Evaluation(strict)
    value = evaluation.run(formula, scope, ROOT)
    for failure in resolve_copies(value) if evaluation.copies else ():
        raise _copy_error(failure)
    if evaluation.is_too_large([value]):
        raise FormulaError("", "", None, TOO_MUCH)
    return value


def evaluate_fields(template: Value, scope: Value) -> tuple[Value, list[FieldError]]:
    """Give the value of an object template without the fields that fail, and those failures.

    A template that is itself a formula counts as one field named `$`.
    """
    if not isinstance(template, dict) or operator_of(template) is not None:
        return _whole(template, scope)
    evaluation = _Evaluation(strict=True)
    fields: dict[str, Value] = {}
    errors: list[FieldError] = []
    for key, formula in template.items():
        try:
            value = evaluation.run(formula, scope, ROOT.inside(key))
        except FormulaError as error:
            errors.append(evaluation.told(str(key), formula, error))
        else:
            fields.update({} if value is MISSING else {key: value})
    value = fields if fields or not template else MISSING
    if evaluation.copies:
        errors += _copy_errors(template, fields)
    if evaluation.is_too_large(fields.values()):
        errors += _size_errors(template, fields)
    return (MISSING if errors and not fields else value), errors


class _Evaluation:
    """One evaluation: its mode, and whether any `$copy` waits for the finished result."""

    __slots__ = ("copies", "ends", "left", "strict")

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.copies = False
        self.left = MAX_SIZE
        self.ends = 0.0

    def spend(self, size: int) -> None:
        """Count what is made; raises TooMuch, as all who come after it will."""
        self.left -= size
        now = time.monotonic()
        self.ends = self.ends or now + MAX_SECONDS
        if self.left < 0 or now > self.ends:
            self.left = -1
            raise TooMuch

    def is_too_large(self, values: Iterable[Value]) -> bool:
        """Whether these take more characters than may be given, as items may refer to the whole."""
        made = MAX_SIZE - self.left
        return made > SMALL and size_of([*values]) > MAX_SIZE

    def told(self, key: str, formula: Value, error: FormulaError) -> FieldError:
        """The error of a field, without its value if that's too large to be kept."""
        value = MISSING if self.is_too_large([error.value]) else error.value
        return FieldError(key, formula, value, str(error))

    def run(self, node: Value, scope: Value, where: Where) -> Value:
        try:
            return self._build(node, scope, where)
        except RecursionError:
            raise FormulaError(str(where), "", None, TOO_DEEP) from None
        except TooMuch:
            raise FormulaError(str(where), "", None, TOO_MUCH) from None

    def _build(self, node: Value, scope: Value, where: Where) -> Value:
        # One long function on purpose: every helper here would cost a call on each level,
        # and so halve how deep a formula can nest before Python's own limit.
        if where.depth > MAX_DEPTH:
            raise FormulaError(str(where), "", None, TOO_DEEP)
        if isinstance(node, dict):
            operator = operator_of(node)
            if operator is None:
                fields: dict[str, Value] = {}
                for key, item in node.items():
                    value = self._build(item, scope, where.inside(key))
                    if value is not MISSING:
                        fields[key] = value
                return fields if fields or not node else MISSING
            args = node[operator.name]
            if operator.lazy is not None:
                call = Call(
                    operator.name, args, node, scope, where, self._build, self.spend, self.strict
                )
                value = operator.lazy(call)
                self.copies = self.copies or isinstance(value, Copy)
                return value
            value = self._build(args, scope, where.inside(operator.name))
            return self._apply(operator, value, where)
        if isinstance(node, (list, tuple)):
            items: list[Value] = []
            for index, item in enumerate(node):
                value = self._build(item, scope, where.inside(index))
                if value is not MISSING:
                    items.append(value)
            return items if items or not node else MISSING
        return node

    def _apply(self, operator: Operator, value: Value, where: Where) -> Value:
        assert operator.function is not None  # an operator has one of the two
        try:
            result = operator.function(value)
        except ValueError as error:
            if self.strict:
                raise FormulaError(str(where), operator.name, value, str(error)) from None
            return MISSING
        self.spend(len(result) if isinstance(result, str) else 1)
        return result


def _whole(template: Value, scope: Value) -> tuple[Value, list[FieldError]]:
    try:
        return evaluate(template, scope), []
    except FormulaError as error:
        return MISSING, [FieldError("$", template, error.value, str(error))]


def _copy_errors(template: dict[str, Value], fields: dict[str, Value]) -> list[FieldError]:
    """Fill in the copies, and take the fields whose copies fail out of the result."""
    errors = []
    for failure in resolve_copies(fields):
        key: Value = failure.steps[0]
        fields.pop(key, None)
        error = _copy_error(failure)
        errors.append(FieldError(str(key), template[key], error.value, str(error)))
    return errors


def _size_errors(template: dict[str, Value], fields: dict[str, Value]) -> list[FieldError]:
    """Take the fields with which the result would be too large out of it."""
    errors, size = [], 0
    for key, value in [*fields.items()]:
        size += (own := size_of(value))
        if size > MAX_SIZE:
            size -= own
            del fields[key]
            errors.append(FieldError(str(key), template[key], MISSING, f"{key}: {TOO_MUCH}"))
    return errors


def _copy_error(failure: CopyFailure) -> FormulaError:
    value = None if failure.locator is MISSING else failure.locator
    return FormulaError(path_text(failure.steps), "$copy", value, failure.reason)
