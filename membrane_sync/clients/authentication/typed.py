"""Credentials that the user types in: keys, passwords, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.clients.authentication.way import Way
from membrane_sync.errors import Defunct, Fatal
from membrane_sync.ports import Authorization, DeviceCode, Issued


class TypedAuthenticator:
    """Implements `ports.Authenticator` where what was typed is all there is."""

    needs_browser = False
    offers_device = False

    def __init__(self, way: Way) -> None:
        self._way = way

    @property
    def refreshable(self) -> bool:
        return bool(self._way.hooks.refresh)

    def begin(self, *_: Any, **__: Any) -> Authorization:
        raise self._typed()

    def finish(self, *_: Any, **__: Any) -> Issued:
        raise self._typed()

    def begin_device(self, *_: Any) -> DeviceCode:
        raise self._typed()

    def poll_device(self, *_: Any) -> Issued | float:
        raise self._typed()

    def issue(self, typed: Mapping[str, Any]) -> Issued:
        template = self._way.authentication.credentials_from_input
        function = self._way.hooks.credentials_from_input
        return self._way.issued(typed, template, function, signed=False)

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        name = self._way.hooks.refresh
        if not name:
            raise Defunct(
                f"{self._way.connector.key}: the app takes the credentials no longer",
                hint="connect again: membrane connect",
            )
        scope = self._way.scope(credentials)
        made = self._way.run_mapping(name, scope, credentials, signed=False)
        return self._way.issued({**credentials, **made}, {}, None)

    def disconnect(self, credentials: Mapping[str, Any]) -> None:
        self._way.disconnect(credentials)

    def _typed(self) -> Fatal:
        return Fatal(f"{self._way.connector.key}: its credentials are typed in", hint="use issue")
