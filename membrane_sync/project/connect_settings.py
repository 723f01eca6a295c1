"""Where the connect page is, and where it may send users back to: `[tool.membrane_sync.connect]`.

`MEMBRANE_PUBLIC_URL`, `MEMBRANE_CONNECT_REDIRECTS` (several with commas between them) and
`MEMBRANE_PRODUCT_NAME` win over the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.errors import Problem, ProjectError
from membrane_sync.project.addresses import is_rule, origin_of

PUBLIC_URL = "http://127.0.0.1:8700"
"""Where `membrane serve` listens, unless it's told otherwise."""


@dataclass(frozen=True)
class ConnectSettings:
    """What users see of the server: its address, the product's name, and the way back."""

    public_url: str = PUBLIC_URL
    redirects: tuple[str, ...] = ()
    product_name: str = ""


class ConnectTable(BaseModel):
    """What `[tool.membrane_sync.connect]` may say."""

    model_config = ConfigDict(strict=True, extra="forbid")

    public_url: str = PUBLIC_URL
    redirects: list[str] = Field(default_factory=list)
    product_name: str = ""


def connect_settings(table: ConnectTable, environ: Mapping[str, str]) -> ConnectSettings:
    """The settings; raises ProjectError where a value is of no use."""
    given = environ.get("MEMBRANE_CONNECT_REDIRECTS", "").split(",")
    listed = [rule.strip() for rule in given if rule.strip()] or table.redirects
    url = (environ.get("MEMBRANE_PUBLIC_URL") or table.public_url).rstrip("/")
    problems = [
        Problem(
            f"connect.redirects (MEMBRANE_CONNECT_REDIRECTS) has {rule!r}; write an https address "
            "(http for this machine alone) with a path, as https://app.example.com/done, or one "
            "that ends in *, as https://app.example.com/*"
        )
        for rule in listed
        if not is_rule(rule)
    ]
    if not origin_of(url):
        problems.append(
            Problem(
                f"connect.public_url (MEMBRANE_PUBLIC_URL) is {url!r}; write the https address "
                "(http for this machine alone) by which users reach the server"
            )
        )
    if problems:
        raise ProjectError(problems)
    name = environ.get("MEMBRANE_PRODUCT_NAME") or table.product_name
    return ConnectSettings(public_url=url, redirects=tuple(listed), product_name=name)
