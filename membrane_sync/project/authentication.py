"""The ways to authenticate that a connector offers in an integration, each made whole.

Connector and integration say it together: `options` fall back to the keys beside them, and
`authentication_options` of the integration say which are offered, and with which parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.authentication import Authentication, AuthenticationOption
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import Fatal, NotFound
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.project.environment import expanded
from membrane_sync.project.hooks import HOOKS, Hooks
from membrane_sync.project.layers import resolve
from membrane_sync.project.located import Block, Items
from membrane_sync.project.project import Project
from membrane_sync.project.schemas import fields
from membrane_sync.project.validation import validated_as

_SCHEMAS = ("input_schema", "parameters_schema")


@dataclass(frozen=True)
class Access:
    """One way into an integration's app, by the key of its option; empty where there's only one.

    The connector's `authentication` is whole, and has no options any more.
    """

    option: str
    connector: Connector
    parameters: Mapping[str, Any] = field(repr=False)
    functions: Mapping[str, Callable[..., Any]] = field(repr=False)
    offered: bool = True
    """Whether new connections may use it; those that do already go on."""

    @property
    def authentication(self) -> AuthenticationOption:
        """How to authenticate; its `input_schema` is what the user is asked for."""
        return self.connector.authentication


def accesses(project: Project, integration: str) -> list[Access]:
    """All that are offered to users, in the order of the connector's file."""
    connector = project.connector(integration)
    keys = options_of(dict(connector.authentication))
    found = [whole_access(project, integration, connector, key) for key in keys]
    return [access for access in found if access.offered]


def access(project: Project, integration: str, option: str = "") -> Access:
    """One of them, also if it's not offered any more; without an option the only one offered.

    Raises NotFound for an option that isn't there, and Fatal where one has to be chosen.
    """
    connector = project.connector(integration)
    options = connector.authentication.options
    if option and option not in options:
        raise NotFound(
            f"connector {connector.key!r} has no authentication option {option!r}",
            hint=nearest(option, options, "it has") if options else "it has one way, unnamed",
        )
    if option or not options:
        return whole_access(project, integration, connector, option)
    offered = accesses(project, integration)
    if len(offered) == 1:
        return offered[0]
    keys = ", ".join(a.option for a in offered)
    if not offered:
        raise Fatal(
            f"integration {integration!r} offers no way to authenticate",
            hint=f"enable one in its authentication_options: {', '.join(options)}",
        )
    raise Fatal(f"integration {integration!r} offers several ways: {keys}", hint="choose one")


def merged(declared: Block, option: str) -> Block:
    """An option's keys over those of the connector; their schemas become one, too."""
    root = _without(declared, "options")
    own = declared["options"][option] if option else None
    if not isinstance(own, Block):
        return root
    block = resolve([root, own])
    for name in _SCHEMAS:
        if isinstance(root.get(name), Block) and isinstance(own.get(name), Block):
            _require_both(block[name], root[name], own[name])
    return block


def whole_access(project: Project, integration: str, connector: Connector, option: str) -> Access:
    """One of the connector's options in an integration, which may not be offered."""
    element = project.integration(integration)
    choice = element.authentication_options.get(option)
    own = expanded(choice.parameters, project.environ) if choice else {}
    parameters = {**element.parameters, **own}
    authentication = connector.authentication
    if option:
        authentication = _whole(project, integration, connector, option)
    whole = connector.model_copy(
        update={
            "authentication": authentication,
            "test": authentication.test or connector.test,
            "errors": [*authentication.errors, *connector.errors],
        }
    )
    return Access(
        option=option,
        connector=whole,
        parameters=parameters,
        functions=Hooks(project.root / "connectors" / connector.key / HOOKS),
        offered=not (choice and choice.disabled) and _enabled(authentication, parameters),
    )


def parameters_schema(connector: Connector) -> dict[str, Any]:
    """What the developer has to set, for the connector and for its one authentication."""
    parts = [connector.parameters_schema, connector.authentication.parameters_schema]
    given = [part for part in parts if part]
    if not given:
        return {}
    return {
        **given[0],
        **given[-1],
        "properties": {name: field for part in given for name, field in fields(part).items()},
        "required": list(dict.fromkeys(n for part in given for n in part.get("required", ()))),
    }


def _whole(project: Project, integration: str, connector: Connector, option: str) -> Authentication:
    block = project.block("connector", connector.key, integration=integration)
    assert block is not None  # its connector was found
    name = f"connector {connector.key}, option {option}"
    return validated_as(Authentication, merged(block["authentication"], option), name)


def _enabled(authentication: AuthenticationOption, parameters: Mapping[str, Any]) -> bool:
    try:
        found = evaluate(authentication.enabled, {"parameters": dict(parameters)})
    except FormulaError:
        raise Fatal(
            "the formula `enabled` of an authentication fails",
            hint="it sees $.parameters alone: compare it with the integration's parameters",
        ) from None
    return found is not MISSING and bool(found)


def _without(block: Block, left_out: str) -> Block:
    result = Block(block.mark)
    for key, value in block.items():
        if key != left_out:
            result.put(key, value, block.marks[key])
    return result


def _require_both(schema: Block, root: Block, own: Block) -> None:
    """A list would be replaced whole; what either requires is required."""
    pairs = [
        (name, mark)
        for part in (root, own)
        if isinstance(part.get("required"), Items)
        for name, mark in zip(part["required"], part["required"].marks, strict=True)
    ]
    unique = dict(reversed(pairs))
    if unique:
        mark = next(iter(unique.values()))
        schema.put("required", Items(mark, reversed(unique.items())), mark)


def options_of(declared: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the options that a connector's `authentication` has, or the one without a name."""
    options = declared.get("options")
    yield from options if isinstance(options, dict) and options else [""]
