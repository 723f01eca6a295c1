"""The API's settings: secrets come from the environment, and what can't be used is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from membrane_sync.errors import ProjectError
from membrane_sync.project.server_settings import ServerSettings
from membrane_sync.project.settings import load_settings

KEY, SECRET = "k" * 32, "s" * 40


def server(root: Path, text: str = "", **environ: str) -> ServerSettings:
    (root / "pyproject.toml").write_text(text)
    return load_settings(root, environ).server


def test_nobody_may_ask_by_default(tmp_path: Path) -> None:
    assert server(tmp_path) == ServerSettings()
    assert not server(tmp_path).is_open


def test_the_file_and_the_environment(tmp_path: Path) -> None:
    text = """
[tool.membrane_sync.server]
workspace_key = "crm"
public_keys = ["keys/a.pem", "/etc/b.json"]
jwks_url = "https://id.example/jwks"
cors_origins = ["https://app.example"]
private_hosts = ["10.0.0.0/8"]
longest_token_seconds = 60
largest_request_bytes = 5000
"""
    found = server(tmp_path, text, MEMBRANE_API_KEYS=f"{KEY} , {SECRET}")
    assert found.is_open
    assert found.api_keys == (KEY, SECRET)
    assert found.public_keys == (tmp_path.resolve() / "keys/a.pem", Path("/etc/b.json"))
    assert (found.workspace_key, found.jwks_url) == ("crm", "https://id.example/jwks")
    assert (found.longest_token, found.largest_request) == (60, 5000)
    other = server(
        tmp_path,
        text,
        MEMBRANE_WORKSPACE_KEY="erp",
        MEMBRANE_PUBLIC_KEYS="c.pem",
        MEMBRANE_JWKS_URL="http://127.0.0.1:1/jwks",
        MEMBRANE_CORS_ORIGINS="https://x.example,https://y.example",
        MEMBRANE_PRIVATE_HOSTS="a.internal",
        MEMBRANE_WORKSPACE_SECRETS=SECRET,
    )
    assert other.workspace_key == "erp"
    assert other.public_keys == (tmp_path.resolve() / "c.pem",)
    assert other.jwks_url == "http://127.0.0.1:1/jwks"
    assert other.cors_origins == ("https://x.example", "https://y.example")
    assert (other.private_hosts, other.workspace_secrets) == (("a.internal",), (SECRET,))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MEMBRANE_API_KEYS": f"{KEY},planted-short"}, "MEMBRANE_API_KEYS.*less than 32"),
        ({"MEMBRANE_WORKSPACE_SECRETS": "planted-short"}, "MEMBRANE_WORKSPACE_SECRETS.*less than"),
        ({"MEMBRANE_WORKSPACE_SECRETS": SECRET}, "without workspace_key"),
        ({"MEMBRANE_PUBLIC_KEYS": "a.pem"}, "without workspace_key"),
        (
            {"MEMBRANE_WORKSPACE_SECRETS": "-----BEGIN PUBLIC KEY-----planted-pem" + "x" * 20},
            "a key in PEM",
        ),
        ({"MEMBRANE_JWKS_URL": "http://id.example/jwks"}, "jwks_url must be an https URL"),
        ({"MEMBRANE_JWKS_URL": "file:///etc/passwd"}, "jwks_url must be an https URL"),
        ({"MEMBRANE_CORS_ORIGINS": "*"}, "cors_origins must name"),
    ],
)
def test_what_is_of_no_use_is_refused(environ: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=words) as caught:
        server(tmp_path, **environ)
    assert "planted" not in str(caught.value)


def test_secrets_cannot_be_in_the_file(tmp_path: Path) -> None:
    text = f'[tool.membrane_sync.server]\napi_keys = ["{KEY}"]\n'
    with pytest.raises(ProjectError, match="api_keys"):
        server(tmp_path, text)


def test_settings_do_not_show_secrets(tmp_path: Path) -> None:
    found = server(tmp_path, MEMBRANE_API_KEYS=KEY, MEMBRANE_WORKSPACE_KEY="crm")
    assert KEY not in repr(found)
