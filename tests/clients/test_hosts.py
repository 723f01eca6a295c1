"""Where a stranger types in the address, private networks are out of reach, by whatever name."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import httpx
import pytest

from membrane_sync.clients.hosts import Guarded, Hosts
from membrane_sync.clients.transport import http_client
from membrane_sync.errors import Fatal
from tests.server.helpers import echo_app

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
]
PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    assert not Hosts().takes("app.example", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_taken(address: str) -> None:
    assert Hosts().takes("app.example", ipaddress.ip_address(address))


def test_private_hosts_are_named_one_by_one() -> None:
    hosts = Hosts(("10.0.0.0/8", "Kinto.internal", "192.168.1.1"))
    for host, address, taken in [
        ("app.example", "10.9.9.9", True),
        ("app.example", "::ffff:10.9.9.9", True),
        ("kinto.internal", "127.0.0.1", True),
        ("other.internal", "127.0.0.1", False),
        ("app.example", "192.168.1.1", True),
        ("app.example", "192.168.1.2", False),
    ]:
        assert hosts.takes(host, ipaddress.ip_address(address)) is taken


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_this_machine_is_out_of_reach_by_any_name(host: str) -> None:
    with echo_app() as app:
        port = app.url.rpartition(":")[2]
        with http_client({}, timeout_seconds=5, hosts=Hosts()) as client, pytest.raises(Fatal):
            client.get(f"http://{host}:{port}/secret")
        assert app.seen == []


def test_what_is_allowed_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        # A name that is public when it's looked at, and private when it's called.
        return real("127.0.0.1", *rest, **more)

    with echo_app() as app:
        port = app.url.rpartition(":")[2]
        hosts = Hosts(("crm.internal",))
        with http_client({}, timeout_seconds=5, hosts=hosts) as client:
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            assert client.get(f"http://crm.internal:{port}/x").status_code == 200
            with pytest.raises(Fatal, match=r"'crm.example' is a host of a private network"):
                client.get(f"http://crm.example:{port}/x")
        assert app.last.headers["host"] == f"crm.internal:{port}"
    assert asked[0] == "crm.internal"
    assert "127.0.0.1" in asked[1:] or len(asked) == 2, "the name is looked up once for each call"


def test_what_was_looked_at_is_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    def resolve(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with httpx.Client(transport=Guarded(httpx.MockTransport(answer), Hosts())) as client:
        assert client.get("https://crm.example/x").status_code == 200
    assert sent[0].url == "https://93.184.215.14/x"
    assert sent[0].headers["host"] == "crm.example"
    assert sent[0].extensions["sni_hostname"] == "crm.example"
