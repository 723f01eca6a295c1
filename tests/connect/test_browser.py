"""The connect page in a real browser: as users see it."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from membrane_sync.apps.kinto import Kinto
from tests.connect.looks import CONTRASTS, PHONE, fits, shoot, sign_in
from tests.connect.world import World


def test_signing_in_at_the_app(page: Page, world: World, tenant: str) -> None:
    back = f"{world.product}/done"
    request = world.ask(tenant, "ledgerly", redirect_uri=back, custom_state="7")
    page.goto(request["url"])
    expect(page.get_by_role("heading", name="Connect Ledgerly")).to_be_visible()
    expect(page.get_by_text("Acme CRM asks to connect")).to_be_visible()
    shoot(page, "oauth")
    page.get_by_role("button", name="Continue to Ledgerly").click()
    sign_in(page)
    page.wait_for_url(re.compile(re.escape(back)))
    assert "status=success" in page.url and "custom_state=7" in page.url
    assert world.seen(request)["connection"] in page.url


def test_the_user_says_no_and_then_yes(page: Page, world: World, tenant: str) -> None:
    request = world.ask(tenant, "ledgerly")
    page.goto(request["url"])
    page.get_by_role("button", name="Continue to Ledgerly").click()
    page.get_by_role("link", name="Cancel").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Ledgerly was not allowed to connect")
    expect(alert).to_be_focused()
    shoot(page, "refused")
    page.get_by_role("button", name="Try again").click()
    sign_in(page)
    expect(page.get_by_role("heading", name="Ledgerly is connected")).to_be_visible()
    shoot(page, "connected")
    assert world.seen(request)["status"] == "success"


def test_cancelling_ends_the_link(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(request["url"])
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Nothing was connected")).to_be_visible()
    shoot(page, "cancelled")
    assert plain.seen(request)["status"] == "cancelled"


def test_wrong_credentials_and_then_the_right_ones(
    page: Page, plain: World, kinto: Kinto, tenant: str
) -> None:
    account = kinto.create_account(f"user-{os.urandom(4).hex()}", "right-password")
    kinto.create_bucket(account, account.user)
    request = plain.ask(tenant, "kinto", input={"url": kinto.url})
    page.goto(request["url"])
    page.get_by_label("Bucket").fill(account.user)
    page.get_by_label("Username").fill(account.user)
    page.get_by_label("Password").fill("wrong-password")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("alert")).to_contain_text("Kinto did not accept this")
    expect(page.get_by_label("Username")).to_have_value(account.user)
    expect(page.get_by_label("Password")).to_have_value("")
    shoot(page, "wrong_credentials")
    page.get_by_label("Password").fill("right-password")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("heading", name="Kinto is connected")).to_be_visible()
    record = plain.runtime.ledger.connection(plain.seen(request)["connection"])
    assert record.credentials == {"username": account.user, "password": "right-password"}


def test_the_whole_form(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery", name="Main gallery")
    page.goto(request["url"])
    shoot(page, "options")
    page.get_by_role("link", name="API key").click()
    expect(page.get_by_label("Region")).to_have_value("eu")
    expect(page.get_by_label("Page size")).to_have_value("50")
    shoot(page, "form")
    page.get_by_label("Your subdomain").fill("not fitting!")
    page.get_by_label("API key", exact=True).fill("short")
    page.get_by_role("button", name="Connect").click()
    alert = page.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(page.get_by_label("Your subdomain")).to_have_attribute("aria-invalid", "true")
    shoot(page, "wrong_fields")
    alert.get_by_role("link", name="Your subdomain").click()
    expect(page.get_by_label("Your subdomain")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(
    scheme: Any, page: Page, plain: World, tenant: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    request = plain.ask(tenant, "gallery", name="A" * 120)
    for query in ("", "?option=key", "?option=password&problem=not_authorized"):
        page.goto(request["url"] + query)
        assert fits(page)
        thin = page.evaluate(CONTRASTS)
        assert [said for said in thin if said["ratio"] < 4.5] == []
    shoot(page, f"{scheme}")


def test_links_that_are_of_no_use_say_so(page: Page, plain: World, tenant: str) -> None:
    page.goto(f"{plain.url}/connect/nothing")
    expect(page.get_by_role("heading", name="There is no such link")).to_be_visible()
    page.goto(f"{plain.url}/oauth/callback?state=wrong&code=x")
    expect(page.get_by_role("heading", name="This sign-in can't be used")).to_be_visible()
    shoot(page, "wrong_state")
    request = plain.ask(tenant, "gallery")
    plain.runtime.requests.settle(request["id"], "success")
    page.goto(request["url"])
    expect(page.get_by_role("heading", name="This link was used already")).to_be_visible()
    shoot(page, "used")


def test_a_link_that_expires_while_it_is_open(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(f"{request['url']}?option=password")
    page.get_by_label("Your subdomain").fill("acme")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill("secret")
    plain.expire(request)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("heading", name="This link has expired")).to_be_visible()
    expect(page.get_by_text("Go back to Acme CRM and ask for a new one")).to_be_visible()


def test_a_form_without_its_token_can_be_sent_again(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(f"{request['url']}?option=password")
    page.get_by_label("Your subdomain").fill("acme")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill("secret")
    page.locator("form[data-busy] [name=csrf]").evaluate("field => field.remove()")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("alert")).to_contain_text("This page is too old")
    expect(page.get_by_label("Username")).to_have_value("ann")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("heading", name="Gallery is connected")).to_be_visible()


def answer_of(page: Page) -> dict[str, Any]:
    answer = page.locator("#answer")
    expect(answer).not_to_be_empty()
    return dict(json.loads(answer.text_content() or ""))


def test_a_popup_tells_the_page_that_opened_it(page: Page, world: World, tenant: str) -> None:
    request = world.ask(tenant, "ledgerly", custom_state="7")
    page.goto(f"{world.product}/settings?link={request['url']}")
    with page.expect_popup() as popping:
        page.get_by_role("button", name="Connect").click()
    popup = popping.value
    popup.get_by_role("button", name="Continue to Ledgerly").click()
    with popup.expect_event("close"):
        sign_in(popup)
    answer = answer_of(page)
    assert (answer["status"], answer["custom_state"]) == ("success", "7")
    assert answer["connection"] == world.seen(request)["connection"]
    assert answer["request"] == request["id"]


def test_a_popup_that_is_cancelled_or_closed_is_an_error(
    page: Page, plain: World, tenant: str
) -> None:
    request = plain.ask(tenant, "gallery")
    page.goto(f"{plain.product}/settings?link={request['url']}")
    with page.expect_popup() as popping:
        page.get_by_role("button", name="Connect").click()
    popping.value.close()
    assert answer_of(page)["code"] == "closed"
    page.reload()
    with page.expect_popup() as popping:
        page.get_by_role("button", name="Connect").click()
    popping.value.get_by_role("button", name="Cancel").click()
    assert answer_of(page)["code"] == "cancelled"


def test_a_popup_that_lost_its_opener_is_heard_of_all_the_same(
    page: Page, world: World, tenant: str
) -> None:
    request = world.ask(tenant, "ledgerly")
    page.goto(f"{world.product}/settings?link={request['url']}")
    with page.expect_popup() as popping:
        page.get_by_role("button", name="Connect").click()
    popup = popping.value
    popup.get_by_role("button", name="Continue to Ledgerly").click()
    popup.locator("[name=login]").wait_for()
    # As a provider's Cross-Origin-Opener-Policy does.
    popup.evaluate("window.opener = null")
    sign_in(popup)
    expect(popup.get_by_role("heading", name="Ledgerly is connected")).to_be_visible()
    assert answer_of(page)["status"] == "success"


def test_a_popup_of_another_site_gets_nothing(page: Page, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    other = plain.product.replace("127.0.0.1", "localhost")
    page.goto(f"{other}/settings?link={request['url']}")
    with page.expect_popup() as popping:
        page.get_by_role("button", name="Connect").click()
    title = "opened from a place that isn't allowed"
    expect(popping.value.get_by_role("heading", name=title)).to_be_visible()
    shoot(popping.value, "foreign")
