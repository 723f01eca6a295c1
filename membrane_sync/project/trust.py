"""Whether a connector's host is the developer's word, or the user's who connects."""

from __future__ import annotations

import json

from membrane_sync.elements.connector import Connector


def address_is_typed(connector: Connector) -> bool:
    """Whether input, or a function, has a say in which host is called; rather yes than no."""
    authentication = connector.authentication
    functions = authentication.functions
    if functions is not None and (functions.config or functions.client):
        return True
    if authentication.client is not None and authentication.client.base_url is not None:
        return True
    flows = (authentication.oauth2, authentication.oauth1)
    texts = [flow.model_dump_json() for flow in flows if flow is not None]
    return any("input" in text for text in [json.dumps(connector.base_url, default=str), *texts])
