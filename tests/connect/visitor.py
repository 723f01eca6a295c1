"""A browser without a screen: follows links and fills in forms, with cookies, and no script."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any, Self

import httpx

LEAVING = re.compile(r'<a class="primary" href="([^"]+)"')
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Visitor:
    """One browser; its last page is in `page`."""

    def __init__(
        self, hear: Callable[[httpx.Response], None] | None = None, **headers: str
    ) -> None:
        """`hear` is told of each answer, redirects included."""
        self._client = httpx.Client(
            headers=headers,
            trust_env=False,
            timeout=30,
            follow_redirects=True,
            event_hooks={"response": [hear] if hear else []},
        )
        self.page = httpx.Response(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    @property
    def text(self) -> str:
        return unescape(self.page.text)

    @property
    def target(self) -> str:
        """Where at the app the last page takes the user to."""
        [target] = set(LEAVING.findall(self.text))
        return str(target)

    def open(self, url: str) -> httpx.Response:
        self.page = self._client.get(url)
        return self.page

    def send(self, url: str, *, csrf: str | None = None, **fields: Any) -> httpx.Response:
        """Send the form of the last page, with its token unless another one is given."""
        found = CSRF.search(self.page.text)
        token = csrf if csrf is not None else (found[1] if found else "")
        data = {"csrf": token, **{name.replace("__", "."): v for name, v in fields.items()}}
        self.page = self._client.post(url, data=data)
        return self.page
