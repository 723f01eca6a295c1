"""A product with three integrations: its API and connect page, and a page of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.apps.process import HOST, free_port
from membrane_sync.bootstrap import Runtime
from membrane_sync.project.project import Project
from membrane_sync.server.app import create_app
from tests.loopback import serving as serving_pages
from tests.project.projects import write

REPOSITORY = Path(__file__).resolve().parents[2]
API_KEY = "product-" + "k" * 32

PROVIDER = """
name: Ledgerly
base_url: "{url}"
authentication:
  type: oauth2
  oauth2:
    authorize_url: "{url}/auth"
    token_url: "{url}/token"
    device_url: "{url}/device/auth"
    client_id: {{$var: $.parameters.client_id}}
    client_secret: {{$var: $.parameters.client_secret}}
    scopes: [openid, offline_access, api:read]
    extra: {{prompt: consent}}
  account_id: {{$var: $.body.sub}}
test: {{path: /api/me}}
"""

GALLERY = """
name: Gallery
base_url: https://gallery.example
input_schema:
  type: object
  properties:
    subdomain:
      type: string
      title: Your subdomain
      description: As in https://<subdomain>.gallery.example
      pattern: "^[a-z0-9-]+$"
    region: {enum: [eu, us], title: Region, default: eu}
    page_size: {type: integer, minimum: 1, maximum: 100, default: 50}
    sandbox: {type: boolean, title: This is a sandbox account, description: Emptied each night}
    website: {type: string, format: url}
    pin: {type: string, title: PIN, isSensitive: true}
  required: [subdomain, region]
authentication:
  options:
    key:
      type: api_key
      title: API key
      description: Make one in Gallery under Settings, then Developers.
      token: {$var: $.credentials.api_key}
      input_schema:
        type: object
        properties:
          api_key: {type: string, title: API key, isSensitive: true, minLength: 8}
          email: {type: string, format: email, title: Email of the key's owner}
        required: [api_key]
    password:
      type: basic
      title: User name and password
      username: {$var: $.credentials.username}
      password: {$var: $.credentials.password}
      input_schema:
        type: object
        properties: {username: {type: string}, password: {type: string, format: password}}
        required: [username, password]
"""


@dataclass(frozen=True)
class World:
    """The product's server as users and the product's backend reach it."""

    url: str
    product: str
    runtime: Runtime
    backend: httpx.Client

    def ask(self, tenant: str, integration: str, **body: Any) -> dict[str, Any]:
        """A new connection request."""
        answer = self.try_asking(tenant, integration, **body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def try_asking(self, tenant: str, integration: str, **body: Any) -> httpx.Response:
        headers = {"X-Membrane-Tenant": tenant}
        asked = {"integration": integration, **body}
        return self.backend.post("/connection-requests", json=asked, headers=headers)

    def seen(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """How a request stands, as the product's backend sees it."""
        answer = self.backend.get(f"/connection-requests/{request['id']}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def expire(self, request: Mapping[str, Any]) -> None:
        """Let the request's time be over."""
        database = sa.create_engine(self.runtime.settings.ledger_url)
        over = sa.text("UPDATE membrane_connection_requests SET expires_at = 1 WHERE id = :id")
        with database.begin() as transaction:
            transaction.execute(over, {"id": request["id"]})
        database.dispose()


@contextmanager
def open_world(root: Path, provider: OidcProvider | None) -> Iterator[World]:
    """Serve a new project from `root`; without a provider, Ledgerly can't be reached."""
    write_project(root, provider)
    port, product = free_port(), free_port()
    environ = {
        "MEMBRANE_PUBLIC_URL": f"http://{HOST}:{port}",
        "MEMBRANE_PRODUCT_NAME": "Acme CRM",
        "MEMBRANE_CONNECT_REDIRECTS": f"http://{HOST}:{product}/*",
        "MEMBRANE_API_KEYS": API_KEY,
        "MEMBRANE_PRIVATE_HOSTS": HOST,
    }
    runtime = Runtime(Project.load(root, environ))
    url = f"http://{HOST}:{port}"
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with (
        serving(runtime, port),
        product_pages(product, url),
        httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as backend,
    ):
        yield World(url, f"http://{HOST}:{product}", runtime, backend)
    runtime.close()


def write_project(root: Path, provider: OidcProvider | None) -> None:
    """The project's files, with Kinto's connector as it comes with the package."""
    kinto = (REPOSITORY / "connectors" / "kinto" / "connector.yaml").read_text(encoding="utf-8")
    url = provider.url if provider else "http://127.0.0.1:9"
    secret = provider.secret("basic") if provider else ""
    integration = f"parameters: {{client_id: basic, client_secret: {secret}}}\n"
    write(
        root,
        {
            "connectors/ledgerly/connector.yaml": PROVIDER.format(url=url),
            "connectors/teller/connector.yaml": by_code(PROVIDER.format(url=url)),
            "connectors/gallery/connector.yaml": GALLERY,
            "connectors/kinto/connector.yaml": kinto,
            "mappings/integrations/ledgerly/integration.yaml": integration,
            "mappings/integrations/teller/integration.yaml": integration,
            "mappings/integrations/gallery/integration.yaml": "name: Gallery\n",
            "mappings/integrations/kinto/integration.yaml": "name: Kinto\n",
        },
    )


def by_code(connector: str) -> str:
    """The provider as an app that has nothing but device codes."""
    teller = connector.replace("name: Ledgerly", "name: Teller")
    return teller.replace("  oauth2:\n", "  oauth2:\n    grant: device_code\n")


@contextmanager
def serving(runtime: Runtime, port: int) -> Iterator[None]:
    """The API and the page under a real uvicorn."""
    config = uvicorn.Config(create_app(runtime), host=HOST, port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


OPENER = """<!doctype html><meta charset="utf-8"><title>Product</title>
<script src="{url}/connect.js"></script>
<button id="open">Connect</button><output id="answer"></output>
<script>
  const answer = document.getElementById("answer");
  const show = (value) => {{ answer.textContent = JSON.stringify(value); }};
  document.getElementById("open").onclick = () =>
    MembraneSync.connect(new URLSearchParams(location.search).get("link"))
      .then(show, (error) => show({{ code: error.code, message: error.message }}));
</script>
"""


@contextmanager
def product_pages(port: int, server: str) -> Iterator[None]:
    """The product's own site: any address is a page with a button that opens `?link=`."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = OPENER.format(url=server).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with serving_pages(Site, port):
        yield
