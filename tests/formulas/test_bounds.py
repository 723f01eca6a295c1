"""No expression and no pattern hangs, fills the memory, or reaches the next record."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from membrane_sync.formulas import (
    MISSING,
    FormulaError,
    check,
    evaluate,
    evaluate_fields,
    evaluator,
    jsonata,
    patterns,
)
from membrane_sync.formulas.jsonata_worker import HARD_SECONDS, answer
from membrane_sync.formulas.plan import compile
from membrane_sync.project.shape import shaped

RECORD = {"x": "x" * 40 + "!", "n": [1, 2, 3], "secret": "hunter2"}


@pytest.fixture(autouse=True)
def _no_workers() -> Iterator[None]:
    jsonata.close()
    yield
    jsonata.close()


def expression(text: str) -> Any:
    return evaluate({"$jsonata": text}, RECORD)


HOSTILE = {
    "endless loop": ("($f := function($x) { $f($x) }; $f(1))", "takes too long"),
    "endless calls": ("($f := function($x) { 1 + $f($x) }; $f(1))", "calls functions too deep"),
    "endless calls in a list": ("($f := function($x) { [$f($x)] }; $f(1))", "too deep"),
    "growing text": ('($f := function($s) { $f($s & $s) }; $f("x"))', "too long|memory"),
    "growing list": ('($f := function($s) { $f([$s, $s]) }; $f("x"))', "too long|memory|large"),
    "long text": ('$pad("x", 2000000000)', "too much memory"),
    "long answer": ('$pad("x", 20000000)', "too large"),
    "long list": ("[1..10000000]", "too much memory|too large|too long"),
    "many steps": ("[1..1e6].[1..1e6]", "too long|memory"),
    "deep nesting": ("(" * 3000 + "1" + ")" * 3000, "nested too deep"),
    "pattern": ("$match(x, /(x+x+)+y/)", ""),
    "large pattern": ("$match(x, /((((a{0,30}){0,30}){0,30}){0,30})/)", "pattern"),
}


@pytest.mark.parametrize(("text", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_expression_ends(text: str, reason: str) -> None:
    started = time.monotonic()
    if reason:
        with pytest.raises(FormulaError, match=reason):
            expression(text)
    else:
        expression(text)
    assert time.monotonic() - started < HARD_SECONDS + 3
    assert expression("$sum(n)") == 6


def test_a_builtin_that_does_not_stop_is_ended_with_its_process() -> None:
    started = time.monotonic()
    with pytest.raises(FormulaError, match=jsonata.TOO_MUCH):
        expression("$distinct([1..1000000])")
    assert HARD_SECONDS - 0.5 < time.monotonic() - started < HARD_SECONDS + 3
    assert expression("1 + 1") == 2


def test_not_strict_is_silent() -> None:
    assert evaluate({"a": {"$jsonata": "1 +"}, "b": 1}, {}, strict=False) == {"b": 1}


def test_nothing_is_left_for_the_next_record() -> None:
    assert expression("($y := secret; $y)") == "hunter2"
    assert expression("$y") is MISSING
    assert [evaluate({"$jsonata": "n"}, {"n": n}) for n in range(3)] == [0, 1, 2]


def test_an_expression_may_be_used_for_longer_than_one_evaluation_may_take() -> None:
    assert expression("$sum(n)") == 6
    time.sleep(1.1)
    assert expression("$sum(n)") == 6


@pytest.mark.parametrize(
    "text",
    ["$number(secret)", "$error(secret)", "$assert(false, secret)", "secret + 1", "$sqrt(secret)"],
)
def test_errors_do_not_show_the_record(text: str) -> None:
    with pytest.raises(FormulaError) as raised:
        expression(text)
    assert "hunter2" not in str(raised.value)
    assert raised.value.value == text


def test_records_that_are_no_json_are_an_error() -> None:
    with pytest.raises(FormulaError, match="not JSON"):
        evaluate({"$jsonata": "a"}, {"a": object()})


def test_unicode_and_numbers_survive() -> None:
    record = {"t": "ü\u2028\ud800\n", "big": 12345678901234567890123, "f": 1.5, "b": True}
    assert evaluate({"$jsonata": "$"}, record) == record


def test_threads_get_their_own_answers() -> None:
    def run(n: int) -> Any:
        return evaluate({"$jsonata": "n * 2"}, {"n": n})

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(200))) == [n * 2 for n in range(200)]


def test_a_process_that_was_ended_from_outside_is_replaced() -> None:
    assert expression("1") == 1
    [worker] = jsonata._IDLE
    worker.process.kill()
    worker.process.wait()
    assert expression("2") == 2


def test_a_process_of_the_parent_is_not_used_after_a_fork() -> None:
    assert expression("1") == 1
    [worker] = jsonata._IDLE
    child = os.fork()
    if child == 0:
        os._exit(0 if not worker.is_usable() and expression("2") == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert expression("3") == 3


def test_an_interrupted_request_takes_its_process_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any, line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jsonata._Worker, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        expression("1")
    assert jsonata._IDLE == []


def test_the_worker_answers_without_a_process_too() -> None:
    assert answer({"expression": "a & 1", "input": {"a": "x"}}) == {"value": "x1"}
    assert answer({"expression": "b", "input": {}}) == {}
    assert answer({"expression": "1"}) == {}
    assert answer({"expression": "1 +"})["error"].startswith("fails")
    assert answer({"expression": "$sum", "input": {}}) == {"error": "gives a function"}


def regex(value: str, pattern: str, **options: Any) -> Any:
    return evaluate({"$regex": {"value": value, "pattern": pattern, **options}}, {})


def test_a_pattern_that_would_backtrack_forever_is_quick() -> None:
    started = time.monotonic()
    assert regex("x" * 100_000, "(x+x+)+y") is MISSING
    assert regex("a" * 50_000 + "!", "^(([a-z])+.)+[A-Z]([a-z])+$") is MISSING
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("value", "pattern", "options", "reason"),
    [
        ("x" * 100_001, "x", {}, "up to 100,000 characters"),
        ("x", r"(?:\pL{0,40}.{0,40}){10}", {}, "too large"),
        ("x", "(((a{0,100}){0,100}){0,100})", {}, "can't be read"),
        ("x" * 100_000, "x.*?y|x", {"replace": "z"}, "takes too long"),
        ("x" * 1_000, "x", {"replace": "z" * 1_000}, "more than 100,000 characters"),
        ("\ud800", "x", {}, "surrogate"),
        ("x", "\ud800", {}, "can't be read"),
    ],
)
def test_a_hostile_pattern_is_an_error(
    value: str, pattern: str, options: dict[str, Any], reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(FormulaError, match=reason):
        regex(value, pattern, **options)
    assert time.monotonic() - started < patterns.MAX_SECONDS + 2


def test_a_pattern_at_the_limit_searches_in_time() -> None:
    started = time.monotonic()
    assert regex("xX" * 50_000, "(.{0,200}x){4}y") is MISSING
    assert time.monotonic() - started < 5


NAMES = [f"n{number}" for number in range(12)]
LAUGHS = {
    "$tpl": {
        "template": "{n0}" * 10,
        "values": {name: f"{{{after}}}" * 10 for name, after in pairwise([*NAMES, "end"])},
    }
}


def each(source: Any, item: Any) -> Any:
    return {"$iterate": {"source": source, "item": item}}


def var(locator: str) -> dict[str, str]:
    return {"$var": locator}


BOMBS = {
    "texts within texts": LAUGHS,
    "texts of the record within texts": {
        "$tpl": {"template": "{a}", "values": {name: var(f"$.{name}") for name in "abcd"}}
    },
    "a list for each of its items": each(var("$.n"), var("$.parent.n")),
    "the scope of each item": each(var("$.n"), var("$")),
    "items of items of items": each(
        var("$.n"), each(var("$.parent.n"), each(var("$.parent.parent.n"), 1))
    ),
    "a list of lists as text": {"$concat": [each(var("$.n"), var("$.parent.n"))]},
    "a list of lists in lower case": {"$lower": each(var("$.n"), var("$.parent.n"))},
    "a long delimiter": {"$concat": {"values": var("$.n"), "delimiter": "x" * 10_000}},
    "another long delimiter": {"$join": {"values": var("$.n"), "delimiter": "x" * 10_000}},
    "a long text for each item": each(var("$.n"), {"$tpl": {"template": "x" * 10_000}}),
    "lists for an expression": {
        "$jsonata": {"expression": "1", "input": each(var("$.n"), var("$.parent.n"))}
    },
}
BIG = {
    "n": [*range(20_000)],
    **{name: f"{{{after}}}" * 5_000 for name, after in pairwise("abcd")},
    "d": "x" * 5_000,
}


@pytest.mark.parametrize("formula", BOMBS.values(), ids=BOMBS)
def test_what_grows_without_end_is_an_error(formula: Any) -> None:
    value, errors = evaluate_fields({"f": formula, "g": 1}, BIG)
    assert (value, [error.field for error in errors]) == ({"g": 1}, ["f"])
    reason = errors[0].reason
    assert "more than 50,000,000 characters" in reason or "$lower" in reason
    assert len(json.dumps(errors[0].value, default=str)) < 1_000_000


@pytest.mark.parametrize("formula", BOMBS.values(), ids=BOMBS)
def test_what_grows_without_end_is_an_error_of_a_plan_too(formula: Any) -> None:
    plan = compile({"f": formula, "g": 1})
    found = plan.run([BIG, {}], few=0)
    assert [*found.errors] == ([0, 1] if formula is LAUGHS else [0])
    assert found.texts[0] == '{"g":1}'


def test_copies_grow_no_further_either() -> None:
    formula = {"n": var("$.n"), "f": each(var("$.n"), {"$copy": "$.n"}), "g": 1}
    value, errors = evaluate_fields(formula, BIG)
    assert (value, [error.field for error in errors]) == ({"n": BIG["n"], "g": 1}, ["f"])


def test_many_copies_of_what_holds_a_copy_end() -> None:
    held = [*range(20_000), {"$copy": "$.n"}]
    formula = {"h": held, "f": each(var("$.n"), {"$copy": "$.h"}), "n": var("$.n")}
    started = time.monotonic()
    assert "f" in [error.field for error in evaluate_fields(formula, BIG)[1]]
    assert time.monotonic() - started < 30


def test_an_evaluation_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "MAX_SECONDS", 0.2)
    slow = {"$regex": {"value": "xX" * 50_000, "pattern": "(.{0,200}x){4}y"}}
    value, errors = evaluate_fields({"a": 1, "f": each(var("$.n"), slow), "g": var("$.d")}, BIG)
    assert [error.field for error in errors] == ["f"] and "takes more than" in errors[0].reason
    assert value == {"a": 1, "g": BIG["d"]}


@pytest.mark.parametrize(
    "formula",
    [
        {"$eval": var("$"), "is": 1},
        {"$eval": var("$"), "gt": 1},
        {"$map": {"value": var("$"), "mapping": [{"from": 1, "to": 2}], "default": 3}},
        {"$number": var("$")},
        {"$date": var("$")},
        {"$extractDate": var("$")},
        {"$firstName": var("$")},
        {"$boolean": var("$")},
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000 + "x", "1 May 2024 10:00" + " " * 100_000 + "x", "a" + " " * 100_000 + ",",
        "a ," * 30_000, '"' * 99_999, "1." * 50_000, "2024-01-01T00:00:00." + "1" * 100_000 + "x",
        "e" * 100_000, "-" * 100_000, "mon" + "a" * 100_000, "0x" + "f" * 100_000 + "g",
    ],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_no_text_takes_long_to_be_read(formula: Any, text: str) -> None:
    started = time.process_time()
    evaluate(formula, text, strict=False)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("type_", ["number", "integer", "boolean", "string"])
def test_no_text_takes_long_to_be_brought_into_a_type(type_: str) -> None:
    started = time.process_time()
    for name in ("date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6"):
        for text in (
            "1" * 100_000 + "x",
            "a@" * 50_000,
            "a:" * 50_000,
            "1:" * 50_000,
            "." * 99_999,
        ):
            shaped({"f": text}, {"properties": {"f": {"type": type_, "format": name}}})
    assert time.process_time() - started < 2


WRONG: list[tuple[Any, str, str]] = [
    ({"$jsonata": "1 +"}, "$jsonata", "$jsonata fails"),
    ({"$jsonata": 5}, "$jsonata", "$jsonata needs an expression"),
    ({"$jsonata": {"input": 1}}, "$jsonata", "$jsonata needs an expression"),
    ({"$jsonata": {"expression": "("}}, "$jsonata.expression", "$jsonata fails at character 1"),
    ({"$split": "a,b"}, "$split", "$split needs an object with value and delimiter"),
    ({"$split": {"value": "a", "delimiter": ""}}, "$split.delimiter", "not blank"),
    ({"$split": {"value": "a"}}, "$split", "$split needs a delimiter"),
    ({"$join": {"value": [], "delimiter": ","}}, "$join", "$join needs a values"),
    ({"$join": {"values": [], "delimitr": ","}}, "$join.delimitr", "did you mean delimiter?"),
    ({"$default": {"value": 1}}, "$default", "$default needs a default"),
    ({"$regex": {"value": "a", "pattern": "("}}, "$regex.pattern", "can't be read"),
    ({"$regex": {"value": "a", "pattern": 5}}, "$regex.pattern", "needs a pattern"),
    ({"$regex": {"value": "a"}}, "$regex", "$regex needs a pattern"),
    ({"$regex": {"value": "a", "pattern": "a", "flags": "i"}}, "$regex.flags", "knows no flags"),
    ({"$date": {"value": 1, "unit": "s"}}, "$date.unit", "seconds or milliseconds"),
    ({"$date": {"unit": "seconds"}}, "$date", "$date needs a value"),
    ({"$now": "utc"}, "$now", "$now takes no arguments"),
    ({"$lowr": "a"}, "", "did you mean $lower?"),
]


@pytest.mark.parametrize(("formula", "path", "message"), WRONG)
def test_check_finds(formula: Any, path: str, message: str) -> None:
    text = f"x.{path}" if path else "x"
    found = [str(problem) for problem in check({"x": formula})]
    assert any(line.startswith(f"{text}: ") and message in line for line in found), found


@pytest.mark.parametrize(
    "formula",
    [
        {"$jsonata": "$sum(a.b)"},
        {"$jsonata": {"$concat": ["a", "+1"]}},
        {"$jsonata": {"expression": "a", "input": {"$var": "b"}}},
        {"$lower": {"$var": "a"}},
        {"$split": {"value": {"$var": "a"}, "delimiter": {"$var": "b"}}},
        {"$regex": {"value": 1, "pattern": {"$var": "p"}, "group": 1, "ignoreCase": True}},
        {"$date": {"$var": "a"}},
        {"$date": {"value": {"$var": "a"}, "unit": {"$var": "u"}}},
        {"$now": {}},
        {"$now": None},
    ],
)
def test_check_accepts(formula: Any) -> None:
    assert check(formula) == []
