"""The external store of secrets that the setting `vault` names: REST, or the project's own code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from membrane_sync.clients.transport import http_client
from membrane_sync.errors import AppUnavailable, SecretError
from membrane_sync.ports import SecretStore

TIMEOUT_SECONDS = 10.0
_AT_HOME = ("localhost", "127.0.0.1", "::1")


def secret_store(vault: str, token: str, root: Path) -> SecretStore:
    """The store by its URL, or by `module:factory`, which the project's folder may have."""
    if vault.startswith(("http://", "https://")):
        return RestStore(vault, token)
    module, colon, factory = vault.partition(":")
    if not colon or not module or not factory.isidentifier():
        raise SecretError(
            "the setting vault is neither a URL nor module:factory",
            hint="as https://vault.example.com/secrets, or my_vault:open_store",
        )
    sys.path.insert(0, str(root))
    try:
        made: SecretStore = getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise SecretError(
            f"the setting vault names {vault}, which can't be imported: {error}",
            hint="it is a function without arguments that gives a membrane_sync.ports.SecretStore",
        ) from None
    finally:
        sys.path.remove(str(root))
    return made


class RestStore:
    """Implements `ports.SecretStore` by PUT, GET and DELETE of `<url>/<owner>/<entry>`, in JSON."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        address = httpx.URL(url)
        if address.scheme != "https" and address.host not in _AT_HOME:
            raise SecretError(
                "the external store of secrets has to be reached by https",
                hint="set `vault` in pyproject.toml, or MEMBRANE_VAULT, to its https URL",
            )
        self._root = url.rstrip("/")
        self._host = address.host
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = http_client(headers, timeout_seconds=TIMEOUT_SECONDS, transport=transport)

    def put(self, owner: str, entry: str, secrets: Mapping[str, Any]) -> None:
        self._send("PUT", owner, entry, json=dict(secrets))

    def get(self, owner: str, entry: str) -> Mapping[str, Any] | None:
        answer = self._send("GET", owner, entry, missing_is_fine=True)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            # Nothing of the body is said: it may be the secrets.
            raise SecretError(
                f"the external store at {self._host} answered something else than a JSON object",
                hint="it has to give back what was PUT; see docs/settings.md",
            )
        return found

    def delete(self, owner: str, entry: str) -> None:
        self._send("DELETE", owner, entry, missing_is_fine=True)

    def _send(
        self,
        method: str,
        owner: str,
        entry: str,
        *,
        missing_is_fine: bool = False,
        json: Any = None,
    ) -> httpx.Response:
        url = f"{self._root}/{quote(owner, safe='')}/{quote(entry, safe='')}"
        try:
            answer = self._client.request(method, url, json=json)
        except httpx.HTTPError as error:
            raise AppUnavailable(
                f"the external store at {self._host} can't be reached: {type(error).__name__}",
                hint="is MEMBRANE_VAULT right, and the store running?",
            ) from None
        status = answer.status_code
        if answer.is_success or (missing_is_fine and status == httpx.codes.NOT_FOUND):
            return answer
        said = f"the external store at {self._host} answered {status} to {method} for {owner!r}"
        if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            raise AppUnavailable(said)
        raise SecretError(said, hint="is MEMBRANE_VAULT_TOKEN the store's, and may it do this?")
