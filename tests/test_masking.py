"""Secrets hidden in any spelling, and in the process's logs."""

from __future__ import annotations

import base64
import gc
import html
import io
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from membrane_sync.masking import Mask, hidden, mask_logs

SECRET = "planted/+ &\"'é<ü>%secret"


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        quote(SECRET),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        urlencode({"key": SECRET, "page": 2}),
        json.dumps({"key": SECRET}),
        json.dumps({"key": SECRET}, ensure_ascii=False),
        html.escape(SECRET),
        repr({"key": SECRET}),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"ada:{SECRET}".encode()).decode(),
        base64.b64encode(f"adam:{SECRET}:more".encode()).decode(),
        base64.urlsafe_b64encode(f"u:{SECRET}!".encode()).decode(),
        base64.b64encode(json.dumps({"key": SECRET}).encode()).decode(),
        base64.b64encode(f"ada:{quote(SECRET, safe='')}".encode()).decode(),
        quote(base64.b64encode(f"ad:{SECRET}".encode()).decode(), safe=""),
        json.dumps({"key": SECRET}).replace("/", "\\/"),
        json.dumps({"key": json.dumps({"key": SECRET})}),
        quote(quote(SECRET, safe=""), safe=""),
        html.escape(json.dumps({"key": SECRET})),
        ascii({"key": SECRET}),
        repr({b"key": SECRET.encode()}),
        json.dumps({"key": SECRET}).translate(
            {ord(letter): f"\\u{ord(letter):04X}" for letter in "+&<>'"}
        ),
        "".join(letter if letter.isalnum() else f"&#{ord(letter)};" for letter in SECRET),
        SECRET.replace("&", "&amp;"),
    ],
)
def test_a_secret_is_hidden_in_each_spelling(said: str) -> None:
    clean = Mask({"deep": [{"secret": SECRET}]}).text(f"before {said} after")
    assert clean != said and clean.startswith("before ") and clean.endswith(" after")
    assert "***" in clean and "planted" not in clean


@pytest.mark.parametrize(
    "said",
    ["{}", "key: '{}'", json.dumps("{}"), "{!r}", "    {}"],
    ids=["as it is", "in quotes", "in JSON", "in Python", "indented"],
)
def test_no_line_of_a_private_key_is_shown(said: str) -> None:
    lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC+/Kc", "AgEAAoIBAQC7VJTUt9Us8cKjMzEfYyjiWA4R"]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    quoted = said.format(json.dumps(key)[1:-1] if said.startswith('"') else key)
    for written in (quoted, quoted.replace("\n", "\r\n"), quoted.replace("\n", "\n\t")):
        for secrets in ({"key": key}, {"file": json.dumps({"private_key": key, "type": "x"})}):
            clean = Mask(secrets).foreign(written)
            assert not any(line[:12] in clean or line[-12:] in clean for line in lines)


def test_the_password_of_an_address_is_a_secret() -> None:
    mask = Mask({"url": "https://ada:pl%40nted-pw@crm.example/v1", "broken": "https://[x"})
    said = "can't reach ada:pl@nted-pw@crm.example or https://ada:pl%40nted-pw@crm.example"
    assert mask.foreign(said) == ("can't reach ada:***@crm.example or https://ada:***@crm.example")


@given(st.text(min_size=8), st.text(), st.text())
@example("planted\ud800secret", "", "")
def test_whatever_the_secret_is(secret: str, before: str, after: str) -> None:
    mask = Mask(secret)
    assert secret not in mask.text(before + secret + after) or secret in "***"
    encoded = base64.b64encode((before + secret + after).encode("utf-8", "surrogatepass")).decode()
    assert mask.text(encoded) != encoded


@given(
    st.lists(st.text("ab/+\n", min_size=8, max_size=10), min_size=1, max_size=3),
    st.lists(st.text("ab/+\n0", max_size=12), max_size=6),
    st.integers(min_value=1, max_value=9),
)
def test_a_body_in_pieces_is_masked_as_a_whole(
    secrets: list[str], around: list[str], size: int
) -> None:
    mask = Mask(secrets)
    text = "".join(part + (secrets[n % len(secrets)]) for n, part in enumerate(around))
    content = text.encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    clean = b"".join(mask.pieces(pieces)).decode()
    assert len(clean) == len(text)
    assert not any(secret in clean for secret in secrets)
    found = {(at, s) for s in secrets for at in range(len(text)) if text.startswith(s, at)}
    covered = {place for at, s in found for place in range(at, at + len(s))}
    assert all(clean[n] == text[n] or (clean[n] == "*" and n in covered) for n in range(len(text)))


def test_a_line_is_given_on_as_soon_as_it_is_there() -> None:
    mask = Mask("planted-secret-of-a-stream")
    assert next(mask.pieces(iter([b"data: planted-secret-of-a-stream\n", b"data: 2"]))) == (
        b"data: **************************\n"
    )


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    content = bytes(range(256)) * 40
    assert b"".join(Mask({"token": SECRET, "pin": "1234"}).pieces([content])) == content


def test_of_two_secrets_the_longer_goes_first() -> None:
    mask = Mask([SECRET, f"{SECRET}-and-more"])
    assert mask.text(f"x{SECRET}-and-more") == "x***"


def test_what_is_too_short_and_what_is_no_secret_stay() -> None:
    mask = Mask({"pin": "123", "on": True, "username": "acme_user", "token": "planted-token"})
    told = {"team": {"id": "T0123456789", "name": "Acme Incorporated"}, "created_at": 1_700_000_000}
    told |= {"instance_url": "https://acme.crm.example", "bot_user_id": "U012345678"}
    assert Mask(told).foreign(json.dumps(told)) == json.dumps(told)
    assert Mask({"session_id": "planted-session"}).foreign("planted-session") == "***"
    assert mask.text("123 True") == "123 True"
    assert mask.text("acme_user") == "***"
    assert mask.foreign("acme_user planted-token") == "acme_user ***"
    assert Mask({}).text("all of it") == "all of it"


def test_only_living_masks_hide() -> None:
    mask = Mask("planted-for-a-while")
    assert hidden("a planted-for-a-while b") == "a *** b"
    del mask
    gc.collect()
    assert hidden("planted-for-a-while") == "planted-for-a-while"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    former = logging.getLogRecordFactory()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("httpx")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    mask_logs()
    yield written
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logging.setLogRecordFactory(former)


def test_logs_of_libraries_show_no_secret(log: io.StringIO) -> None:
    mask = Mask({"token": SECRET})
    logger = logging.getLogger("httpx")
    logger.info("GET %s", f"https://x/?key={quote_plus(SECRET)}")
    logger.debug("headers: %r", [("authorization", f"Bearer {SECRET}")])
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("it failed")
    logger.info("%d retries", SECRET)
    written = log.getvalue()
    assert "%d retries ('***',)" in written
    assert "GET https://x/?key=***" in written
    assert "ValueError: ***" in written and "Traceback" in written
    assert "planted" not in written
    assert mask.text("x") == "x"


def test_what_has_no_secret_is_left_as_it_is(log: io.StringIO) -> None:
    mask = Mask({"token": SECRET})
    mask_logs()
    logging.getLogger("httpx").info("%d of %d", 1, 2)
    try:
        raise ValueError("plain")
    except ValueError:
        logging.getLogger("httpx").exception("it failed")
    assert "1 of 2" in log.getvalue() and "ValueError: plain" in log.getvalue()
    assert mask.text("x") == "x"
