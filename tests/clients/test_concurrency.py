"""How many requests may be under way, as the app's answers set it."""

from __future__ import annotations

import threading
import time

from membrane_sync.clients.concurrency import FIRST, MOST, Concurrency


def rounds(concurrency: Concurrency, count: int) -> None:
    """So many times as many requests at once as there may be, all answered."""
    for _ in range(count):
        slots = [concurrency.slot() for _ in range(concurrency.limit)]
        for slot in slots:
            slot.__enter__()
        for _ in slots:
            concurrency.went_well()
        for slot in slots:
            slot.__exit__(None, None, None)


def test_it_grows_by_about_one_a_round_up_to_a_bound() -> None:
    concurrency = Concurrency()
    rounds(concurrency, 5)
    assert FIRST + 3 <= concurrency.limit <= FIRST + 5
    rounds(concurrency, 50)
    assert concurrency.limit == MOST


def test_it_does_not_grow_while_it_is_not_used() -> None:
    concurrency = Concurrency()
    for _ in range(100):
        with concurrency.slot():
            concurrency.went_well()
    assert concurrency.limit == FIRST


def test_trouble_halves_it_once_for_all_that_were_under_way() -> None:
    concurrency = Concurrency(first=8)
    with concurrency.slot() as first, concurrency.slot() as second:
        concurrency.too_much(first)
        concurrency.too_much(second)
    assert concurrency.limit == 4
    for _ in range(5):
        with concurrency.slot() as began:
            concurrency.too_much(began)
    assert concurrency.limit == 1


def test_no_more_are_under_way_than_the_limit() -> None:
    concurrency = Concurrency(first=3, most=3)
    under_way, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal under_way, most
        for _ in range(5):
            with concurrency.slot():
                with lock:
                    under_way += 1
                    most = max(most, under_way)
                time.sleep(0.002)
                with lock:
                    under_way -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 3
