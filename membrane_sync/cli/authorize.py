"""How a terminal gets credentials that take a browser: by a loopback address, or a device code."""

from __future__ import annotations

import hmac
import secrets
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rich.markup import escape

from membrane_sync.cli.output import errors
from membrane_sync.errors import Fatal, NotAuthorized
from membrane_sync.ports import Authenticator, DeviceCode, Issued

HOST = "127.0.0.1"
PATH = "/callback"
WAIT_SECONDS = 600.0
"""How long the user may take at the app's page."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="color-scheme" content="light dark"><title>membrane</title>
<body style="font: 1.125rem/1.5 system-ui, sans-serif; margin: 20vh auto; max-width: 26rem">
<h1>{title}</h1><p>{advice}</p></body></html>"""


def by_browser(
    authenticator: Authenticator,
    typed: Mapping[str, Any],
    *,
    port: int = 0,
    open_browser: bool = True,
) -> Issued:
    """Send the user to the app's page, and wait until the browser is back on this machine.

    Raises NotAuthorized if the permission isn't given in time.
    """
    state = secrets.token_urlsafe(32)
    with _listening(state, port) as (address, answers):
        authorization = authenticator.begin(address, state, typed)
        errors.print("Allow the access in your browser:", highlight=False)
        errors.print(escape(authorization.url), highlight=False, soft_wrap=True)
        if open_browser:
            webbrowser.open(authorization.url)
        try:
            answer = answers.get(timeout=WAIT_SECONDS)
        except Empty:
            raise NotAuthorized(
                f"nobody came back from the app within {WAIT_SECONDS:g} s",
                hint="try again; on a machine without a browser, try --device",
            ) from None
    if "error" in answer or "denied" in answer:
        raise NotAuthorized(
            f"the app did not give the permission: {answer.get('error', 'denied')[:100]}",
            hint="try again, and allow the access",
        )
    return authenticator.finish(answer, address, authorization.kept)


def by_device(authenticator: Authenticator, typed: Mapping[str, Any]) -> Issued:
    """Show the code to type in elsewhere, and ask until it was.

    Raises NotAuthorized if that isn't done in time.
    """
    code = authenticator.begin_device(typed)
    errors.print(
        f"On any device, open [bold]{escape(code.verification_url)}[/] "
        f"and enter the code [bold]{escape(code.user_code)}[/]",
        highlight=False,
        soft_wrap=True,
    )
    if code.complete_url:
        errors.print(f"or open {escape(code.complete_url)}", highlight=False, soft_wrap=True)
    return _polled(authenticator, code)


def _polled(authenticator: Authenticator, code: DeviceCode) -> Issued:
    deadline = time.monotonic() + code.expires_in
    pause = max(code.interval, 1.0)
    while time.monotonic() + pause < deadline:
        time.sleep(pause)
        found = authenticator.poll_device(code)
        if isinstance(found, Issued):
            return found
        pause = max(found, 1.0)
    raise NotAuthorized("the code was not entered in time", hint="try again")


@contextmanager
def _listening(state: str, port: int) -> Iterator[tuple[str, Queue[dict[str, str]]]]:
    """An address on this machine for the app to send the user back to, and what came there."""
    answers: Queue[dict[str, str]] = Queue()

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            answer = dict(parse_qsl(parts.query, keep_blank_values=True))
            if parts.path != PATH:
                self._say(404, "There is nothing here", "Look at your terminal.")
            elif not hmac.compare_digest(answer.get("state", "").encode(), state.encode()):
                self._say(400, "This can't be used", "It was begun elsewhere. Try again.")
            else:
                self._say(200, "That's it", "Close this window, and go on in your terminal.")
                answers.put(answer)

        def _say(self, status: int, title: str, advice: str) -> None:
            page = _PAGE.format(title=title, advice=advice).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing: the address has the code in it."""

    try:
        server = ThreadingHTTPServer((HOST, port), Callback)
    except OSError as error:
        raise Fatal(
            f"port {port} of {HOST} can't be listened on: {error.strerror}", hint="try another"
        ) from None
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}{PATH}", answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
