"""`membrane connect`: by typed credentials, by a browser on this machine, and by a device code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.oidc_provider import OidcProvider, start_oidc_provider
from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.main import app
from membrane_sync.ports import ConnectionRecord
from tests.cli.terminal import SECONDS, Terminal
from tests.connect.world import write_project


@pytest.fixture(scope="module")
def provider(oidc_provider_dir: Path, apps_run: Path) -> Iterator[OidcProvider]:
    data = apps_run / "oidc_provider_cli"
    back = ["http://127.0.0.1/callback"]
    with start_oidc_provider(oidc_provider_dir, data=data, redirect_uris=back) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, provider: OidcProvider) -> Path:
    write_project(tmp_path, provider)
    return tmp_path


def record(project: Path, key: str) -> ConnectionRecord:
    runtime = open_runtime(project)
    found = runtime.ledger.connection(key)
    runtime.close()
    return found


def test_by_a_browser_on_this_machine(project: Path, provider: OidcProvider) -> None:
    terminal = Terminal(project, "ledgerly", "--tenant", "acme", "--json")
    url = terminal.wait_for(r"(http\S+/auth\?\S+)\s")
    query = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    assert query["code_challenge_method"] == "S256"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", query["redirect_uri"])
    answer = provider.allow(url, "ann")
    # What others send there does nothing.
    assert httpx.get(query["redirect_uri"], params={"code": "x"}).status_code == 400
    wrong = {**answer, "state": "wrong"}
    assert httpx.get(query["redirect_uri"], params=wrong).status_code == 400
    other = query["redirect_uri"].replace("/callback", "/other")
    assert httpx.get(other, params=answer).status_code == 404
    page = httpx.get(query["redirect_uri"], params=answer)
    assert page.status_code == 200 and "your terminal" in page.text
    code, out = terminal.end()
    assert code == 0, terminal.said
    assert json.loads(out)["connection"] == "acme_ledgerly"
    made = record(project, "acme_ledgerly")
    assert made.credentials["refresh_token"] and made.expires_at
    assert answer["code"] not in terminal.said + out
    assert made.credentials["access_token"] not in terminal.said + out


def test_a_refusal_is_an_error(project: Path, provider: OidcProvider) -> None:
    terminal = Terminal(project, "ledgerly", "--tenant", "acme")
    url = terminal.wait_for(r"(http\S+/auth\?\S+)\s")
    redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    httpx.get(redirect, params=provider.allow(url, "ann", cancel=True))
    code, _ = terminal.end()
    assert code == 1 and "did not give the permission: access_denied" in terminal.said


def test_another_account_than_before_is_refused(project: Path, provider: OidcProvider) -> None:
    runtime = open_runtime(project)
    known = ConnectionRecord("acme_ledgerly", "ledgerly", "acme", account="ann")
    runtime.register(known)
    terminal = Terminal(project, "ledgerly", "--tenant", "acme")
    url = terminal.wait_for(r"(http\S+/auth\?\S+)\s")
    redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    httpx.get(redirect, params=provider.allow(url, "bob"))
    assert terminal.end()[0] == 1
    assert "account 'ann', and these credentials are for 'bob'" in " ".join(terminal.said.split())
    assert runtime.ledger.connection("acme_ledgerly").credentials == {}
    runtime.close()


def test_by_a_device_code(project: Path, provider: OidcProvider) -> None:
    terminal = Terminal(project, "ledgerly", "--tenant", "acme", "--device", "--key", "by_device")
    provider.allow(terminal.wait_for(r"or open (http\S+)"), "ann")
    code, out = terminal.end()
    assert code == 0, terminal.said
    assert "connected by_device: its credentials work" in out
    assert record(project, "by_device").credentials["access_token"]


def test_a_port_that_is_taken_is_said(project: Path, provider: OidcProvider) -> None:
    port = str(urlsplit(provider.url).port)
    terminal = Terminal(project, "ledgerly", "--tenant", "acme", "--port", port)
    assert terminal.end()[0] == 1
    assert f"port {port} of 127.0.0.1" in terminal.said


def run(project: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["connect", *arguments, "--project", str(project)])
    return done.exit_code, done.output


TYPED = ("gallery", "--tenant", "acme", "--set", "subdomain=a", "--set", "region=eu")


def test_one_of_several_ways_is_named(project: Path) -> None:
    code, said = run(project, *TYPED)
    assert code == 1 and "key, password" in said
    code, said = run(project, *TYPED, "--option", "nothing")
    assert code == 1 and "no authentication option 'nothing'" in said
    code, said = run(project, *TYPED, "--option", "key", "--credential", "api_key=a-long-key")
    assert code == 0, said
    made = record(project, "acme_gallery")
    assert (made.option, made.credentials["api_key"]) == ("key", "a-long-key")


def test_a_device_is_of_no_use_where_a_key_is_typed_in(project: Path) -> None:
    code, said = run(
        project, *TYPED, "--option", "key", "--credential", "api_key=a-long-key", "--device"
    )
    assert code == 1 and "device code" in said


def test_reconnecting_keeps_all_but_the_credentials(project: Path) -> None:
    pin = ("--set", "pin=4711")
    run(project, *TYPED, *pin, "--option", "key", "--credential", "api_key=a-long-key")
    runtime = open_runtime(project)
    runtime.ledger.set_status("acme_gallery", "reconnect_needed", "the key was withdrawn")
    runtime.close()
    code, said = run(project, "gallery", "--tenant", "acme", "--credential", "api_key=another-key")
    assert code == 0, said
    made = record(project, "acme_gallery")
    assert (made.option, made.status, made.reason) == ("key", "ready", "")
    assert made.input == {"subdomain": "a", "region": "eu", "page_size": 50, "pin": "4711"}
    assert made.credentials["api_key"] == "another-key"


def test_wrong_credentials_connect_nothing(project: Path, kinto: Kinto) -> None:
    code, said = run(
        project, "kinto", "--tenant", "acme", "--set", f"url={kinto.url}", "--set", "bucket=b",
        "--credential", "username=ada", "--credential", "password=planted",
    )  # fmt: skip
    assert code == 1 and "planted" not in said
    runtime = open_runtime(project)
    assert list(runtime.ledger.connections()) == []
    runtime.close()


def test_at_a_terminal_everything_is_asked_for(project: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "membrane_sync.cli.main", "connect", "gallery", "-t", "acme"]
    process = subprocess.Popen(command, cwd=project, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = ""
    for question, answer in (
        ("Which one", "1"),
        ("Your subdomain", "a"),
        ("Region", "eu"),
        ("API key: ", "a-long-secret-key"),  # after its space, nothing is echoed any more
        ("connected", ""),
    ):
        deadline = time.monotonic() + SECONDS
        while question not in said:
            assert time.monotonic() < deadline, said
            said += os.read(ours, 4096).decode() if select.select([ours], [], [], 1)[0] else ""
        if answer:
            os.write(ours, f"{answer}\n".encode())
    assert process.wait(timeout=SECONDS) == 0
    os.close(ours)
    assert "a-long-secret-key" not in said
    assert record(project, "acme_gallery").credentials["api_key"] == "a-long-secret-key"
