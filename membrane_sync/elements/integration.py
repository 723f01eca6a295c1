"""Integration: the product's use of one app; also the name of the middle layer.

Lives in `mappings/integrations/<key>/integration.yaml`; used by `project/` and `orchestration/`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from membrane_sync.elements.base import Element, RefersTo, Spec


class AuthenticationChoice(Spec):
    """Whether, and with which parameters, one of the connector's options is offered."""

    disabled: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict, repr=False)


class Integration(Element):
    """A connector with the product's parameters: OAuth client, scopes, an own base URL."""

    connector: Annotated[str, RefersTo("connector")] = Field(
        description="Folder in connectors/; by default the key"
    )
    connector_version: str | None = None
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="${NAME} takes an environment variable", repr=False
    )
    authentication_options: dict[str, AuthenticationChoice] = Field(
        default_factory=dict, alias="optionsConfig"
    )
    oauth_callback_url: str | None = Field(default=None, alias="oAuthCallbackUri")
