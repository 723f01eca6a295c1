"""What formulas and functions of an authentication give, as texts and mappings that can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from membrane_sync.elements.base import Spec, yaml_keys
from membrane_sync.errors import Fatal, MembraneError, NotAuthorized
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.masking import Mask

S = TypeVar("S", bound=Spec)

Scope = Mapping[str, Any]
Functions = Mapping[str, Callable[..., Any]]
"""What the connector's hooks.py has; each function takes what formulas see."""


def value(formula: Any, scope: Scope, key: str) -> Any:
    """What the formula gives, None where that's nothing; `key` names it in errors."""
    if formula is None:
        return None
    try:
        found = evaluate(formula, scope)
    except FormulaError:
        # Its words may quote a credential.
        raise Fatal(
            f"authentication: the formula of {key!r} fails",
            hint="try it with: membrane check, and compare it with docs/formulas.md",
        ) from None
    return None if found is MISSING else found


def text(formula: Any, scope: Scope, key: str) -> str:
    """As `value`, as a text; empty where the formula gives nothing."""
    found = value(formula, scope, key)
    return "" if found is None else str(found)


def credential(formula: Any, scope: Scope, what: str) -> str:
    """A text that has to be there; raises NotAuthorized where the credentials lack it."""
    found = text(formula, scope, what)
    if not found:
        raise NotAuthorized(
            f"the connection's credentials give no {what}", hint="connect again: membrane connect"
        )
    return found


def parameter(formula: Any, scope: Scope, name: str) -> str:
    """The developer's parameter of this name, unless a formula gives it otherwise; may be empty."""
    if formula is not None:
        return text(formula, scope, name)
    found = scope["parameters"].get(name)
    return "" if found is None else str(found)


def mapping(template: Mapping[str, Any], scope: Scope, key: str) -> dict[str, Any]:
    """What the template's formulas give, without what is null."""
    found = value(dict(template), scope, key)
    return {name: item for name, item in (found or {}).items() if item is not None}


def texts(template: Mapping[str, Any], scope: Scope, key: str) -> dict[str, str]:
    """As `mapping`, with all values as texts."""
    found = mapping(template, scope, key)
    return {name: _text(item) for name, item in found.items()}


def called(functions: Functions, name: str, scope: Scope) -> Any:
    """What the function of hooks.py gives for a copy of the scope.

    An error of ours passes, without the scope's secrets; of all others the words may hold secrets,
    and only the kind is told.
    """
    function = functions.get(name)
    if function is None:
        raise Fatal(
            f"there is no function {name!r} for this authentication",
            hint="write it in the connector's hooks.py",
        )
    return safely(name, lambda: function(dict(scope)), scope)


def safely(name: str, act: Callable[[], Any], scope: Scope) -> Any:
    """What it gives; an error of the function `name`, which has seen the scope, tells no secret."""
    try:
        return act()
    except StopIteration:
        raise
    except MembraneError as error:
        credentials, others = Mask(scope.get("credentials")), Mask(scope)
        error.message, error.hint = (
            others.foreign(credentials.text(words)) for words in (error.message, error.hint)
        )
        error.args = (error.message,)
        raise
    except Exception as error:
        raise Fatal(
            f"function {name!r} of hooks.py raised {type(error).__name__}",
            hint="its words may hold secrets and aren't shown; call it in a test of your own",
        ) from None


def given_mapping(name: str, found: Any) -> dict[str, Any]:
    """What a function gave, if it's a mapping; nothing counts as an empty one."""
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise Fatal(
            f"function {name!r} of hooks.py gave {type(found).__name__}, not a mapping",
            hint="return a mapping",
        )
    return dict(found)


def declared_anew(declared: S, made: Mapping[str, Any], function: str) -> S:
    """The declaration with what a function gave over it, in either spelling of its keys."""
    model = type(declared)
    known = yaml_keys(model)
    ours = {known.get(name, name): item for name, item in made.items()}
    try:
        return model.model_validate({**declared.model_dump(exclude_unset=True), **ours})
    except ValidationError as error:
        wrong = ", ".join(sorted({str(found["loc"][0]) for found in error.errors()}))
        raise Fatal(
            f"function {function!r} of hooks.py gave a config that is wrong in: {wrong}",
            hint="its keys are those that connector.yaml has for it",
        ) from None


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item)
