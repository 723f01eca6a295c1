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
    ],
)
def test_a_secret_is_hidden_in_each_spelling(said: str) -> None:
    clean = Mask({"deep": [{"secret": SECRET}]}).text(f"before {said} after")
    assert clean != said and clean.startswith("before ") and clean.endswith(" after")
    assert "***" in clean and "planted" not in clean


@given(st.text(min_size=8), st.text(), st.text())
@example("planted\ud800secret", "", "")
def test_whatever_the_secret_is(secret: str, before: str, after: str) -> None:
    mask = Mask(secret)
    assert secret not in mask.text(before + secret + after) or secret in "***"
    encoded = base64.b64encode((before + secret + after).encode("utf-8", "surrogatepass")).decode()
    assert mask.text(encoded) != encoded


def test_of_two_secrets_the_longer_goes_first() -> None:
    mask = Mask([SECRET, f"{SECRET}-and-more"])
    assert mask.text(f"x{SECRET}-and-more") == "x***"


def test_what_is_too_short_and_what_is_no_secret_stay() -> None:
    mask = Mask({"pin": "123", "on": True, "username": "acme_user", "token": "planted-token"})
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
    written = log.getvalue()
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
