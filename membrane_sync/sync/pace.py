"""How fast a sync goes, in words for a log or a progress bar."""

from __future__ import annotations

from membrane_sync.records import Report


def pace(report: Report, seconds: float, quota_left: int | None = None) -> str:
    """Rows a second so far, what is left where the app says how many there are, and of the quota.

    `seconds` is how long it has been going on.
    """
    rate = report.pulled / max(seconds, 0.001)
    said = [f"{rate:,.0f} rows/s"] if report.pulled else []
    if report.pulled < report.total:
        said.append(f"{report.total:,} in all")
        if report.pulled:
            said.append(f"about {(report.total - report.pulled) / rate:,.0f} s left")
    if quota_left is not None:
        said.append(f"{quota_left:,} requests of the quota left")
    return ", ".join(said)
