"""The OAuth provider as tests rely on it: consent, rotation, the end of a grant, its call log."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from membrane_sync.apps.oidc_provider import (
    CALLBACK,
    NODE,
    OidcProvider,
    install_oidc_provider,
    start_oidc_provider,
)


def authorize(provider: OidcProvider, state: str = "s") -> str:
    wanted = {
        "client_id": "basic",
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "openid offline_access api:read",
        "state": state,
        "prompt": "consent",
    }
    return f"{provider.authorize_url}?{urlencode(wanted)}"


def token(provider: OidcProvider, **form: str) -> httpx.Response:
    return httpx.post(
        provider.token_url, data=form, auth=("basic", provider.secret("basic")), trust_env=False
    )


def granted(provider: OidcProvider, login: str) -> dict[str, Any]:
    back = provider.allow(authorize(provider), login)
    answer = token(
        provider, grant_type="authorization_code", code=back["code"], redirect_uri=CALLBACK
    )
    found: dict[str, Any] = answer.json()
    return found


def test_any_login_name_is_taken(oidc_provider: OidcProvider) -> None:
    for login in ("olga", "per"):
        bearer = {"Authorization": f"Bearer {granted(oidc_provider, login)['access_token']}"}
        found = httpx.get(f"{oidc_provider.api_url}/records", headers=bearer, trust_env=False)
        assert found.json() == {"sub": login, "records": []}
    refused = httpx.get(f"{oidc_provider.api_url}/records", trust_env=False)
    assert refused.status_code == 401


def test_a_user_may_cancel(oidc_provider: OidcProvider) -> None:
    back = oidc_provider.allow(authorize(oidc_provider, "mine"), "olga", cancel=True)
    assert (back["error"], back["state"]) == ("access_denied", "mine")


def test_refresh_tokens_rotate_and_reuse_ends_the_grant(oidc_provider: OidcProvider) -> None:
    before = len(oidc_provider.calls())
    first = granted(oidc_provider, "rita")["refresh_token"]
    second = token(oidc_provider, grant_type="refresh_token", refresh_token=first).json()
    assert second["refresh_token"] != first
    statuses = [
        token(oidc_provider, grant_type="refresh_token", refresh_token=used).status_code
        for used in (first, second["refresh_token"])
    ]
    assert statuses == [400, 400]
    seen = [(call["grant"], call["status"]) for call in oidc_provider.calls()[before:]]
    assert seen == [
        ("authorization_code", 200),
        ("refresh_token", 200),
        ("refresh_token", 400),
        ("refresh_token", 400),
    ]


def test_settings_and_an_end(oidc_provider_dir: Path, tmp_path: Path) -> None:
    with start_oidc_provider(
        oidc_provider_dir, data=tmp_path, access_token_seconds=2, rotate=False
    ) as provider:
        found = granted(provider, "sam")
        assert found["expires_in"] == 2
        again = token(provider, grant_type="refresh_token", refresh_token=found["refresh_token"])
        assert again.json()["refresh_token"] == found["refresh_token"]
    assert provider.process.pid is None


def test_it_brings_node_along_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def installed(directory: Path, requirement: str, program: str) -> Path:
        asked.append(f"{requirement} {program} {directory.name}")
        fake = tmp_path / program
        fake.write_text("#!/bin/sh\nexit 0\n")
        fake.chmod(0o755)
        return fake

    monkeypatch.setattr("membrane_sync.apps.install.shutil.which", lambda _: None)
    monkeypatch.setattr("membrane_sync.apps.install.install", installed)
    install_oidc_provider(tmp_path / "provider")
    assert asked == [f"{NODE} npm node"]
