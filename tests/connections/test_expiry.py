"""Tokens of a real provider that end while requests go on, through the runtime of a project."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.errors import Defunct, Fatal
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.connections.fleet import ACME
from tests.connections.provider import CLIENT, connector, grant, refreshes, works

RECORDS = Call("GET", "/records")
THREADS = 4
SECONDS = 12.0


@pytest.fixture
def runtime(tmp_path: Path, brief_provider: OidcProvider) -> Iterator[Runtime]:
    """Of a project with one integration, whose tokens end after 5 seconds."""
    parameters = {"client_id": CLIENT, "client_secret": brief_provider.secret(CLIENT)}
    declared = connector(brief_provider)
    del declared["key"]
    write(tmp_path / "connectors/app/connector.yaml", {"name": "App", **declared})
    integration = {"name": "App", "parameters": parameters}
    write(tmp_path / "mappings/integrations/app/integration.yaml", integration)
    opened = open_runtime(tmp_path)
    yield opened
    opened.ledger.close()


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(content))


def connect(runtime: Runtime, provider: OidcProvider, **fields: Any) -> ConnectionRecord:
    given = grant(provider, "ada")
    record = ConnectionRecord(ACME, "app", "acme", credentials=given.credentials, **fields)
    runtime.register(record)
    return runtime.ledger.connection(ACME)


def test_many_requests_over_several_lifetimes_meet_no_refusal(
    runtime: Runtime, brief_provider: OidcProvider
) -> None:
    record = connect(runtime, brief_provider, expires_at=time.time() + 5)
    refreshed, called = len(refreshes(brief_provider)), len(brief_provider.calls())
    until = time.monotonic() + SECONDS
    sent: list[int] = []
    with closing(runtime.apps.api(record)) as api:

        def work() -> None:
            while time.monotonic() < until:
                sent.append(api.send(RECORDS).status)
                time.sleep(0.05)

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(sent) > SECONDS * 2 and set(sent) == {200}
    lately = refreshes(brief_provider)[refreshed:]
    assert 2 <= len(lately) <= SECONDS / 2 and set(lately) == {200}
    answers = [c["status"] for c in brief_provider.calls()[called:] if "/api" in c["path"]]
    assert set(answers) == {200}, "they were refreshed before they ended"


def test_a_token_that_has_ended_is_refreshed_when_the_app_refuses_it(
    runtime: Runtime, brief_provider: OidcProvider
) -> None:
    record = connect(runtime, brief_provider)
    assert record.expires_at is None
    time.sleep(5.5)
    called = len(brief_provider.calls())
    with closing(runtime.apps.api(record)) as api:
        assert [api.send(RECORDS).status for _ in range(3)] == [200, 200, 200]
    answers = [(c["path"][:4], c["status"]) for c in brief_provider.calls()[called:]]
    assert answers == [("/api", 401), ("/tok", 200), *[("/api", 200)] * 3]
    assert runtime.ledger.connection(ACME).expires_at is not None


def test_by_hand_they_are_refreshed_at_any_time(
    runtime: Runtime, brief_provider: OidcProvider
) -> None:
    first = connect(runtime, brief_provider, expires_at=time.time() + 5)
    second = runtime.apps.refresh(ACME)
    assert second.version == first.version + 1
    assert second.credentials["access_token"] != first.credentials["access_token"]
    assert works(brief_provider, second.credentials["access_token"])


def test_a_grant_that_was_withdrawn_is_marked_and_told(
    runtime: Runtime, brief_provider: OidcProvider
) -> None:
    record = connect(runtime, brief_provider)
    runtime.apps.refresh(ACME)
    # As a thief would: the provider ends the whole grant.
    stale = runtime.apps.authenticator("app")
    with pytest.raises(Defunct):
        stale.refresh(record.credentials)
    with closing(runtime.apps.api(runtime.ledger.connection(ACME))) as api, pytest.raises(Defunct):
        api.send(RECORDS)
    marked = runtime.ledger.connection(ACME)
    assert marked.status == "reconnect_needed" and "invalid_grant" in marked.reason
    secrets = [*record.credentials.values(), *marked.credentials.values()]
    assert not [s for s in secrets if len(str(s)) > 20 and str(s) in marked.reason]
    with pytest.raises(Defunct, match="invalid_grant"):
        runtime.apps.refresh(ACME)
    connect(runtime, brief_provider, expires_at=time.time() + 5)
    with closing(runtime.apps.api(runtime.ledger.connection(ACME))) as api:
        assert api.send(RECORDS).status == 200


def test_what_was_typed_in_cannot_be_refreshed(tmp_path: Path) -> None:
    bearer = {"type": "bearer", "token": {"$var": "$.credentials.token"}}
    declared = {"name": "App", "base_url": "https://app.test", "authentication": bearer}
    write(tmp_path / "connectors/app/connector.yaml", declared)
    write(tmp_path / "mappings/integrations/app/integration.yaml", {"name": "App"})
    opened = open_runtime(tmp_path)
    opened.register(ConnectionRecord(ACME, "app", "acme", credentials={"token": "t"}))
    with pytest.raises(Fatal, match="credentials of 'acme_app' can't be refreshed"):
        opened.apps.refresh(ACME)
    opened.ledger.close()
