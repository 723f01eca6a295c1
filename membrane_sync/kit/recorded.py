"""A check that is recorded, and one that is played back from a recording without the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.elements.sensitive import sensitive_fields, sensitive_values
from membrane_sync.errors import Fatal
from membrane_sync.formulas import variables
from membrane_sync.formulas.locators import steps_of
from membrane_sync.kit.connector import OpenApi, Target
from membrane_sync.kit.reading import value_at
from membrane_sync.ports import Api, ConnectionRecord
from membrane_sync.sync.rendering import Functions
from membrane_sync.testing.recording import Recorder, Redaction, Replayer


def live_api(connector: Connector, parameters: Mapping[str, Any]) -> OpenApi:
    """Opens the app over HTTP."""

    def open_api(connection: ConnectionRecord) -> Api:
        return HttpApi(connector, connection, parameters)

    return open_api


def recording(target: Target) -> tuple[Target, Recorder]:
    """The same check, whose exchanges the recorder keeps without the secrets."""
    redaction = redaction_of(target.connector, target.collections)
    for secret in _secrets(target):
        redaction.learn(secret)
    recorder = Recorder(redaction)

    def open_api(connection: ConnectionRecord) -> Api:
        return HttpApi(target.connector, connection, target.parameters, transport=recorder)

    return replace(target, open_api=open_api), recorder


def save(target: Target, recorder: Recorder, path: Path) -> None:
    """Write the recording, with what a replay needs to ask the same."""
    scope = {"input": dict(target.connection.input), "parameters": dict(target.parameters)}
    about = {
        "connector": target.connector.key,
        "base_url": value_at(target.connector.base_url, scope),
        "input": dict(target.connection.input),
        "collections": [collection.key for collection in target.collections],
        "pages": target.pages,
        "write": target.write,
        "mark": target.mark,
        "now": target.now.isoformat(),
        "samples": {key: dict(fields) for key, fields in target.samples.items()},
    }
    recorder.save(path, about)


def replaying(
    path: Path,
    connector: Connector,
    collections: Sequence[DataCollection],
    parameters: Mapping[str, Any],
    functions: Functions | None = None,
) -> Target:
    """The check that was recorded, played back; raises Fatal for another connector's file."""
    redaction = redaction_of(connector, collections)
    replayer = Replayer(path, redaction)
    about = replayer.about
    if about.get("connector") != connector.key:
        raise Fatal(
            f"{path} was recorded for connector {about.get('connector')!r}, not {connector.key!r}"
        )
    there = connector.model_copy(update={"base_url": about["base_url"]})
    declared = connector.authentication.input_schema.get("properties") or {}
    connection = ConnectionRecord(
        "replayed",
        connector.key,
        "replayed",
        input=about["input"],
        credentials={name: f"replayed-{name}" for name in declared},
    )
    for value in connection.credentials.values():
        redaction.learn(str(value))

    known = {collection.key: collection for collection in collections}

    def open_api(given: ConnectionRecord) -> Api:
        return HttpApi(there, given, parameters, transport=replayer, sleep=lambda _: None)

    return Target(
        connector=there,
        collections=[known[key] for key in about["collections"] if key in known],
        connection=connection,
        open_api=open_api,
        parameters=parameters,
        pages=about["pages"],
        write=about["write"],
        samples=about["samples"],
        functions=functions or {},
        sleep=lambda _: None,
        every=collections,
        mark=about["mark"],
        now=datetime.fromisoformat(about["now"]) if "now" in about else datetime.now(UTC),
    )


def redaction_of(connector: Connector, collections: Sequence[DataCollection]) -> Redaction:
    """Takes out all fields that the connector calls sensitive, but for the tokens of pages."""
    paged = {name for collection in collections for name in _paged_by(collection)}
    return Redaction(names=_names(connector), plain=paged)


def _secrets(target: Target) -> list[str]:
    """The values of credentials, and of whatever else is sensitive."""
    given = {**target.connection.input, **target.parameters}
    names = _names(target.connector)
    sensitive = {name: value for name, value in given.items() if name in names}
    sensitive |= sensitive_values({}, given)
    return [*_texts(target.connection.credentials), *_texts(sensitive)]


def _names(connector: Connector) -> set[str]:
    authentication = connector.authentication
    names = {authentication.parameter}
    for schema in (
        authentication.input_schema,
        authentication.parameters_schema,
        connector.input_schema,
        connector.parameters_schema,
    ):
        names |= {*sensitive_fields(schema)}
    return names


def _paged_by(collection: DataCollection) -> set[str]:
    """Names of tokens of pages: those are no secrets, and without them no page can be asked for."""
    if collection.list_ is None:
        return set()
    pagination, cursor = collection.list_.pagination, collection.list_.cursor
    names = {pagination.parameter} if pagination.parameter else set()
    token = None if cursor is None else cursor.delta_token
    for locator in (*variables(pagination.next), *variables(token)):
        steps = steps_of(locator)
        names |= {str(steps[-1])} if steps else set()
    return names | _delta_parameters(collection.list_)


def _delta_parameters(method: ListMethod) -> set[str]:
    """By which names a delta token is sent."""
    sent = {**method.query, **method.variables, **method.headers}
    sent |= method.body if isinstance(method.body, Mapping) else {}
    return {name for name, value in sent.items() if "$.delta_token" in variables(value)}


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return [str(value)] if isinstance(value, str | int) and not isinstance(value, bool) else []
