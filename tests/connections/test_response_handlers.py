"""What answers mean by `makeApiClient`, declared and by a function, with an app on loopback.

The app is one of those that answer 200 whatever happens, and say in the body what it was.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.errors import Defunct, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.loopback import Quiet, serving
from tests.project.projects import write

HANDLERS = """
      - match: {$eval: {$var: $.data.error}, is: session_over}
        error: {key: access_token_expired}
      - match: {$and: [{$eval: {$var: $.status}, is: 403}, {$eval: {$var: $.data.error}, is: busy}]}
        error: {key: rate_limit_exceeded, message: the app is busy}
      - match: {$eval: {$var: $.data.error}, is: none_found}
        isSuccess: true
        data: {items: [], was: {$var: $.data.error}}
      - match: {$eval: {$var: $.data.error}, is: closed}
        error: {key: CONNECTION_IS_DEFUNCT, message: the account is closed}
      - match: {$var: $.data.error}
        error: {key: something_else, message: the app says no}
"""
DECLARED = f"  makeApiClient:\n    responseHandlers:{HANDLERS.rstrip()}\n"
BY_FUNCTION = "  functions: {makeApiClient: client}\n"
HOOKS = f"import yaml\n\n\ndef client(scope):\n    return yaml.safe_load('''{HANDLERS}''')\n"
HOOKS = HOOKS.replace("return yaml", 'return {"responseHandlers": yaml').replace("''')", "''')}")

CONNECTOR = """
name: Moody
base_url: "{url}"
authentication:
  type: session
  session:
    login: {{method: POST, path: /login, body: {{$var: $.credentials}}}}
    token: {{$var: $.body.token}}
  input_schema: {{properties: {{password: {{type: string}}}}, required: [password]}}
{how}"""


class App:
    """Gives a token at each login, of which the last is good; `moods` are its next answers."""

    def __init__(self) -> None:
        self.logins = 0
        self.moods: list[tuple[int, str]] = []
        self.calls: list[str] = []
        self.lock = threading.Lock()

    def handler(self) -> type[Quiet]:
        app = self

        class Handler(Quiet):
            def do_POST(self) -> None:  # noqa: N802
                self.rfile.read(int(self.headers["Content-Length"]))
                with app.lock:
                    app.logins += 1
                self.say(200, {"token": f"token-{app.logins}"})

            def do_GET(self) -> None:  # noqa: N802
                with app.lock:
                    app.calls.append(self.path)
                    current = self.headers["Authorization"] == f"Bearer token-{app.logins}"
                    mood = app.moods.pop(0) if app.moods else (200, "")
                if not current:
                    mood = (200, "session_over")
                self.say(mood[0], {"error": mood[1]} if mood[1] else {"items": [1]})

            def say(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(content)

        return Handler


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(params=["declared", "by a function"])
def runtime(request: pytest.FixtureRequest, app: App, tmp_path: Path) -> Iterator[Runtime]:
    how = DECLARED if request.param == "declared" else BY_FUNCTION
    with serving(app.handler()) as url:
        write(
            tmp_path,
            {
                "connectors/moody/connector.yaml": CONNECTOR.format(url=url, how=how),
                "connectors/moody/hooks.py": HOOKS,
                "mappings/integrations/moody/integration.yaml": "name: Moody\n",
            },
        )
        opened = open_runtime(tmp_path)
        issued = opened.apps.authenticator("moody").issue({"password": "p"})
        opened.register(ConnectionRecord("acme", "moody", "acme", credentials=issued.credentials))
        yield opened
        opened.close()


def items(runtime: Runtime) -> Any:
    with closing(runtime.apps.api(runtime.ledger.connection("acme"))) as api:
        return api.send(Call("GET", "/things")).body


def test_a_200_that_says_the_session_is_over_refreshes_it(runtime: Runtime, app: App) -> None:
    app.logins += 1  # somebody logged in elsewhere
    assert items(runtime) == {"items": [1]}
    assert (app.logins, len(app.calls)) == (3, 2)
    assert runtime.ledger.connection("acme").credentials["token"] == "token-3"


def test_a_403_that_says_that_the_app_is_busy_is_waited_out(runtime: Runtime, app: App) -> None:
    app.moods = [(403, "busy"), (403, "busy")]
    assert items(runtime) == {"items": [1]}
    assert (app.logins, len(app.calls)) == (1, 3)


def test_an_error_may_be_a_success_with_other_data(runtime: Runtime, app: App) -> None:
    app.moods = [(404, "none_found")]
    assert items(runtime) == {"items": [], "was": "none_found"}


def test_an_account_that_is_closed_is_marked(runtime: Runtime, app: App) -> None:
    app.moods = [(200, "closed")]
    with pytest.raises(Defunct, match="the account is closed"):
        items(runtime)
    assert runtime.ledger.known("acme").status == "reconnect_needed"


def test_any_other_error_stops(runtime: Runtime, app: App) -> None:
    app.moods = [(200, "odd")]
    with pytest.raises(UnexpectedAnswer, match="the app says no"):
        items(runtime)
    assert len(app.calls) == 1
