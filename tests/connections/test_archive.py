"""Archiving at a provider: its tokens are revoked there before they are forgotten here."""

from __future__ import annotations

from pathlib import Path

from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.helpers import Workspace, new_workspace
from tests.end_to_end.leaky_app import LeakyApp, leaky_app

TOKENS = {"access_token": "planted-access", "refresh_token": "planted-refresh"}
CONNECTOR = """
name: CRM
base_url: {$var: $.input.url}
input_schema: {type: object, properties: {url: {type: string}}}
parameters_schema: {type: object, properties: {client_id: {type: string}}}
authentication:
  type: oauth2
  oauth2:
    authorize_url: {$concat: [{$var: $.input.url}, /authorize]}
    token_url: {$concat: [{$var: $.input.url}, /token]}
    revoke_url: {$concat: [{$var: $.input.url}, /revoke]}
    client_id: {$var: $.parameters.client_id}
"""


def connected(root: Path, app: LeakyApp) -> Workspace:
    workspace = new_workspace(root)
    workspace.write("connectors/crm/connector.yaml", CONNECTOR)
    integration = "name: CRM\nparameters: {client_id: ours}"
    workspace.write("mappings/integrations/crm/integration.yaml", integration)
    record = ConnectionRecord("acme_crm", "crm", "acme", input={"url": app.url}, credentials=TOKENS)
    workspace.runtime.register(record)
    return workspace


def test_tokens_are_revoked_and_forgotten(tmp_path: Path) -> None:
    with leaky_app(list(TOKENS.values())) as app:
        workspace = connected(tmp_path, app)
        assert workspace.runtime.archive("acme_crm").warning == ""
        assert app.seen == set(TOKENS.values())
    assert workspace.runtime.ledger.connection("acme_crm").credentials == {}


def test_a_provider_that_is_down_is_a_warning(tmp_path: Path) -> None:
    with leaky_app(list(TOKENS.values())) as app:
        workspace = connected(tmp_path, app)
        app.failure = 500
        warning = workspace.runtime.archive("acme_crm").warning
    assert warning.startswith("the app wasn't told: crm")
    assert "planted" not in warning
    assert workspace.runtime.ledger.connection("acme_crm").credentials == {}
