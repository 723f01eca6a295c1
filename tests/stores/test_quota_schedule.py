"""The arithmetic of shared quotas: any sequence of reservations keeps to them."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.ports import Party, Quota
from membrane_sync.stores.quota_schedule import HORIZON, SECOND, State, give_back, reserve
from membrane_sync.testing.simulator.traffic import most_within

START = 1_800_000_000 * SECOND
ACME, BETA = Party("acme"), Party("beta")
CLICK = Party("acme", "interactive")


def simulate(
    quotas: list[Quota],
    askers: list[tuple[Party, int]],
    seconds: float,
    *,
    lease: int = 1,
) -> list[tuple[int, Party]]:
    """Askers that send one request after the other, each ready for the next after its `pause`.

    Gives when who sent, in nanoseconds from the start.
    """
    states = [State() for _ in quotas]
    sent: list[tuple[int, Party]] = []
    clock = [(START + n, n) for n in range(len(askers))]
    while clock:
        now, n = heapq.heappop(clock)
        if now > START + seconds * SECOND:
            continue
        party, pause = askers[n]
        states = [State.loads(state.dumps()) for state in states]
        grant = reserve(quotas, states, party, lease, now)
        moment = now + round(grant.wait * SECOND)
        moments = [moment + round(k * grant.every * SECOND) for k in range(grant.count)]
        sent += [(m - START, party) for m in moments]
        assert grant.count or grant.wait > 0, "a hot loop"
        heapq.heappush(clock, ((moments[-1] + pause) if moments else max(moment, now + 1), n))
    within = [(moment, party) for moment, party in sent if moment <= seconds * SECOND]
    return sorted(within, key=lambda item: item[0])


@settings(max_examples=60, deadline=None)
@given(
    requests=st.integers(1, 50),
    per_seconds=st.sampled_from([1.0, 2.5, 10.0]),
    burst=st.integers(1, 8),
    pauses=st.lists(st.integers(0, SECOND), min_size=1, max_size=12),
    lease=st.integers(1, 4),
)
def test_no_window_holds_more_than_the_quota_and_its_burst(
    requests: int, per_seconds: float, burst: int, pauses: list[int], lease: int
) -> None:
    quota = Quota("q", requests, per_seconds, burst)
    askers = [(Party(f"t{n % 3}"), pause) for n, pause in enumerate(pauses)]
    moments = [moment for moment, _ in simulate([quota], askers, 3 * per_seconds, lease=lease)]
    for window in (per_seconds / 2, per_seconds, 2 * per_seconds):
        allowed = requests * window / per_seconds + burst
        assert most_within(moments, int(window * SECOND)) <= allowed


@pytest.mark.parametrize("processes", [1, 3, 16])
def test_greedy_processes_use_all_of_it(processes: int) -> None:
    sent = simulate([Quota("q", 10, 1, 1)], [(ACME, 0)] * processes, 20)
    assert len(sent) >= 0.97 * 200


def test_parties_get_equal_shares_however_many_processes_they_have() -> None:
    sent = simulate([Quota("q", 20, 1, 2)], [(ACME, 0)] * 40 + [(BETA, 0)] * 4, 20)
    counts = Counter(party.tenant for _, party in sent)
    assert counts["beta"] >= 0.45 * len(sent)
    assert len(sent) >= 0.95 * 400


def test_a_party_that_asks_seldom_leaves_the_rest_to_others() -> None:
    sent = simulate([Quota("q", 10, 1, 1)], [(ACME, 0)] * 8 + [(BETA, SECOND)], 30)
    counts = Counter(party.tenant for _, party in sent)
    assert len(sent) >= 0.9 * 300
    assert counts["beta"] >= 15, "each of its requests waits about half a second at most"


@pytest.mark.parametrize("crowd", [16, 200])
def test_an_interactive_request_jumps_the_queue(crowd: int) -> None:
    quota = Quota("q", 10, 1, 1)
    sent = simulate([quota], [(ACME, 0)] * crowd + [(CLICK, 0)] * 4, 10)
    clicks = [moment for moment, party in sent if party is CLICK]
    assert len(clicks) >= 0.75 * len(sent)
    assert max(b - a for a, b in pairwise([0, *clicks])) <= 2 * HORIZON


def test_an_interactive_request_now_and_then_is_answered_soon() -> None:
    quota, states = Quota("q", 10, 1, 1), [State()]
    waits = []
    for step in range(400):
        now = START + step * SECOND // 20
        for _ in range(20):
            reserve([quota], states, ACME, 1, now)
        if step % 40 == 39:
            waits.append(reserve([quota], states, CLICK, 1, now))
    assert all(grant.count == 1 and grant.wait <= 0.7 for grant in waits)


def test_a_burst_goes_at_once_and_then_the_pace_holds() -> None:
    sent = simulate([Quota("q", 10, 1, 5)], [(ACME, 0)] * 8, 2)
    moments = [moment for moment, _ in sent]
    assert sum(moment < SECOND // 50 for moment in moments) == 5 - 2, "two are kept for late ones"
    assert min(b - a for a, b in pairwise(moments[6:])) >= SECOND // 10 - 1


def test_a_counted_quota_goes_at_once_and_never_beyond() -> None:
    day = Quota("day", 480, 86_400)
    states = [State()]
    sent: list[int] = []
    now = START
    while now < START + 3 * 86_400 * SECOND:
        grant = reserve([day], states, ACME, 100, now)
        sent += [now] * grant.count
        now += max(SECOND, int(grant.wait * SECOND))
    assert sent.count(START) == 100
    assert sum(moment < START + 60 * SECOND for moment in sent) == 480 - 24, "5 % is kept back"
    assert most_within(sent, 86_400 * SECOND) <= 480
    assert len(sent) >= 0.85 * 3 * 480


def test_what_is_kept_back_is_for_interactive_requests() -> None:
    day, states = Quota("day", 100, 86_400), [State()]
    assert reserve([day], states, ACME, 1_000, START).count == 95
    refused = reserve([day], states, ACME, 1, START)
    assert refused.count == 0
    assert 23 * 3_600 < refused.wait <= 26 * 3_600
    assert "100 requests in 86400 s" in refused.reason
    assert reserve([day], states, CLICK, 10, START).count == 5


def test_what_was_not_sent_counts_no_more() -> None:
    day, states = Quota("day", 100, 86_400), [State()]
    assert reserve([day], states, CLICK, 100, START).count == 100
    give_back(day, states[0], 30)
    assert reserve([day], states, CLICK, 100, START).count == 30


def test_several_quotas_hold_at_once() -> None:
    quotas = [Quota("s", 10, 1, 1), Quota("m", 120, 60, 1), Quota("day", 1_000, 86_400)]
    sent = [moment for moment, _ in simulate(quotas, [(ACME, 0)] * 8, 60)]
    assert most_within(sent, SECOND) <= 3
    assert 115 <= len(sent) <= 121


def test_a_slow_quota_does_not_hold_up_the_others_of_a_fast_one() -> None:
    app, slow = Quota("app", 20, 1, 1), Quota("slow", 1, 1, 1)
    states = {quota.key: State() for quota in (app, slow)}
    for step in range(200):
        now = START + step * SECOND // 40
        reserve([app, slow], [states["app"], states["slow"]], ACME, 1, now)
        if step % 2:
            grant = reserve([app], [states["app"]], BETA, 1, now)
            assert grant.wait <= 0.2, step


def test_nothing_goes_while_the_quota_is_held() -> None:
    state = State(hold=START + 7 * SECOND)
    grant = reserve([Quota("q", 10, 1, 1)], [state], CLICK, 1, START)
    assert (grant.count, grant.wait) == (0, 7.0)
    assert reserve([Quota("q", 10, 1, 1)], [state], CLICK, 1, START + 7 * SECOND).count == 1


def test_a_clock_that_was_set_back_blocks_nobody() -> None:
    quota, states = Quota("q", 10, 1, 1), [State()]
    for n in range(20):
        reserve([quota], states, ACME, 1, START + n * SECOND // 10)
    waits, now = 0.0, START - 3_600 * SECOND
    while not (grant := reserve([quota], states, ACME, 1, now)).count:
        waits += grant.wait
        now += int(grant.wait * SECOND) + 1
    assert waits < 5
