"""Session login: a call with what was typed gives a token, another call gives a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.clients.authentication.typed import TypedAuthenticator
from membrane_sync.clients.authentication.values import text, value
from membrane_sync.elements.authentication import Session
from membrane_sync.elements.request import ErrorRule, Request
from membrane_sync.errors import Defunct, Fatal, NotAuthorized, UnexpectedAnswer
from membrane_sync.ports import Issued

_REFUSED = ErrorRule(status=[400, 401, 422], action="ignore")
"""How apps answer a wrong password; a 403 may be a rate limit."""


class SessionAuthenticator(TypedAuthenticator):
    """Implements `ports.Authenticator`; what was typed is kept, to log in again with."""

    @property
    def refreshable(self) -> bool:
        return True

    def issue(self, typed: Mapping[str, Any]) -> Issued:
        typed = super().issue(typed).credentials
        return self._logged_in(self._session.login, typed, signed=False)

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        if self._way.hooks.refresh:
            return super().refresh(credentials)
        renew = self._session.renew
        if renew is not None:
            try:
                return self._logged_in(renew, credentials, signed=True)
            except NotAuthorized:
                pass  # The old token has ended already; there's still the login.
        typed = {name: item for name, item in credentials.items() if name != "token"}
        try:
            return self._logged_in(self._session.login, typed, signed=False)
        except NotAuthorized as error:
            raise Defunct(error.message, hint=error.hint) from None

    @property
    def _session(self) -> Session:
        declared = self._way.authentication.session
        if declared is None:
            raise Fatal(f"{self._way.connector.key}: authentication needs `session`")
        return declared

    def _logged_in(
        self, request: Request, credentials: Mapping[str, Any], *, signed: bool
    ) -> Issued:
        answer = self._way.send(request, credentials, signed=signed, errors=[_REFUSED])
        if answer.status in _REFUSED.status:
            words = self._way.words(credentials).reason(answer.body)
            raise NotAuthorized(
                f"{self._way.connector.key}: the login was refused ({answer.status}){words}",
                hint="connect again, with the name and password that the app knows",
            )
        seen = {"body": answer.body, "headers": answer.headers, "status": answer.status}
        scope = self._way.scope(credentials, **seen)
        token = text(self._session.token, scope, "session.token")
        if not token:
            raise UnexpectedAnswer(
                f"{self._way.connector.key}: the login's answer has no token",
                hint="compare `session.token` in connector.yaml with what the app answers",
            )
        found = {**credentials, "token": token}
        ends = value(self._session.expires_in, scope, "session.expires_in")
        template = self._way.authentication.credentials_from_token
        function = self._way.hooks.credentials_from_token
        given = found if ends is None else {**found, "expires_in": ends}
        return self._way.issued(given, template, function, token=answer.body)
