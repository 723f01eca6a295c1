"""OAuth 1 in its three legs: on the connect page and from a terminal, at an app behind TLS."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from membrane_sync.bootstrap import open_runtime
from membrane_sync.clients.transport import tls
from membrane_sync.records import Call
from tests.certificates import Authority, server_context
from tests.cli.terminal import Terminal
from tests.clients.oauth1_app import KEY, SECRET, OAuth1App
from tests.connect.visitor import Visitor
from tests.connect.world import World, open_world
from tests.project.projects import write

CONNECTOR = """
name: Notebook
base_url: {url}/api
authentication:
  type: oauth1
  oauth1:
    request_token_url: {url}/request
    authorize_url: {url}/allow
    access_token_url: {url}/access
test: {{path: /me}}
"""
INTEGRATION = f"name: Notebook\nparameters: {{consumer_key: {KEY}, consumer_secret: {SECRET}}}\n"


@dataclass(frozen=True)
class Notebook:
    """The app, the product that connects it, and how a browser trusts its certificate."""

    app: OAuth1App
    world: World
    root: Path
    trust: ssl.SSLContext

    def user_goes(self, target: str, *, says: str = "yes") -> str:
        """Do as a user does who is sent to the app; gives where the app sends the user back to."""
        answer = httpx.get(f"{target}&say={says}", verify=self.trust, trust_env=False)
        assert answer.status_code == 302
        return str(answer.headers["Location"])


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    root, authority = tmp_path_factory.mktemp("notebook"), Authority()
    trusted = tmp_path_factory.mktemp("trusted") / "authority.pem"
    trusted.write_text(authority.pem)
    app = OAuth1App()
    with (
        pytest.MonkeyPatch.context() as patch,
        app.served(server_context(authority, trusted.parent)) as url,
    ):
        patch.setenv("SSL_CERT_FILE", str(trusted))
        tls.cache_clear()
        write(
            root,
            {
                "connectors/notebook/connector.yaml": CONNECTOR.format(url=url),
                "mappings/integrations/notebook/integration.yaml": INTEGRATION,
            },
        )
        with open_world(root, None) as world:
            trust = ssl.create_default_context(cafile=str(trusted))
            yield Notebook(app, world, root, trust)
    tls.cache_clear()


def test_by_the_page(notebook: Notebook, tenant: str) -> None:
    request = notebook.world.ask(tenant, "notebook", redirect_uri="")
    with Visitor() as visitor:
        visitor.open(request["url"])
        assert "You sign in at Notebook itself" in visitor.text
        visitor.send(request["url"])
        assert "oauth_token=temporary-" in visitor.target and "planted" not in visitor.page.text
        back = notebook.user_goes(visitor.target)
        assert back.startswith(f"{notebook.world.url}/oauth/callback?state=")
        with Visitor() as other:
            assert other.open(back).status_code == 400, "it's of use to nobody else"
        visitor.open(back)
        assert "Notebook is connected" in visitor.text and "oauth_" not in str(visitor.page.url)
        assert visitor.open(back).status_code == 400, "and only once"
    key = notebook.world.seen(request)["connection"]
    record = notebook.world.runtime.ledger.connection(key)
    assert record.credentials["oauth_token_secret"] == "planted-token-secret"
    with closing(notebook.world.runtime.apps.api(record)) as api:
        assert api.send(Call("GET", "/notes", {"q": "a b"})).body == {"ok": True}
    through = notebook.world.backend.get(f"/connections/{key}/proxy/notes?q=a%20b")
    assert (through.status_code, through.json()) == (200, {"ok": True})


def test_who_says_no_may_think_again(notebook: Notebook, tenant: str) -> None:
    request = notebook.world.ask(tenant, "notebook")
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"])
        visitor.open(notebook.user_goes(visitor.target, says="no"))
        assert "Notebook was not allowed to connect" in visitor.text
        assert notebook.world.seen(request)["error"] == {"code": "access_denied"}
        visitor.send(request["url"])
        visitor.open(notebook.user_goes(visitor.target))
        assert "Notebook is connected" in visitor.text


def test_a_verifier_that_is_made_up_is_refused(notebook: Notebook, tenant: str) -> None:
    request = notebook.world.ask(tenant, "notebook")
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"])
        back = httpx.URL(notebook.user_goes(visitor.target))
        visitor.open(str(back.copy_set_param("oauth_verifier", "made-up")))
        assert "Notebook did not accept the sign-in" in visitor.text
    assert notebook.world.seen(request)["status"] == "pending"


def test_from_a_terminal(notebook: Notebook) -> None:
    terminal = Terminal(notebook.root, "notebook", "--tenant", "acme", "--json")
    target = terminal.wait_for(r"(https\S+/allow\?\S+)\s")
    back = notebook.user_goes(target)
    assert back.startswith("http://127.0.0.1:") and "/callback?state=" in back
    assert "your terminal" in httpx.get(back).text
    code, out = terminal.end()
    assert code == 0, terminal.said
    assert json.loads(out)["connection"] == "acme_notebook"
    assert "planted" not in terminal.said + out
    runtime = open_runtime(notebook.root)
    assert runtime.ledger.connection("acme_notebook").credentials["oauth_token"] == "final"
    runtime.close()


def test_a_no_at_the_terminal_is_an_error(notebook: Notebook) -> None:
    terminal = Terminal(notebook.root, "notebook", "--tenant", "globex")
    target = terminal.wait_for(r"(https\S+/allow\?\S+)\s")
    httpx.get(notebook.user_goes(target, says="no"))
    assert terminal.end()[0] == 1
    assert "did not give the permission" in terminal.said
