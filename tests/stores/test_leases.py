"""What `ports.Leases` promises, in SQLite and PostgreSQL: one holder, and epochs that only rise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from membrane_sync.errors import Fenced, LockTimeout
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.leases import SqlLeases
from tests.stores.databases import read, run

DIES = """
import os, sys
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.leases import SqlLeases
with SqlLeases(LedgerDatabase(sys.argv[1]), 60).hold("acme", "sync", 0):
    os._exit(9)
"""


def leases(url: str, seconds: float = 60.0) -> SqlLeases:
    return SqlLeases(LedgerDatabase(url), seconds)


class Silent(SqlLeases):
    """As a process that is frozen, or cut off from the ledger: it holds, and doesn't renew."""

    def _renew_all(self) -> None:
        return


def test_epochs_rise_at_each_acquisition(url: str) -> None:
    ours, epochs = leases(url), []
    for _ in range(5):
        with ours.hold("acme", "sync", 0) as lease:
            assert not lease.taken_over
            lease.check()
            epochs.append(lease.epoch)
    assert epochs == sorted(set(epochs))


def test_a_ledger_from_a_backup_gives_no_epoch_again(url: str) -> None:
    with leases(url).hold("acme", "sync", 0) as before:
        pass
    run(url, "DELETE FROM membrane_leases")
    with leases(url).hold("acme", "sync", 0) as after:
        assert after.epoch > before.epoch


def test_who_waits_too_long_hears_who_holds_it(url: str) -> None:
    with (
        leases(url).hold("acme", "Dagster run 4711", 0),
        pytest.raises(LockTimeout) as caught,
        leases(url).hold("acme", "sync", 0.1),
    ):
        pass
    said = str(caught.value)
    assert f"'acme' is held by process {os.getpid()} on " in said
    assert "(Dagster run 4711, since 20" in said and "waited 0.1 s" in said
    assert "lock_wait_seconds" in said


def test_connections_do_not_wait_for_one_another(url: str) -> None:
    with leases(url).hold("acme", "sync", 0), leases(url).hold("globex", "sync", 0):
        pass


def test_who_waits_gets_it_when_it_is_released(url: str) -> None:
    with ExitStack() as holding:
        holding.enter_context(leases(url).hold("acme", "sync", 0))
        threading.Timer(0.2, holding.close).start()
        with leases(url).hold("acme", "sync", 10) as lease:
            assert not lease.taken_over


def test_only_one_of_many_has_it(url: str) -> None:
    inside, most, epochs = [0], [0], []

    def work() -> None:
        ours = leases(url)
        for _ in range(5):
            with ours.hold("acme", "sync", 60) as lease:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                epochs.append(lease.epoch)
                time.sleep(0.005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(epochs) == 30
    assert epochs == sorted(set(epochs))


def test_a_held_lease_is_renewed(url: str) -> None:
    with leases(url, 0.6).hold("acme", "sync", 0) as lease:
        with pytest.raises(LockTimeout), leases(url).hold("acme", "other", 1.5):
            pass
        lease.check()


def test_a_lease_that_ran_out_is_taken_over(url: str) -> None:
    with Silent(LedgerDatabase(url), 0.2).hold("acme", "sync", 0) as frozen:
        with leases(url).hold("acme", "sync", 5) as lease:
            assert lease.taken_over and lease.epoch > frozen.epoch
            with pytest.raises(Fenced, match="'acme' was taken over by another process"):
                frozen.check()
            lease.check()
        # Nor does it come back when the other one has gone.
        with pytest.raises(Fenced):
            frozen.check()
    with leases(url).hold("acme", "sync", 0) as lease:
        assert not lease.taken_over, "the frozen one's release is of no effect"


def test_one_that_ran_out_and_nobody_took_is_held_again(url: str) -> None:
    with Silent(LedgerDatabase(url), 0.05).hold("acme", "sync", 0) as late:
        time.sleep(0.1)
        late._leases._seconds = 60
        late.check()
        with pytest.raises(LockTimeout), leases(url).hold("acme", "sync", 0):
            pass


def test_a_dead_process_holds_nothing(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, url], check=False, timeout=60)
    assert done.returncode == 9
    (row,) = read(url, "SELECT held, expires_at FROM membrane_leases")
    assert row["held"]
    with leases(url).hold("acme", "sync", 0) as lease:
        assert lease.taken_over


def test_a_dead_process_of_another_machine_may_be_alive(url: str) -> None:
    subprocess.run([sys.executable, "-c", DIES, url], check=False, timeout=60)
    run(url, "UPDATE membrane_leases SET machine = 'elsewhere', host = 'elsewhere'")
    with (
        pytest.raises(LockTimeout, match="on elsewhere"),
        leases(url).hold("acme", "sync", 0.1),
    ):
        pass


def test_the_thread_ends_when_nothing_is_held(url: str) -> None:
    ours = leases(url)
    with ours.hold("acme", "sync", 0):
        keeper = ours._keeper
        assert keeper is not None and keeper.is_alive()
    ours.close()
    keeper.join(5)
    assert not keeper.is_alive()
    with ours.hold("acme", "sync", 0) as lease:
        lease.check()
