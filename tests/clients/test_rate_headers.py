"""What headers say of the rate limit, in the words of the apps' own documentation."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membrane_sync.clients.rate_headers import UNKNOWN, RateStatus, rate_status, retry_after
from membrane_sync.elements.connector import RateLimitHeaders

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def triple(prefix: str, reset: object, remaining: object = 0) -> dict[str, str]:
    values = {"limit": 60, "remaining": remaining, "reset": reset}
    return {f"{prefix}-{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        # GitHub
        (triple("x-ratelimit", EPOCH + 42), RateStatus(0, 60, 42)),
        (triple("x-ratelimit", (EPOCH + 42) * 1000), RateStatus(0, 60, 42)),
        (triple("x-ratelimit", 42), RateStatus(0, 60, 42)),
        (triple("x-ratelimit", "42.5"), RateStatus(0, 60, 42.5)),
        (triple("x-ratelimit", EPOCH - 5), RateStatus(0, 60, 0)),
        (triple("x-ratelimit", -5), RateStatus(0, 60, 0)),
        (triple("x-ratelimit", "soon"), RateStatus(0, 60, None)),
        # Atlassian
        (triple("x-ratelimit", "2026-01-01T00:00:42Z"), RateStatus(0, 60, 42)),
        (triple("x-ratelimit", "Thu, 01 Jan 2026 00:00:42 GMT"), RateStatus(0, 60, 42)),
        # Discord
        (
            {**triple("x-ratelimit", EPOCH + 9, 4), "x-ratelimit-reset-after": "1.5"},
            RateStatus(4, 60, 1.5),
        ),
        # Okta
        (triple("x-rate-limit", EPOCH + 42), RateStatus(0, 60, 42)),
        # Zendesk
        (
            {
                "x-rate-limit": "700",
                "ratelimit-limit": "700",
                "x-rate-limit-remaining": "699",
                "ratelimit-remaining": "699",
                "ratelimit-reset": "41",
            },
            RateStatus(699, 700, 41),
        ),
        # IETF: up to draft 6, draft 7, draft 8 and later
        (
            {**triple("ratelimit", 42, 3), "ratelimit-limit": "60, 60;w=100, 1000;w=5000"},
            RateStatus(3, 60, 42),
        ),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, RateStatus(50, 100, 5)),
        (
            {
                "ratelimit": '"burst";r=9;t=1, "daily";r=3;t=36',
                "ratelimit-policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
            },
            RateStatus(3, 1000, 36),
        ),
        (
            {"ratelimit": '"default";r=0', "ratelimit-policy": '"default";q=10;w=7'},
            RateStatus(0, 10, 7),
        ),
        # HubSpot
        (
            {
                "x-hubspot-ratelimit-daily": "250000",
                "x-hubspot-ratelimit-daily-remaining": "249000",
                "x-hubspot-ratelimit-interval-milliseconds": "10000",
                "x-hubspot-ratelimit-max": "100",
                "x-hubspot-ratelimit-remaining": "0",
            },
            RateStatus(0, 100, 10),
        ),
        (
            {
                "x-hubspot-ratelimit-daily": "250000",
                "x-hubspot-ratelimit-daily-remaining": "7",
                "x-hubspot-ratelimit-remaining": "99",
            },
            RateStatus(7, 250_000, None),
        ),
        # Shopify
        ({"x-shopify-shop-api-call-limit": "32/40"}, RateStatus(8, 40, None)),
        ({"x-shopify-shop-api-call-limit": "40/40"}, RateStatus(0, 40, 1.0)),
        # Salesforce
        ({"sforce-limit-info": "api-usage=10018/100000"}, RateStatus(89_982, 100_000, None)),
        (
            {
                "sforce-limit-info": "api-usage=25/5000; "
                "per-app-api-usage=17/250(appName=sample-connected-app)"
            },
            RateStatus(4_975, 5_000, None),
        ),
        ({}, UNKNOWN),
        ({"x-ratelimit-remaining": "many", "sforce-limit-info": "?"}, UNKNOWN),
        ({"ratelimit": ";;,=", "ratelimit-policy": '"'}, UNKNOWN),
    ],
)
def test_dialects(headers: dict[str, str], status: RateStatus) -> None:
    assert rate_status(headers, now=NOW) == status


def test_the_apps_own_clock_counts() -> None:
    headers = {"date": "Thu, 01 Jan 2015 00:00:00 GMT", "x-ratelimit-remaining": "0"}
    ten_years_ago = int(datetime(2015, 1, 1, tzinfo=UTC).timestamp())
    status = rate_status({**headers, "x-ratelimit-reset": str(ten_years_ago + 7)})
    assert status.reset == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-7"}, 0),
        ({"retry-after": "5, 9"}, 9),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:42 GMT"}, 42),
        ({"retry-after": "Wed, 31 Dec 2025 00:00:42 GMT"}, 0),
        ({"retry-after": "2026-01-01T00:00:42Z"}, 42),
        ({"retry-after": str(EPOCH + 42)}, 42),
        ({"retry-after": str((EPOCH + 42) * 1000)}, 42),
        ({"retry-after": "1", "retry-after-ms": "1250"}, 1.25),
        ({"x-ms-retry-after-ms": "80"}, 0.08),
        ({"retry-after": "3", "retry-after-ms": "soon"}, 3),
        ({"retry-after": "120s"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "5,"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_every_way_to_say_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_a_date_to_retry_after_is_compared_with_the_apps_own_clock() -> None:
    headers = {
        "date": "Thu, 01 Jan 2015 00:00:00 GMT",
        "retry-after": "Thu, 01 Jan 2015 00:00:09 GMT",
    }
    assert retry_after(headers) == 9


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("seconds", "5000000000"),
        ("milliseconds", "5000000000000"),
        ("epoch_seconds", str(EPOCH + 5_000_000_000)),
        ("epoch_milliseconds", str((EPOCH + 5_000_000_000) * 1000)),
        ("date", "2184-06-11T08:53:20+00:00"),
    ],
)
def test_declared_names_and_formats_come_first(form: str, text: str) -> None:
    names = RateLimitHeaders.model_validate(
        {"remaining": "X-Left", "limit": "X-All", "reset": "X-When", "reset_format": form}
    )
    headers = {"x-left": "1", "x-all": "9", "x-when": text, "x-ratelimit-remaining": "0"}
    assert rate_status(headers, names, NOW) == RateStatus(1, 9, 5_000_000_000)
    assert rate_status({"x-ratelimit-remaining": "3"}, names, NOW) == RateStatus(3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (" 1.5 ", 1.5),
        ("0", 0),
        ("-5", 0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2015 00:01:00 GMT", 0),
        ("whenever", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


NAMES = st.sampled_from(
    [
        *triple("x-ratelimit", 0),
        *triple("ratelimit", 0),
        *("ratelimit", "ratelimit-policy", "x-rate-limit-remaining", "retry-after", "date"),
        *("x-hubspot-ratelimit-remaining", "x-shopify-shop-api-call-limit", "sforce-limit-info"),
    ]
)


@given(st.dictionaries(NAMES, st.text(max_size=30) | st.integers().map(str)))
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    status = rate_status(headers)
    assert status.remaining is None or status.remaining >= 0
    assert status.reset is None or status.reset >= 0
    assert (retry_after(headers) or 0) >= 0
