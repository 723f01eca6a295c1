"""Take the pictures of the documentation from a running UI, with real apps and synced records.

    python docs/images/take_screenshots.py

Run it in the repository's environment; it needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

IMAGES = Path(__file__).resolve().parent
sys.path.insert(0, str(IMAGES.parents[1]))

from membrane_sync.cli.demo.demo import run_demo  # noqa: E402
from tests.apps.chromium import browser  # noqa: E402
from tests.orchestration.ui import DevServer, graph_url  # noqa: E402

MARGIN = 9
NODES = "foreignObject"


def main() -> None:
    """Sync the demo's customers, and take every picture."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "demo"
        run_demo(root, 1_000, as_json=True)
        with DevServer(root) as server, browser() as chromium:
            page = chromium.new_page(
                viewport={"width": 1880, "height": 1150}, device_scale_factor=1.25
            )
            page.set_default_timeout(30_000)
            take_graph(server, page)
            take_asset(server, page)


def take_graph(server: DevServer, page: Page) -> None:
    """The asset graph with all integrations open, and nothing around it."""
    page.goto(graph_url(server.url, ("kinto", "pocketbase")))
    expect(page.get_by_text("100% filled")).to_have_count(9)
    page.get_by_text("Hide navigation").click()
    page.wait_for_timeout(2_000)
    page.screenshot(path=IMAGES / "asset_graph.png", clip=around(page, NODES))


def take_asset(server: DevServer, page: Page) -> None:
    """The page of mapped contacts: what it is, and where each column comes from."""
    page.set_viewport_size({"width": 1500, "height": 870})
    page.goto(f"{server.url}/assets/kinto/contacts_mapped")
    expect(page.get_by_text("{$extractDate").first).to_be_visible()
    page.wait_for_timeout(2_000)
    page.screenshot(path=IMAGES / "asset_page.png")


def around(page: Page, selector: str) -> Any:
    """The smallest part of the page with all of these elements in it, and a margin."""
    boxes = [box for found in page.locator(selector).all() if (box := found.bounding_box())]
    left, top = (min(box[side] for box in boxes) for side in ("x", "y"))
    right = max(box["x"] + box["width"] for box in boxes)
    bottom = max(box["y"] + box["height"] for box in boxes)
    return {
        "x": left - MARGIN,
        "y": top - MARGIN,
        "width": right - left + 2 * MARGIN,
        "height": bottom - top + 2 * MARGIN,
    }


if __name__ == "__main__":
    main()
