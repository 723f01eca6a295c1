"""A whole connector held against an app: credentials, then each collection."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError, NotAuthorized
from membrane_sync.kit.conditions import check_condition
from membrane_sync.kit.cursors import check_cursor
from membrane_sync.kit.deletions import check_deletions
from membrane_sync.kit.fields import check_custom_fields
from membrane_sync.kit.findings import Finding, Findings
from membrane_sync.kit.following import Following
from membrane_sync.kit.lists import check_list
from membrane_sync.kit.patience import Patience
from membrane_sync.kit.reading import Probe, Reading, below_a_parent
from membrane_sync.kit.single import Single, check_reading
from membrane_sync.kit.ties import check_ties
from membrane_sync.kit.writing import check_writing
from membrane_sync.ports import Api, ConnectionRecord
from membrane_sync.project.support import unsupported
from membrane_sync.sync.collection import render
from membrane_sync.sync.rendering import Functions

PAGES = 5
"""Pages that are read of each list, unless more are asked for."""

OpenApi = Callable[[ConnectionRecord], Api]
"""Opens the app for a connection."""


@dataclass(frozen=True)
class Target:
    """What to check, and how far it may go: `write` creates, changes and deletes records."""

    connector: Connector
    collections: Sequence[DataCollection]
    connection: ConnectionRecord
    open_api: OpenApi
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pages: int = PAGES
    write: bool = False
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of a new record, by collection; else one is made like those that are there."""
    functions: Functions = field(default_factory=dict)
    """Of the connector's hooks.py."""
    sleep: Callable[[float], None] = time.sleep
    """Waits until the app shows what was written."""
    every: Sequence[DataCollection] = ()
    """All collections of the connector, as lists may be below others than those to check."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the check begins."""
    mark: str = field(default_factory=lambda: secrets.token_hex(3))
    """In what is created, so that it's told apart."""


def check_connector(
    target: Target, progress: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Every promise of the connector and its collections, and what was seen of it.

    Reads only, unless the target says `write`. Raises NotAuthorized if the credentials that were
    given are refused: then nothing else can be found out.
    """
    found: list[Finding] = []
    api = Probe(target.open_api(target.connection), target.functions, target.now)
    scope = {"input": dict(target.connection.input), "parameters": dict(target.parameters)}
    try:
        progress("credentials")
        _credentials(target, api, scope, Findings("", found))
        for collection in target.collections:
            progress(collection.key)
            _collection(target, collection, api, scope, Findings(collection.key, found))
        _limits(target.connector, api, Findings("", found))
    finally:
        api.close()
    return found


def _credentials(target: Target, api: Probe, scope: Mapping[str, Any], findings: Findings) -> None:
    test = target.connector.test
    if test is None:
        findings.undeclared("test", "membrane connect can't prove credentials without one")
        return
    try:
        api.send(render(test, scope))
    except NotAuthorized:
        raise
    except MembraneError as error:
        findings.failed("test", error.message, error.hint)
        return
    findings.ok("test", "the credentials work")
    _wrong_credentials(target, scope, findings)


def _wrong_credentials(target: Target, scope: Mapping[str, Any], findings: Findings) -> None:
    promise = "test refuses others"
    wrong = _spoilt(target.connection.credentials)
    assert target.connector.test is not None
    if target.connector.authentication.type == "none" or wrong == target.connection.credentials:
        findings.unproven(promise, "there are no credentials")
        return
    api = target.open_api(replace(target.connection, credentials=wrong))
    try:
        api.send(render(target.connector.test, scope))
    except NotAuthorized:
        findings.ok(promise, "wrong credentials are refused")
    except MembraneError as error:
        findings.unproven(promise, error.message, "answers other than 401 and 403 need error rules")
    else:
        advice = "choose a request that needs credentials: customers could connect with wrong ones"
        findings.failed(promise, "wrong credentials work, too", advice)
    finally:
        api.close()


def _spoilt(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """The credentials with each text turned round, so that their form stays."""
    return {
        name: (value[::-1] if value != value[::-1] else f"{value}x")
        if isinstance(value, str)
        else value
        for name, value in credentials.items()
    }


def _collection(
    target: Target,
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    findings: Findings,
) -> None:
    waiting = [message for _, message in unsupported(collection)]
    if waiting:
        findings.unproven("list", waiting[0])
        return
    below = _below(target, collection, api, scope, findings)
    if below is None:
        return
    scope = below
    reading = check_list(collection, api, scope, target.pages, findings) or Reading()
    records = reading.records
    if records:
        check_cursor(collection, api, scope, reading, target.pages, findings)
        check_ties(collection, api, scope, reading, findings)
        check_condition(collection, api, scope, reading, findings)
    check_deletions(collection, api, scope, reading, target.pages, findings)
    check_custom_fields(collection, api, scope, records, findings)
    single = Single(collection, api, scope)
    check_reading(single, records, findings)
    if target.write:
        patience = Patience(target.sleep)
        following = Following(collection, api, scope, reading, target.pages, patience)
        sample = target.samples.get(collection.key)
        check_writing(single, following, patience, sample, target.mark, records, findings)
        return
    for name in ("create", "update", "delete"):
        method = getattr(collection, name)
        if method is not None and not method.not_supported:
            findings.unproven(name, "nothing was written", "--write, on an account for tests")


def _below(
    target: Target,
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    findings: Findings,
) -> Mapping[str, Any] | None:
    """The scope with a record above the list; None, and why, if there's none to be had."""
    known = {found.key: found for found in (*target.every, *target.collections)}
    try:
        below = below_a_parent(collection, known.get, api, scope)
    except MembraneError as error:
        findings.failed("list", f"of its parents: {error.message}", error.hint)
        return None
    if below is None:
        findings.unproven("list", "there's no parent to read it below", "add one over there")
    return below


def _limits(connector: Connector, api: Probe, findings: Findings) -> None:
    seen = ", ".join(f"{name}: {value}" for name, value in sorted(api.limit_headers.items()))
    if seen:
        findings.ok("rate limit headers", seen)
    elif connector.rate_limits:
        findings.unproven("rate limits", f"{api.answers} answers told nothing of them")
    else:
        findings.undeclared("rate limits", "the app told nothing: declare what its pages say")
