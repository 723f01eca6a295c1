"""The simulator without a network: a call in, its answer out."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from membrane_sync.clients.error_rules import rule_for
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.records import Answer, Call
from membrane_sync.testing.simulator import Simulator
from membrane_sync.testing.simulator.routes import Received, route


def answering(app: Simulator) -> Callable[[Call], Answer]:
    """What a `FakeApi` of this simulator responds; a refusal raises UnexpectedAnswer."""
    return lambda call: answered(app, call)


def answered(app: Simulator, call: Call) -> Answer:
    """The simulator's answer to one call."""
    address = urlsplit(call.url)
    query = dict(parse_qsl(address.query))
    query |= {n: str(v) for n, v in call.query.items() if v is not None}
    body = json.dumps(call.body).encode() if call.body is not None else b""
    url = f"https://app.test{address.path}"
    asked = Received(call.method, address.path, url, query, {}, body, "acme")
    reply = route(app, asked)
    headers = {name.lower(): value for name, value in reply.headers.items()}
    answer = Answer(reply.status, headers, content=reply.body, read=json.loads)
    rule = rule_for(answer, call.errors)
    if reply.status >= 400 and (rule is None or rule.action != "ignore"):
        raise UnexpectedAnswer(f"answered {reply.status}: {reply.body!r}")
    return answer
