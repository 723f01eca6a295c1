"""Storing a connection: what may be one, and what may take the place of one."""

from __future__ import annotations

import re
from dataclasses import replace

from membrane_sync.bootstrap.stores import Stores
from membrane_sync.elements.sensitive import sensitive_fields
from membrane_sync.errors import AnotherAccount, Fatal, InvalidInput
from membrane_sync.masking import passwords
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project


def register(
    stores: Stores, project: Project, connection: ConnectionRecord, *, same_account: bool = False
) -> None:
    """Store a connection, as `Runtime.register` says."""
    _check_key(connection)
    project.connector(connection.integration)  # There must be one.
    connection = replace(connection, secret_fields=secret_input(project, connection.integration))
    _refuse_password_in_address(connection)
    others = [
        other
        for other in stores.ledger.connections()
        if other.key.casefold() == connection.key.casefold()
    ]
    for other in others:
        _refuse_another_account(other, connection, same_account)
        # One that nobody looked at is the one it was.
        connection = replace(connection, account=connection.account or other.account)
    lake = stores.lake_path(connection.key)
    if not others and not same_account and lake.exists():
        raise Fatal(
            f"{lake.name} holds the records of an earlier connection {connection.key!r}",
            hint="for the same account again, --same-account; for another one, another --key, "
            "or move the file away",
        )
    stores.ledger.connect(connection)


def secret_input(project: Project, integration: str) -> tuple[str, ...]:
    """Fields of a connection's input that are secrets; none of an integration that's gone."""
    if integration not in project.integrations:
        return ()
    return sensitive_fields(project.connector(integration).input_schema)


_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def _check_key(connection: ConnectionRecord) -> None:
    """A key names a file, a partition and a folder, so it's of letters, digits, - and _."""
    if not _KEY.fullmatch(connection.key):
        raise Fatal(
            f"{connection.key!r} can't be the key of a connection",
            hint="use 1 to 100 letters, digits, - and _; give it as --key",
        )
    if not connection.tenant.strip() or not connection.tenant.isprintable():
        raise Fatal(
            f"{connection.tenant!r} can't be the key of a tenant", hint="give it as --tenant"
        )


def _refuse_password_in_address(connection: ConnectionRecord) -> None:
    """What isn't a secret field is stored and shown as it is."""
    for name, value in connection.plain_input.items():
        if passwords(value):
            raise InvalidInput(
                {name: "has a password in its address"},
                hint="leave it out there, and give it as a credential",
            )


def _refuse_another_account(
    stored: ConnectionRecord, given: ConnectionRecord, same_account: bool
) -> None:
    if stored.key != given.key:
        raise Fatal(
            f"connection {given.key!r} differs from {stored.key!r} only in case",
            hint="some disks take the two for one file; give another --key",
        )
    if (stored.tenant, stored.integration) != (given.tenant, given.integration):
        raise Fatal(
            f"connection {given.key!r} is tenant {stored.tenant!r}'s in {stored.integration!r}",
            hint="give the new connection another --key",
        )
    if stored.account and given.account not in ("", stored.account) and not same_account:
        raise AnotherAccount(
            f"connection {given.key!r} is with the app's account {stored.account!r}, and these "
            f"credentials are for {given.account!r}; its lake holds the records of the first",
            hint="sign in with that one, or connect the other one under another --key; if the app "
            "only calls it by another name now, --same-account",
        )
    changed = sorted(
        name
        for name in {*stored.input, *given.input} - {*given.secret_fields}
        if stored.input.get(name) != given.input.get(name)
    )
    if changed and not same_account:
        raise Fatal(
            f"connection {given.key!r} would get another {', '.join(changed)}; its lake holds the "
            "records of the account it has now",
            hint="for another account give another --key; for the same one at a new address, "
            "--same-account",
        )
