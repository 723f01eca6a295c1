"""How one process takes leave to send: few trips to the ledger, and none of them in vain."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from membrane_sync.clients.pacing import Pacer, Pauses, shared_quotas
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import RateLimited
from membrane_sync.ports import ConnectionRecord, Grant, Party, Quota
from membrane_sync.stores.quota_schedule import SECOND, State, give_back, reserve

ACME = Party("acme")


class Clock:
    """Time that only passes in `sleep`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Memory:
    """Quotas without a database."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.states: dict[str, State] = {}
        self.trips = 0
        self.pauses: dict[str, float] = {}

    def _states(self, quotas: Sequence[Quota]) -> list[State]:
        self.trips += 1
        return [self.states.setdefault(quota.key, State()) for quota in quotas]

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        return reserve(quotas, self._states(quotas), party, count, int(self.clock() * SECOND))

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        for quota, state in zip(quotas, self._states(quotas), strict=True):
            give_back(quota, state, count)

    def pause(self, key: str, seconds: float) -> None:
        self.pauses[key] = seconds

    def paused(self, key: str) -> float:
        return self.pauses.get(key, 0.0)

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        for state in self._states(quotas):
            state.hold = int((self.clock() + seconds) * SECOND)


def test_a_pause_is_waited_for_unless_it_is_too_long() -> None:
    clock = Clock()
    quotas, connection = Memory(clock), ConnectionRecord("acme_app", "app", "acme")
    quotas.pauses["app/connection/acme_app"] = 50.0
    Pauses(quotas, connection, longest_wait=60.0, sleep=clock.sleep).wait()
    assert clock.now == 1_000_050
    with pytest.raises(RateLimited, match="the app asked to wait") as caught:
        Pauses(quotas, connection, longest_wait=40.0, sleep=clock.sleep).wait()
    assert caught.value.retry_after == 50


def pacer(quotas: Memory, *limits: Quota, longest: float = 300.0) -> Pacer:
    clock = quotas.clock
    return Pacer(quotas, limits, ACME, longest_wait=longest, sleep=clock.sleep, clock=clock)


def test_at_a_high_rate_the_ledger_is_asked_now_and_then() -> None:
    quotas = Memory(Clock())
    paced = pacer(quotas, Quota("q", 1_000, 1, 10))
    begun = quotas.clock()
    for _ in range(2_000):
        paced.wait()
        quotas.clock.sleep(0.0005)
    assert quotas.trips < 2_000 / 50
    assert 1.9 <= quotas.clock() - begun <= 2.1


def test_a_slow_caller_takes_no_more_than_it_uses() -> None:
    quotas = Memory(Clock())
    paced = pacer(quotas, Quota("q", 1_000, 1, 1))
    for _ in range(50):
        paced.wait()
        quotas.clock.sleep(0.1)
    used = quotas.states["q"].due - int(1_000_000 * SECOND)
    assert quotas.trips <= 60
    assert used <= 5.2 * SECOND


def test_a_slot_that_was_slept_through_is_not_used() -> None:
    clock = Clock()
    quotas = Memory(clock)
    paced = pacer(quotas, Quota("q", 10, 1, 1))
    slept: list[float] = []

    def oversleep(seconds: float) -> None:
        slept.append(seconds)
        clock.sleep(seconds + (0.5 if len(slept) == 1 else 0))

    paced._sleep = oversleep
    paced.wait()
    paced.wait()
    paced.wait()
    assert quotas.trips == 4, "one slot each, and another for the one that was missed"


def test_a_wait_that_is_too_long_is_not_begun() -> None:
    quotas = Memory(Clock())
    day = Quota("day", 100, 86_400)
    paced = pacer(quotas, day)
    begun = quotas.clock()
    with pytest.raises(RateLimited, match="100 requests in 86400 s is used up") as caught:
        for _ in range(100):
            paced.wait()
    assert quotas.clock() - begun < 1
    assert 80_000 < (caught.value.retry_after or 0) <= 90_000


def test_waiting_ends_even_if_others_always_come_first() -> None:
    class Others(Memory):
        def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
            return Grant(0, 1.0, reason="it's the others' turn")

    quotas = Others(Clock())
    with pytest.raises(RateLimited, match="the others' turn"):
        pacer(quotas, Quota("q", 1, 1, 1), longest=30).wait()
    assert quotas.clock() <= 1_000_031


def test_a_hold_is_for_all_and_what_was_taken_before_is_void() -> None:
    quotas = Memory(Clock())
    quota = Quota("q", 100, 1, 10)
    mine, other = pacer(quotas, quota), pacer(quotas, quota)
    for _ in range(8):
        mine.wait()
    begun = quotas.clock()
    mine.hold(20)
    mine.wait()
    assert quotas.clock() >= begun + 20
    begun = quotas.clock()
    mine.hold(20)
    other.wait()
    assert quotas.clock() >= begun + 20


def test_closing_gives_back_what_was_not_sent() -> None:
    quotas = Memory(Clock())
    paced = pacer(quotas, Quota("day", 1_000, 86_400))
    for _ in range(4):
        paced.wait()
    paced.close()
    assert sum(quotas.states["day"].cells.values()) == 4


def test_who_shares_a_quota_and_how_it_is_kept() -> None:
    limits = [
        {"requests": 100, "per_seconds": 10},
        {"requests": 3, "per_seconds": 1, "scope": "app"},
        {"requests": 40_000, "per_seconds": 86_400},
        {"requests": 40_000, "per_seconds": 86_400, "burst": 50},
    ]
    connector = Connector.model_validate(
        {"key": "crm", "base_url": "https://crm.test", "rate_limits": limits}
    )
    one = shared_quotas(connector, ConnectionRecord("acme", "crm_eu", "acme"))
    other = shared_quotas(connector, ConnectionRecord("beta", "crm_eu", "beta"))
    assert [quota.burst for quota in one] == [10, 1, None, 50]
    assert len({quota.key for quota in one}) == 4
    assert [a.key == b.key for a, b in zip(one, other, strict=True)] == [False, True, False, False]
