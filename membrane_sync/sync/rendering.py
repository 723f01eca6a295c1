"""Calls out of declared requests: REST, GraphQL, or a function of `hooks.py`; none is sent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from membrane_sync.calls import as_call
from membrane_sync.elements.request import Request, expand_path
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.project.hooks import made_by
from membrane_sync.records import Answer, Call
from membrane_sync.sync.paging import Turn

Scope = Mapping[str, Any]

Functions = Mapping[str, Callable[..., Any]]
"""What `function` of a request may name: each takes the scope.

It returns a call, or is a generator that yields calls and gets their answers. A call may be written
as a mapping with the keys `method`, `path`, `query`, `headers` and `body`.
"""

CallSource = Generator[Any, Answer, Any]


def render(request: Request, scope: Scope) -> Call:
    """The call that a declared request makes of `scope`; what formulas leave out isn't sent."""
    if request.function is not None or (request.path is None and request.graphql is None):
        raise Fatal("only requests with a path or a GraphQL query can be sent here")
    body = evaluate(request.body, scope)
    call = Call(
        method=request.method,
        url=_path(request, scope),
        query=evaluated(request.query, scope),
        headers={name: str(value) for name, value in evaluated(request.headers, scope).items()},
        body=None if body is MISSING else body,
        errors=request.errors,
    )
    if request.graphql is None:
        return call
    variables = evaluated(request.variables, scope)
    return replace(call, method="POST", body={"query": request.graphql, "variables": variables})


def by_function(request: Request, scope: Scope, functions: Functions) -> Call | CallSource:
    """What the request's function makes of the scope: a call, or a generator of calls."""
    function = functions.get(request.function or "")
    if function is None:
        raise Fatal(
            f"there is no function {request.function!r} for this request",
            hint="write it in the connector's hooks.py",
        )
    made = made_by(function, scope)
    if isinstance(made, Generator):
        return made
    return as_call(made, str(request.function), request.errors)


def turned(base: Call, turn: Turn) -> Call:
    """The call for one page."""
    if turn.url is not None:
        return replace(base, url=turn.url, query={})
    body = base.body
    for name, value in turn.body.items():
        body = put(body, name.split("."), value)
    headers = {**base.headers, **{name: str(value) for name, value in turn.headers.items()}}
    return replace(base, query={**base.query, **turn.query}, headers=headers, body=body)


def put(body: Any, steps: list[str], value: Any) -> dict[str, Any]:
    """A copy of the body with the value at these steps; what's missing on the way is made.

    >>> put({"page": {"size": 9}}, ["page", "after"], 7)
    {'page': {'size': 9, 'after': 7}}
    """
    mine = dict(body) if isinstance(body, Mapping) else {}
    first, *rest = steps
    mine[first] = put(mine.get(first), rest, value) if rest else value
    return mine


def refuse_graphql_errors(request: Request, body: Any) -> None:
    """GraphQL answers 200 with `errors`; raises UnexpectedAnswer with the app's words."""
    if request.graphql is None or not isinstance(body, Mapping):
        return
    errors = body.get("errors")
    if errors:
        first = errors[0] if isinstance(errors, list) else errors
        said = first.get("message") if isinstance(first, Mapping) else first
        words = said[:200] if isinstance(said, str) else "it didn't say why"
        raise UnexpectedAnswer(
            f"the app refused the GraphQL query: {words}",
            hint="an error that passes by can be tried again: see `errors` of the request",
        )


def evaluated(template: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """What a template gives, without what is null."""
    value = evaluate(dict(template), scope)
    return {} if value is MISSING else {k: v for k, v in value.items() if v is not None}


def answer_scope(answer: Answer) -> dict[str, Any]:
    """What formulas over an answer see."""
    return {"body": answer.body, "headers": answer.headers, "status": answer.status}


def _path(request: Request, scope: Scope) -> str:
    if request.path is None:
        return ""
    values = evaluated(request.path_parameters, scope)
    missing = [name for name in request.path_parameters if values.get(name) in (None, "")]
    if missing:
        raise Fatal(
            f"path {request.path} has no value for {{{missing[0]}}}",
            hint="give it as input of the connection, or as a parameter of the data source",
        )
    return expand_path(request.path, values)
