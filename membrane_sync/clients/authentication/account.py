"""Which account of the app credentials are for, so that records of two are never mixed."""

from __future__ import annotations

import hashlib

from membrane_sync.clients.authentication.values import Scope, text
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import UnexpectedAnswer

LONGEST = 255


def account_of(connector: Connector, scope: Scope) -> str:
    """What `account_id` makes of the credentials and the test's answer; empty if it's not declared.

    A longer one is given as its hash. Raises UnexpectedAnswer where it comes to nothing: then
    nobody could tell whether it's the same.
    """
    formula = connector.authentication.account_id
    if formula is None:
        return ""
    found = text(formula, scope, "account_id")
    if not found:
        raise UnexpectedAnswer(
            f"{connector.key}: `account_id` finds no account in what the app answered",
            hint="compare it in connector.yaml with the answer to `test`, or to the token request",
        )
    return found if len(found) <= LONGEST else hashlib.sha256(found.encode()).hexdigest()
