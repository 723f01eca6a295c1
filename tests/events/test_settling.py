"""When what failed is tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from membrane_sync.errors import (
    AppUnavailable,
    LockTimeout,
    MembraneError,
    NotAuthorized,
    RateLimited,
)
from membrane_sync.events.settling import failures, looks, rests_until
from membrane_sync.ports.events import Event

EVENT = Event("webhook", "record", "contacts", "acme", "acme", id=7)


def test_an_event_is_tried_later_each_time_and_is_dead_in_the_end() -> None:
    def again(attempts: int) -> float | None:
        (failure,) = failures([replace(EVENT, attempts=attempts)], {7: "why"}, 10, 1_000.0)
        assert failure.error == "why"
        return failure.again_at and failure.again_at - 1_000.0

    assert [again(attempts) for attempts in (0, 1, 2)] == [30, 60, 120]
    assert again(8) == 3_600
    assert again(9) is None
    assert failures([EVENT], {}, 10, 0.0) == []


def test_one_of_a_record_that_is_not_found_yet_is_tried_soon_and_is_never_dead_by_it() -> None:
    found = [
        looks([replace(EVENT, attempts=attempts)], {7: "why"}, 1_000.0) for attempts in range(12)
    ]
    moments = [look.again_at - 1_000.0 for (look,) in found if look.again_at is not None]
    assert moments[:4] == [2, 8, 32, 128]
    assert len(moments) == 12 and max(moments) == 3_600


@pytest.mark.parametrize(
    ("error", "attempts", "low", "high"),
    [
        (LockTimeout("held"), 9, 2, 2),
        (AppUnavailable("down"), 0, 3.75, 6.25),
        (AppUnavailable("down"), 30, 225, 375),
        (RateLimited("wait", retry_after=900), 0, 900, 900),
        (NotAuthorized("no"), 0, 45, 75),
    ],
)
def test_a_queue_rests_as_long_as_what_stopped_it_takes(
    error: MembraneError, attempts: int, low: float, high: float
) -> None:
    assert low <= rests_until(error, attempts, 100.0) - 100.0 <= high
