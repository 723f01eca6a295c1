"""The ways to authenticate that a connection request offers, and what was filled in for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from membrane_sync.connections.forms import FormField, form_fields, read_form
from membrane_sync.connections.requests import Host, existing_connection
from membrane_sync.elements.authentication import AuthenticationOption
from membrane_sync.ports import ConnectionRequest
from membrane_sync.project.authentication import Access
from membrane_sync.project.inputs import fit


@dataclass(frozen=True)
class Choice:
    """A way to authenticate that the user may choose, with the fields to fill in for it."""

    key: str
    title: str
    description: str
    in_browser: bool
    by_code: bool
    input: list[FormField]
    credentials: list[FormField]


def choices(host: Host, request: ConnectionRequest) -> list[Choice]:
    """The ways to answer a request, in the connector's order; of a product's choice, only that."""
    connector = host.project.connector(request.integration)
    given = form_fields(connector.input_schema)
    existing = existing_connection(host, request)
    missing = [one for one in given if one.name not in request.input]
    # One that's reconnected stays as it is; what could not be kept of it has to be given again.
    asked = [one for one in missing if one.required] if existing else missing
    return [
        _choice(access, asked)
        for access in host.apps.accesses(request.integration)
        if request.option in ("", access.option)
    ]


def read_choice(
    choice: Choice, typed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What was typed in as input and as credentials, and what is wrong by the form's names."""
    wrong: dict[str, str] = {}
    parts: dict[str, dict[str, Any]] = {}
    for part, fields in (("input", choice.input), ("credentials", choice.credentials)):
        values, misread = read_form(fields, _below(part, typed))
        schema = {"properties": {one.name: one.schema for one in fields}}
        # The same rules as for what comes by the API or from a terminal.
        parts[part], misfits = fit(schema, values)
        said = {name: f"This {why}." for name, why in misfits.items()} | misread
        wrong |= {f"{part}.{name}": why for name, why in said.items()}
    return parts["input"], parts["credentials"], wrong


def _below(prefix: str, typed: Mapping[str, str]) -> dict[str, str]:
    """The fields of one part of the form, by the schema's names."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in typed.items() if name.startswith(start)}


def _choice(access: Access, asked: list[FormField]) -> Choice:
    key, authentication, app = access.option, access.authentication, access.connector.title
    in_browser = _in_browser(authentication)
    title = authentication.title or (f"Sign in to {app}" if in_browser else "")
    return Choice(
        key=key,
        title=title or key.replace("_", " ").capitalize() or f"Connect {app}",
        description=authentication.description or "",
        in_browser=in_browser,
        by_code=_by_code(authentication),
        input=asked,
        credentials=form_fields(authentication.input_schema, secret=True),
    )


def _in_browser(authentication: AuthenticationOption) -> bool:
    oauth2 = authentication.oauth2
    by_code = oauth2 is not None and oauth2.grant == "authorization_code"
    return authentication.type == "oauth1" or (authentication.type == "oauth2" and by_code)


def _by_code(authentication: AuthenticationOption) -> bool:
    """Whether a code is to be entered at the app, and there's no other way."""
    oauth2 = authentication.oauth2
    return oauth2 is not None and oauth2.grant == "device_code"
