"""Which error rule an answer meets, and what an answer without one means."""

from __future__ import annotations

from collections.abc import Sequence

from membrane_sync.elements.request import ErrorRule
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.records import Answer, Call

_CONDITIONS = ("if-none-match", "if-modified-since")


def rule_for(answer: Answer, rules: Sequence[ErrorRule]) -> ErrorRule | None:
    """The first rule that the answer meets."""
    return next((rule for rule in rules if _matches(rule, answer)), None)


def is_good(call: Call, answer: Answer) -> bool:
    """Whether it's what was asked for: 2xx, or 304 to a conditional request."""
    if 200 <= answer.status < 300:
        return True
    return answer.status == 304 and any(name.lower() in _CONDITIONS for name in call.headers)


def _matches(rule: ErrorRule, answer: Answer) -> bool:
    if rule.status and answer.status not in rule.status:
        return False
    if any(answer.headers.get(name.lower()) != value for name, value in rule.header.items()):
        return False
    if rule.when is None:
        return True
    scope = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    value = evaluate(rule.when, scope, strict=False)
    return value is not MISSING and bool(value)
