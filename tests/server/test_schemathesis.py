"""Requests made up from the OpenAPI document never make the API fail or answer in another shape."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from membrane_sync.ports.events import Arrival, Event, Webhook
from membrane_sync.server.app import create_app
from tests.server.conftest import Api
from tests.server.helpers import API_KEY, token

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Using `httpx`")
def test_no_request_makes_it_fail_in_process(api: Api) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(api.runtime))
    assert walk(api, schema, examples=5) >= 20


def test_no_request_makes_it_fail_over_a_socket(api: Api) -> None:
    schema = schemathesis.openapi.from_url(f"{api.url}/openapi.json")
    assert walk(api, schema, examples=3) >= 20


def walk(api: Api, schema: Any, *, examples: int) -> int:
    """Call every operation in all ways; gives how many operations there are."""
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for known in ({}, real(api, operation)):
                for credential in (token(), API_KEY):
                    call(operation, mode, known, credential, examples)
    return len(operations)


def real(api: Api, operation: Any) -> dict[str, Any]:
    """Values of the path's parameters that are there."""
    there = {"integration": "echo", "tenant": "acme", "path": "things"}
    names = {parameter.name for parameter in operation.path_parameters}
    if names & {"event", "webhook"}:
        hook = Webhook("webhook", "a-key", b"{}")
        event = Event("webhook", "record", "contacts", "acme", payload="{}")
        (put,) = api.runtime.ledger.inbox.put([Arrival(hook, [event])])
        there |= {"event": str(put.events[0]), "webhook": str(put.webhook)}
    if "connection" in names:
        there["connection"] = api.connect()
    return {name: value for name, value in there.items() if name in names}


def call(operation: Any, mode: Any, known: dict[str, Any], credential: str, examples: int) -> None:
    given_path = {"path_parameters": known} if known else {}
    strategy = operation.as_strategy(generation_mode=mode, **given_path)
    headers = {"Authorization": f"Bearer {credential}"}

    @given(strategy)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def once(case: Case) -> None:
        case.headers = {
            name: value for name, value in (case.headers or {}).items() if is_sendable(value)
        }
        case.call_and_validate(headers=headers, checks=CHECKS)

    # What takes nothing can't be given anything wrong.
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        once()


def is_sendable(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()
