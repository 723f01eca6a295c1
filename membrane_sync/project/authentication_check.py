"""`membrane check` of authentication: each option made whole, and the parameters it's given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from membrane_sync.elements.authentication import Authentication, AuthenticationOption
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.nearest import nearest
from membrane_sync.elements.sensitive import sensitive_fields, sensitive_values
from membrane_sync.errors import Fatal, Problem, ProjectError
from membrane_sync.formulas import variables
from membrane_sync.formulas.locators import steps_of
from membrane_sync.project.authentication import (
    Access,
    merged,
    options_of,
    parameters_schema,
    whole_access,
)
from membrane_sync.project.environment import unset
from membrane_sync.project.hooks import HOOKS, hook_names
from membrane_sync.project.inputs import fit
from membrane_sync.project.loader import CONNECTION, CONNECTOR, INTEGRATION, Address
from membrane_sync.project.located import Block, Steps, problem_at
from membrane_sync.project.project import Project
from membrane_sync.project.schemas import fields
from membrane_sync.project.validation import Invalid, validated, validated_as

Found = Iterator[tuple[Steps, str]]


def authentication_problems(project: Project) -> Iterator[Problem]:
    """What's wrong with options of connectors, and with parameters and choices of integrations."""
    for address, block in list(project.documents.blocks.items()):
        if address.kind == CONNECTOR and _is_valid(address.kind, block):
            yield from _of_connector(project, address, block)
    for address, block in list(project.documents.blocks.items()):
        if address.kind == INTEGRATION and _is_valid(address.kind, block):
            yield from _of_integration(project, address, block)
        elif address.kind == CONNECTION and _is_valid(address.kind, block):
            yield from _of_connection(project, address, block)


def _is_valid(kind: str, block: Block) -> bool:
    try:
        validated(kind, block)
    except Invalid:
        return False  # which is said elsewhere
    return True


def _of_connector(project: Project, address: Address, block: Block) -> Iterator[Problem]:
    for path, message in _unmarked_secrets(block.get("input_schema") or {}):
        yield problem_at(block, path, message, f"connector {address.key}", "warning")
    declared = block.get("authentication")
    if not isinstance(declared, Block):
        return
    known = hook_names_of(project, address.key)
    for option in options_of(declared):
        name = f"connector {address.key}" + (f", option {option}" if option else "")
        whole = merged(declared, option)
        try:
            element = validated_as(Authentication, whole, name)
        except Invalid as error:
            yield from error.problems
            continue
        for path, message in (*_incomplete(element), *_missing_functions(element, known)):
            yield problem_at(whole, path, message, name)
        asked = {"input": block.get("input_schema"), "credentials": element.input_schema}
        for path, message in _open_addresses(element, asked):
            yield problem_at(whole, path, message, name, "warning")


def _unmarked_secrets(schema: Mapping[str, Any]) -> Found:
    """Fields of the input that are secrets by their names, and would be stored in plain text."""
    asked = fields(schema)
    marked = sensitive_fields({"properties": asked})
    for name in sensitive_values({}, asked):
        if name not in marked:
            message = (
                f"input_schema: {name!r} is a secret by its name, and would be stored and shown as "
                "it is; say isSensitive: true, or ask for it in authentication's input_schema"
            )
            yield ("input_schema", "properties", name), message


def hook_names_of(project: Project, connector: str) -> list[str]:
    """Functions of a connector's hooks.py; none where it can't be read, which is said elsewhere."""
    try:
        return hook_names(project.root / "connectors" / connector / HOOKS)
    except ProjectError:
        return []


def _incomplete(declared: AuthenticationOption) -> Found:
    oauth2, oauth1 = declared.oauth2, declared.oauth1
    told = declared.functions is not None and declared.functions.config is not None
    if oauth2 is not None and declared.type in ("oauth2", "client_credentials"):
        grant = "client_credentials" if declared.type == "client_credentials" else oauth2.grant
        needed = ["token_url", *_NEEDED[grant]]
        signs = oauth2.client_auth_location == "private_key_jwt"
        needed += ["assertion"] if signs and "assertion" not in needed else []
        yield from _unsaid("oauth2", oauth2, [] if told else needed)
        yield from _unfit_urls("oauth2", oauth2)
    if oauth1 is not None and declared.type == "oauth1":
        needed = ["request_token_url", "authorize_url", "access_token_url"]
        yield from _unsaid("oauth1", oauth1, [] if told else needed)
        yield from _unfit_urls("oauth1", oauth1)


_NEEDED = {
    "authorization_code": ["authorize_url"],
    "client_credentials": [],
    "jwt_bearer": ["assertion"],
    "device_code": ["device_url"],
}


def _unsaid(key: str, part: Any, needed: list[str]) -> Found:
    for name in needed:
        if getattr(part, name) is None:
            yield (key,), f"authentication.{key}: missing key {name!r}"


def _unfit_urls(key: str, part: Any) -> Found:
    for name in type(part).model_fields:
        url = getattr(part, name)
        stated = name.endswith("_url") and isinstance(url, str)
        if stated and not url.startswith(("http://", "https://")):
            yield (key, name), f"authentication.{key}.{name}: should begin with https://"


_GIVEN_SECRETS = (
    ("oauth2", ("token_url", "revoke_url", "device_url")),
    ("oauth1", ("request_token_url", "access_token_url")),
)
"""Endpoints that get the integration's secrets."""


def _open_addresses(declared: AuthenticationOption, asked: Mapping[str, Any]) -> Found:
    """Endpoints that a user could lead to a host of their own, by what they type."""
    for key, names in _GIVEN_SECRETS:
        part = getattr(declared, key)
        for name in names if part is not None else ():
            for locator in sorted(variables(getattr(part, name))):
                root, *steps = steps_of(locator) or ("",)
                field = fields(asked.get(str(root))).get(str(steps[0]) if steps else "", {})
                if root in asked and not {"pattern", "enum"} & set(field):
                    message = (
                        f"authentication.{key}.{name}: what a user types decides which host gets "
                        f"the integration's secret; give {locator} a pattern, as ^[a-z0-9-]+$"
                    )
                    yield (key, name), message


def _missing_functions(declared: AuthenticationOption, known: list[str]) -> Found:
    for name, function in dict(declared.functions or ()).items():
        if function is not None and function not in known:
            hint = nearest(function, known) if known else f"write it in the connector's {HOOKS}"
            yield ("functions", name), f"no function {function!r} in {HOOKS}; {hint}"


def _of_integration(project: Project, address: Address, block: Block) -> Iterator[Problem]:
    name = f"integration {address.key}"
    try:
        connector = project.connector(address.key)
    except (Fatal, ProjectError):
        return  # there's none, or it's wrong
    choices = block.get("authentication_options")
    chosen = choices if isinstance(choices, Block) else Block(block.mark)
    options = connector.authentication.options
    for option in chosen:
        if option not in options:
            hint = nearest(option, options, "it has") if options else "it has only one way"
            message = f"connector {connector.key!r} has no authentication option {option!r}; {hint}"
            yield problem_at(block, ("authentication_options", option), message, name)
    for path, message in _wrong_parameters(project, address.key, block, connector):
        yield problem_at(block, path, message, name)


def _wrong_parameters(
    project: Project, integration: str, block: Block, connector: Connector
) -> Found:
    """Parameters that don't fit, or are missing, each at the place where it should be mended."""
    if any(True for _ in unset(block, project.environ)):
        return  # their values aren't known, and it's said
    ways = list(_whole_ways(project, integration, connector))
    known = {name for way in ways for name in fields(parameters_schema(way.connector))}
    for way in ways:
        schema = parameters_schema(way.connector)
        if (way.option and not way.offered) or not fields(schema):
            continue
        for name, words in fit(schema, way.parameters)[1].items():
            if name in fields(schema) or name not in known:
                yield _place(block, way.option, name), _said(way.option, name, words)


def _whole_ways(project: Project, integration: str, connector: Connector) -> Iterator[Access]:
    for option in options_of(dict(connector.authentication)):
        try:
            yield whole_access(project, integration, connector, option)
        except (Fatal, ProjectError):
            continue  # the option itself is wrong


def _place(block: Block, option: str, name: str) -> Steps:
    own: Any = block.get("authentication_options") or {}
    own = own.get(option) or {}
    if name in (own.get("parameters") or {}):
        return "authentication_options", option, "parameters", name
    if name in (block.get("parameters") or {}):
        return "parameters", name
    return ("authentication_options", option) if own else ("parameters",)


def _said(option: str, name: str, words: str) -> str:
    said = f"parameter {name!r} {words}"
    if not option:
        return said
    return f"{said}, by the authentication option {option!r}; give it, or disable the option"


def _of_connection(project: Project, address: Address, block: Block) -> Iterator[Problem]:
    option = block.get("authentication_option")
    if option is None:
        return
    try:
        options: Mapping[str, Any] = project.connector(block["integration"]).authentication.options
    except (Fatal, ProjectError):
        return
    if option not in options:
        message = f"there is no authentication option {option!r}; {nearest(option, options)}"
        yield problem_at(block, ("authentication_option",), message, f"connection {address.key}")
