"""The collections that every simulator has, one for each style; the packaged connector lists them.

`docs/simulator.md` says what each is for.
"""

from __future__ import annotations

from membrane_sync.testing.simulator.switches import Collection

STYLES: tuple[Collection, ...] = (
    # By pagination
    Collection(key="contacts", deletes="tombstone"),
    Collection(key="by_page", pagination="page"),
    Collection(key="by_offset", pagination="offset"),
    Collection(key="by_link", pagination="link"),
    Collection(key="by_next_url", pagination="next_url"),
    Collection(key="by_keyset", pagination="keyset", sort="id"),
    Collection(key="by_body", pagination="body"),
    Collection(key="by_graphql", pagination="graphql"),
    Collection(key="at_once", pagination="none", records=200),
    Collection(key="by_position", token="position", deletes="tombstone"),  # noqa: S106
    Collection(key="clamped", pagination="page", max_page_size=50),
    Collection(key="capped", pagination="page", result_cap=10_000, per_moment=25_000),
    Collection(
        key="cut_off", pagination="offset", result_cap=10_000, beyond_cap="stop", total="absent"
    ),
    # By cursor
    Collection(key="exclusive", filter="exclusive"),
    Collection(key="tied", filter="exclusive", per_moment=250, deletes="tombstone"),
    Collection(key="unstable", pagination="page", per_moment=250, ties="unstable"),
    Collection(key="by_second", granularity="second", notation="epoch_s"),
    Collection(key="by_millisecond", notation="epoch_ms", deletes="tombstone"),
    Collection(key="by_day", granularity="day", step_ms=3_600_000),
    Collection(key="offsets", notation="iso_offset"),
    Collection(key="own_notation", notation="strftime", granularity="second"),
    Collection(key="descending", sort="descending", pagination="page", sortable=False),
    Collection(key="unsorted", sort="none", pagination="page", sortable=False),
    Collection(key="unfiltered", filter="none", pagination="page", sort="none", sortable=False),
    Collection(key="nulls_first", nulls=20),
    Collection(key="nulls_last", nulls=20, null_order="last", deletes="tombstone"),
    Collection(key="late", late_seconds=5, deletes="tombstone"),
    Collection(key="skewed", skew_ms=2000),
    Collection(key="windowed", window="required"),
    # By deletes and changes
    Collection(key="deleted_endpoint", deletes="endpoint"),
    Collection(key="silent"),
    Collection(key="delta", delta_changes=10_000, deletes="tombstone"),
    Collection(key="conditional", etag=True, pagination="page"),
    Collection(key="custom", deletes="tombstone"),
    # Below one another
    Collection(key="accounts", deletes="tombstone"),
    Collection(key="notes", parent="accounts", touches_parent=True, deletes="tombstone"),
    Collection(key="tasks", parent="accounts", pagination="page", deletes="silent"),
    Collection(key="summaries", summary=True),
)
"""Collections of a simulator that isn't given others."""
