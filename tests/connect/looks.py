"""How a page looks and what a user does on it, in a real browser.

Screenshots are kept where `CONNECT_SCREENSHOTS` says.
"""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def shoot(page: Page, name: str) -> None:
    """A picture of the page at both widths, if somebody wants to look at them."""
    folder = os.environ.get("CONNECT_SCREENSHOTS")
    if folder:
        for width, size in ((1280, DESKTOP), (390, PHONE)):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.screenshot(path=Path(folder) / f"{name}_{width}.png", full_page=True)
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


def sign_in(page: Page, name: str = "ann") -> None:
    """What a user does at the provider."""
    page.locator("[name=login]").fill(name)
    page.locator("[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def fits(page: Page) -> bool:
    """Nothing sticks out of the screen."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("main *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => {
      const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return { text: e.textContent.trim().slice(0, 40), ratio };
    });
}"""
"""The contrast of each text with what is behind it, by WCAG's formula."""
