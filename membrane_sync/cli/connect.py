"""The connect command: an account by typed credentials, by a browser, or by a device code."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json
from membrane_sync.errors import Fatal, NotAuthorized, NotConnected, SecretError

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.ports import Authenticator, ConnectionRecord, Issued


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(connect)


@dataclass(frozen=True)
class Manner:
    """How the user gives the permission, where the app wants a browser for it."""

    device: bool
    port: int
    open_browser: bool


def connect(
    integration: Annotated[str, typer.Argument(help="The integration, as kinto.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="The customer's key.")],
    key: Annotated[str, typer.Option(help="Key of the connection; <tenant>_<integration>.")] = "",
    option: Annotated[
        str, typer.Option("--option", "-o", help="Which of the app's ways to authenticate.")
    ] = "",
    values: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Input, as --set url=https://…")
    ] = None,
    credentials: Annotated[
        list[str] | None,
        typer.Option(
            "--credential", help="As password=env:NAME (from the environment) or password=-(stdin)."
        ),
    ] = None,
    device: Annotated[
        bool, typer.Option("--device", help="Give the permission on another device, by a code.")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", help="Port of 127.0.0.1 that the app sends you back to.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the app's page in your browser.")
    ] = True,
    same_account: Annotated[
        bool, typer.Option("--same-account", help="The account is the same, its input is new.")
    ] = False,
    test: Annotated[bool, typer.Option(help="Call the app to prove the credentials.")] = True,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Connect a customer's account, or give a connection new credentials.

    What's missing is asked for; secrets are not echoed, and are stored encrypted.
    """
    from membrane_sync.bootstrap import find_root, open_runtime
    from membrane_sync.cli.credentials import gather, pairs, secrets_of
    from membrane_sync.connections.requests import with_credentials
    from membrane_sync.project.inputs import checked_input

    with failures(as_json):
        runtime = open_runtime(find_root(project))
        known = _known(runtime, key or f"{tenant}_{integration}", tenant, integration)
        option = option or known.option or _chosen(runtime, integration)
        way = runtime.apps.access(integration, option)
        asked = way.connector.input_schema
        given = gather(asked, pairs(values or [], "--set"), known=known.input)
        typed = gather(way.authentication.input_schema, secrets_of(credentials or []), secret=True)
        typed = checked_input(way.authentication.input_schema, typed)
        if given or not known.input:  # else a connection stays as it is, new defaults or not
            known = replace(known, input=checked_input(asked, {**known.input, **given}))
        known = replace(known, option=way.option)
        authenticator = runtime.apps.authenticator(integration, way.option, known.input)
        issued = _issued(authenticator, typed, Manner(device, port, browser))
        record = with_credentials(known, issued, time.time())
        if test:
            with as_refused(way.connector.key):
                record = replace(record, account=runtime.apps.prove(record))
        runtime.register(record, same_account=same_account)
    if as_json:
        print_json({"connection": record.key, "integration": integration, "tenant": tenant})
        return
    proof = "its credentials work" if test and way.connector.test else "not tested"
    console.print(f"[green]✓[/] connected [bold]{escape(record.key)}[/]: {proof}")
    console.print(f"Next: membrane sync --connection {escape(record.key)}", highlight=False)


def _known(runtime: Runtime, key: str, tenant: str, integration: str) -> ConnectionRecord:
    """What is known of the connection; of a new one, its names."""
    from membrane_sync.ports import ConnectionRecord

    runtime.project.integration(integration)
    try:
        found = runtime.ledger.known(key)
    except NotConnected:
        return ConnectionRecord(key, integration, tenant)
    if (found.tenant, found.integration) != (tenant, integration):
        # Of another tenant's or app's nothing is used; registering refuses the key.
        return ConnectionRecord(key, integration, tenant)
    with suppress(SecretError):  # what can't be read has to be given again
        return runtime.ledger.connection(key)
    return found


@contextmanager
def as_refused(connector: str) -> Iterator[None]:
    """Say of credentials that were just typed that they're refused, and not to connect again."""
    try:
        yield
    except NotAuthorized as error:
        raise NotAuthorized(
            f"the app refused the credentials: {error.message}",
            hint=f"are they right, and does `authentication` in connectors/{connector}/"
            "connector.yaml send them as the app wants them?",
        ) from None


def _chosen(runtime: Runtime, integration: str) -> str:
    """The option that a person chooses where there are several; empty where there's no choice."""
    offered = runtime.apps.accesses(integration)
    if len(offered) < 2 or not sys.stdin.isatty():
        return ""
    for number, way in enumerate(offered, 1):
        title = way.authentication.title or way.option
        console.print(f"{number}. [bold]{escape(title)}[/] ({escape(way.option)})")
    count = len(offered)
    number = int(typer.prompt("Which one", type=int))
    if not 1 <= number <= count:
        raise Fatal(f"there is no way {number}", hint=f"choose one of 1 to {count}")
    return offered[number - 1].option


def _issued(authenticator: Authenticator, typed: Mapping[str, Any], manner: Manner) -> Issued:
    """Credentials, in the way that the app wants."""
    from membrane_sync.cli.authorize import by_browser, by_device

    if manner.device and not authenticator.offers_device:
        raise Fatal("the app has no way to connect by a device code", hint="leave --device out")
    if manner.device or (authenticator.offers_device and not authenticator.needs_browser):
        return by_device(authenticator, typed)
    if authenticator.needs_browser:
        return by_browser(authenticator, typed, port=manner.port, open_browser=manner.open_browser)
    return authenticator.issue(typed)
