"""The connect page in a real browser, by the keyboard alone and for those who hear it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.connect.looks import CONTRASTS, fits, shoot, sign_in
from tests.connect.world import World


def test_the_keyboard_is_enough(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(request["url"])
    keys = page.keyboard

    def tab_to(name: str) -> None:
        for _ in range(20):
            keys.press("Tab")
            focused = page.evaluate(
                "() => { const e = document.activeElement;"
                " return (e.labels?.[0] ?? e).textContent.trim() }"
            )
            if focused.startswith(name):
                return
        raise AssertionError(f"Tab does not come to {name!r}")

    tab_to("API key")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    keys.press("Enter")
    page.wait_for_url(re.compile("option=key"))
    tab_to("Your subdomain")
    keys.type("acme")
    tab_to("Region")
    keys.press("ArrowDown")
    tab_to("This is a sandbox account")
    keys.press("Space")
    tab_to("API key")
    keys.type("a-long-api-key")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Gallery is connected")).to_be_visible()
    record = plain.runtime.ledger.connection(plain.seen(request)["connection"])
    assert record.input["region"] == "us" and record.input["sandbox"] is True


def stops(page: Page) -> list[dict[str, Any]]:
    """What Tab comes to on the page, from its top, and how it's shown that it's there."""
    found: list[dict[str, Any]] = []
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    while len(found) < 40:
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop is None or (found and stop == found[0]):
            return found
        found.append(stop)
    raise AssertionError("Tab goes on for ever")


STOP = """() => {
  const at = document.activeElement;
  if (at === document.body) return null;
  const style = getComputedStyle(at);
  const name = (at.labels?.[0] ?? at).textContent.replace(/\\s+/g, " ").trim();
  return {
    name,
    top: Math.round(at.getBoundingClientRect().top + window.scrollY),
    outline: style.outlineStyle === "solid" ? parseFloat(style.outlineWidth) : 0,
  };
}"""


def test_tab_goes_through_the_page_in_its_order(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(f"{request['url']}?option=key")
    found = stops(page)
    assert [stop["name"].removesuffix(" optional") for stop in found] == [
        "Your subdomain",
        "Region",
        "Page size",
        "This is a sandbox account",
        "Website",
        "PIN",
        "API key",
        "Email of the key's owner",
        "Connect",
        "Choose another way",
        "Cancel",
    ]
    tops = [stop["top"] for stop in found[:-1]]
    assert tops == sorted(tops), "what comes next stands below"
    assert [stop["name"] for stop in found if stop["outline"] < 2] == [], "focus is seen"


def test_who_waits_is_told_so(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(f"{request['url']}?option=key")
    status = page.get_by_role("status")
    expect(status).to_have_attribute("aria-live", "polite")
    expect(status).to_be_empty()
    # What the page says once the form is under way: the browser itself shows nothing of it later.
    page.evaluate(
        """() => document.querySelector("form[data-busy]").addEventListener("submit", (event) => {
          const status = event.target.querySelector("[role=status]").textContent;
          const off = event.target.querySelector("button").disabled;
          sessionStorage.said = JSON.stringify([status, off]);
        })"""
    )
    page.get_by_label("Your subdomain").fill("acme")
    page.get_by_label("API key", exact=True).fill("a-long-api-key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Gallery is connected")).to_be_visible()
    assert json.loads(page.evaluate("sessionStorage.said")) == ["Checking with Gallery…", True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_code_is_shown_until_it_was_entered(
    scheme: Any, page: Page, world: World, tenant: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    request = world.ask(tenant, "teller")
    page.goto(request["url"])
    shoot(page, f"code_before_{scheme}")
    page.get_by_role("button", name="Get a code").press("Enter")
    expect(page.get_by_role("heading", name="Enter this code at Teller")).to_be_visible()
    status = page.get_by_role("status")
    expect(status).to_contain_text("Waiting until you have entered it")
    expect(status).to_have_attribute("aria-live", "polite")
    shoot(page, f"code_{scheme}")
    assert fits(page)
    assert [said for said in page.evaluate(CONTRASTS) if said["ratio"] < 4.5] == []
    if scheme == "dark":
        return
    # By the keyboard alone: the first stop is the app's page, which opens beside this one.
    page.keyboard.press("Tab")
    with page.expect_popup() as opening:
        page.keyboard.press("Enter")
    app = opening.value
    app.get_by_role("button", name="Continue").click()
    sign_in(app)
    app.close()
    # Nobody touches the page: it looks by itself.
    expect(page.get_by_role("heading", name="Teller is connected")).to_be_visible(timeout=30_000)
    assert world.seen(request)["status"] == "success"
