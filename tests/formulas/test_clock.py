"""The time of `$now` can be held still, so that the records of a batch agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from membrane_sync.formulas import clock, evaluate

NOON = datetime(2024, 5, 7, 12, 0, 0, 123_000, tzinfo=timezone(timedelta(hours=2)))


def test_the_time_is_held_within_the_block_only() -> None:
    with clock.at(NOON):
        assert evaluate({"$now": {}}, {}) == "2024-05-07T10:00:00.123Z"
        with clock.at(NOON + timedelta(days=1)):
            assert evaluate({"$extractDate": {"$now": {}}}, {}) == "2024-05-08"
        assert clock.now() == NOON
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_as_much_of_the_second_as_there_is() -> None:
    assert clock.text_of(NOON.replace(microsecond=0)) == "2024-05-07T10:00:00Z"
    assert clock.text_of(NOON.replace(microsecond=120_001)) == "2024-05-07T10:00:00.120001Z"
