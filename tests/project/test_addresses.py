"""Users are sent back to addresses of the product alone, however an address is written."""

import pytest

from membrane_sync.errors import ProjectError
from membrane_sync.project.addresses import (
    is_allowed,
    is_allowed_origin,
    is_rule,
    origin_of,
    with_answer,
)
from membrane_sync.project.connect_settings import ConnectTable, connect_settings

RULES = ("https://app.example/done", "https://app.example:8443/in/*", "http://127.0.0.1:3000/*")


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/done",
        "https://app.example:8443/in/",
        "https://app.example:8443/in/side?x=https://evil.example#".rstrip("#"),
        "http://127.0.0.1:3000/any/where?x=1",
    ],
)
def test_what_a_rule_names_is_allowed(uri: str) -> None:
    assert is_allowed(uri, RULES)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://app.example/done/more",
        "https://app.example/done?x=1",
        "https://app.example/DONE",
        "http://app.example/done",
        "https://app.example.evil.example/done",
        "https://evil.example/https://app.example/done",
        "https://app.example:8443/int",
        "https://app.example:8443/in/../out",
        "https://app.example:8443/in/%2e%2e/out",
        "https://app.example:8443/in/%252e%252e/out",
        "https://app.example:8443@evil.example/in/",
        "https://evil.example\\@app.example:8443/in/",
        "https://app.example:8443/in/\\..\\out",
        "http://127.0.0.1:3000@evil.example/",
        "http://127.0.0.1:30001/",
        "http://127.0.0.1:3000.evil.example/",
        "http://127.0.0.1:port/",
        "//127.0.0.1:3000/",
        "javascript:alert(1)//127.0.0.1:3000/",
        "data:text/html,x",
        "https://app.example/done\n",
        " https://app.example/done",
        "https://app.example/do\tne",
        "https://app.example:8443/in/#token",
        "https://app.exämple/done",
        "https://[::1/done",
    ],
)
def test_nothing_else_is(uri: str) -> None:
    assert not is_allowed(uri, RULES)


def test_origins_are_those_of_the_rules() -> None:
    assert is_allowed_origin("https://app.example", RULES)
    assert is_allowed_origin("http://127.0.0.1:3000", RULES)
    for origin in (
        "https://app.example/",
        "https://evil.example",
        "null",
        "",
        "http://app.example",
    ):
        assert not is_allowed_origin(origin, RULES)


def test_an_origin_is_written_as_browsers_do() -> None:
    assert origin_of("https://App.Example:443/x") == "https://app.example"
    assert origin_of("http://[::1]:8000/x") == "http://[::1]:8000"
    assert origin_of("ftp://app.example/x") == ""


def test_the_answer_is_added_to_the_query() -> None:
    back = with_answer("https://app.example/done?tab=2&status=old", {"status": "success", "q": "&"})
    assert back == "https://app.example/done?tab=2&status=success&q=%26"


@pytest.mark.parametrize(
    "rule",
    [
        "*",
        "https://*",
        "https://*.example/*",
        "app.example/*",
        "http://app.example/*",
        "https://app.example",
    ],
)
def test_a_rule_names_a_host(rule: str) -> None:
    assert not is_rule(rule)
    with pytest.raises(ProjectError, match=r"connect\.redirects"):
        connect_settings(ConnectTable(redirects=[rule]), {})


def test_the_environment_wins() -> None:
    table = ConnectTable(public_url="https://a.example", redirects=["https://a.example/*"])
    environ = {
        "MEMBRANE_PUBLIC_URL": "https://b.example/sync/",
        "MEMBRANE_CONNECT_REDIRECTS": "https://b.example/*, https://c.example/done",
        "MEMBRANE_PRODUCT_NAME": "B",
    }
    settings = connect_settings(table, environ)
    assert settings.public_url == "https://b.example/sync"
    assert settings.redirects == ("https://b.example/*", "https://c.example/done")
    assert settings.product_name == "B"
    assert connect_settings(table, {}).redirects == ("https://a.example/*",)


def test_a_public_url_is_an_address() -> None:
    with pytest.raises(ProjectError, match="MEMBRANE_PUBLIC_URL"):
        connect_settings(ConnectTable(), {"MEMBRANE_PUBLIC_URL": "sync.example"})
