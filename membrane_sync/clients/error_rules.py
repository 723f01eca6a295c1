"""Which error rule an answer meets, and what an answer without one means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    value = evaluate(rule.when, _scope(answer), strict=False)
    return value is not MISSING and bool(value)


def replaced_body(rule: ErrorRule, answer: Answer) -> Answer:
    """The answer with the body that the rule gives it; as it is, if it gives none."""
    if rule.body is None:
        return answer
    value = evaluate(rule.body, _scope(answer), strict=False)
    body = None if value is MISSING else value
    return Answer(answer.status, answer.headers, body, answer.url)


def _scope(answer: Answer) -> dict[str, Any]:
    """What formulas see of an answer; `data` is Membrane's word for its body."""
    body = answer.body
    return {"status": answer.status, "headers": answer.headers, "body": body, "data": body}
