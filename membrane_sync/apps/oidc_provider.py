"""oidc-provider, a certified OAuth 2.0 and OpenID Connect server (npm, MIT).

Authorization code with PKCE, refresh tokens that rotate, device codes, client credentials,
revocation. A refresh token that is used again ends the whole grant, the newest tokens included.
Any login name is taken. Beside the provider there's a resource server, `/api/…`, which answers
whoever brings a live access token.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from membrane_sync.apps.install import NODE, install, install_from_npm
from membrane_sync.apps.process import HOST, TAIL, AppError, AppProcess, answers, free_port

REQUIREMENT = "oidc-provider@9.13.3"
CLIENTS = ("basic", "post", "public", "machine", "key")
SCOPES = ("openid", "offline_access", "email", "profile", "api:read", "api:write")
CALLBACK = "http://127.0.0.1:9999/callback"

_MOST_STEPS = 20
_SERVER = Path(__file__).with_suffix(".mjs")


class OidcProvider:
    """A running provider; `stop` it, or use it as a context manager."""

    def __init__(self, process: AppProcess, port: int) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}"
        self.authorize_url = f"{self.url}/auth"
        self.token_url = f"{self.url}/token"
        self.device_url = f"{self.url}/device/auth"
        self.revoke_url = f"{self.url}/token/revocation"
        self.userinfo_url = f"{self.url}/me"
        self.api_url = f"{self.url}/api"

    def secret(self, client: str) -> str:
        """The client's secret; `public` and `key` have none."""
        return f"{client}-secret-0123456789abcdef0123456789"

    def calls(self) -> list[dict[str, Any]]:
        """Requests to the token endpoint and to `/api`: `path`, `grant`, `client`, `status`."""
        lines = self.process.log.read_text(errors="replace").splitlines()
        return [json.loads(line[8:]) for line in lines if line.startswith("REQUEST ")]

    def allow(self, url: str, login: str, *, cancel: bool = False) -> dict[str, str]:
        """Do as a user does who is sent to `url`: log in, consent; gives what the callback gets.

        With `cancel`, the user goes back instead. A device's address has no callback: then it's
        empty.
        """
        with httpx.Client(timeout=30, trust_env=False) as browser:
            response = browser.get(url)
            for _ in range(_MOST_STEPS):
                if response.is_redirect:
                    target = str(response.url.join(response.headers["Location"]))
                    if not target.startswith(self.url):
                        return dict(httpx.URL(target).params)
                    response = browser.get(target)
                    continue
                step = _step(response, login, cancel=cancel)
                if step is None:
                    return {}
                method, target, data = step
                response = browser.request(method, target, data=data)
        raise AppError(f"the provider did not come to an end with {url}")

    def stop(self) -> None:
        """End the server; what it issued is forgotten."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _step(
    response: httpx.Response, login: str, *, cancel: bool
) -> tuple[str, str, dict[str, str] | None] | None:
    """What a user does on a page: method, address and form; None where nothing is left to do."""
    page = response.text
    form = re.search(r'<form[^>]*action="([^"]+)"', page)
    back = re.search(r'<a href="([^"]+/abort)"', page)
    if cancel and back:
        return "GET", str(response.url.join(back[1])), None
    if response.is_error or form is None:
        if response.is_error:
            raise AppError(f"the provider answered {response.status_code}: {page[:TAIL]}")
        return None
    data = dict(re.findall(r'name="(\w+)"[^>]*value="([^"]*)"', page))
    if data.get("prompt") == "login":
        data |= {"login": login, "password": "any"}
    return "POST", str(response.url.join(form[1])), data


def install_oidc_provider(directory: Path) -> Path:
    """Install the provider below `directory` once, and Node where the machine has none."""
    install_from_npm(directory, REQUIREMENT)
    return directory


def start_oidc_provider(
    directory: Path,
    *,
    data: Path,
    port: int | None = None,
    access_token_seconds: int = 3600,
    refresh_token_seconds: int = 1_209_600,
    rotate: bool = True,
    redirect_uris: Sequence[str] = (CALLBACK,),
    public_key: dict[str, Any] | None = None,
) -> OidcProvider:
    """Start what `install_oidc_provider` installed; `data` holds its log.

    `public_key` is the JWK of the client `key`, which authenticates with `private_key_jwt`.
    """
    port = port or free_port()
    options = {
        "port": port,
        "accessTokenSeconds": access_token_seconds,
        "refreshTokenSeconds": refresh_token_seconds,
        "rotate": rotate,
        "redirectUris": list(redirect_uris),
        "publicKey": public_key,
        "scopes": list(SCOPES),
    }
    script = directory.resolve() / "server.mjs"
    if not script.exists() or script.read_bytes() != _SERVER.read_bytes():
        script.write_bytes(_SERVER.read_bytes())
    process = AppProcess(
        name="oidc-provider",
        command=[*_node(directory), str(script)],
        directory=data,
        ready=answers(f"http://{HOST}:{port}/.well-known/openid-configuration"),
        environment={"PROVIDER_OPTIONS": json.dumps(options)},
    ).start()
    return OidcProvider(process, port)


def _node(directory: Path) -> list[str]:
    found = shutil.which("node")
    return [found] if found else [str(install(directory / "node", NODE, "node"))]
