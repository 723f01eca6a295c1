"""No event of an outbox is lost, and none comes twice, however late its transaction commits."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.errors import LockTimeout
from membrane_sync.events import outbox as module
from membrane_sync.events.outbox import Gap, Outboxes, Place, Reading
from membrane_sync.ports.events import Arrival, Bookmark
from membrane_sync.ports.outboxes import Look, OutboxRow
from tests.end_to_end.helpers import Workspace
from tests.events.ledgers import ORDER_PAID, workspace_on
from tests.stores.databases import read, run

EVENT = "mappings/universal/internal_events/order_paid.yaml"
CREATE = {
    "sqlite": "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT, tenant TEXT, "
    "payload TEXT, handled_at TEXT)",
    "postgresql": "CREATE TABLE outbox (id bigserial PRIMARY KEY, type text, tenant text, "
    "payload jsonb, handled_at timestamptz)",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    with workspace_on(request.param, request, tmp_path) as found:
        run(found[1], CREATE[request.param])
        yield found


@pytest.fixture
def postgresql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    with workspace_on("postgresql", request, tmp_path) as found:
        run(found[1], CREATE["postgresql"])
        yield found


def declare(workspace: Workspace, outbox: str) -> None:
    workspace.write(EVENT, ORDER_PAID + f"outbox: {{table: outbox, {outbox}}}\n")


def insert(order: int, tenant: str | None = "acme", **more: Any) -> sa.TextClause:
    """One more row of the product's."""
    values = {"tenant": tenant, **more}
    names = ", ".join(["payload", *values])
    marks = ", ".join([f"'{json.dumps({'order': order})}'", *(f":{name}" for name in values)])
    return sa.text(f"INSERT INTO outbox ({names}) VALUES ({marks})").bindparams(**values)


def write(url: str, *rows: sa.TextClause) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as transaction:
        for row in rows:
            transaction.execute(row)
    engine.dispose()


@contextmanager
def open_transaction(url: str) -> Iterator[sa.Connection]:
    """A transaction of the product's; the test says how it ends."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def reading(workspace: Workspace, limit: int = 1_000) -> Reading:
    (found,) = workspace.runtime.events.read_outboxes(limit)
    assert found.error == ""
    return found


def orders(url: str, connection: str = "acme_1") -> list[int]:
    """The orders of which events wait for a connection, in the order they came."""
    sql = f"SELECT payload FROM membrane_events WHERE connection = '{connection}' ORDER BY id"
    return [json.loads(str(row["payload"]))["order"] for row in read(url, sql)]


MODES = ["settle_seconds: 60", "handled_column: handled_at", "delete: true"]


@pytest.mark.parametrize("mode", MODES)
def test_rows_become_events_of_their_tenants_once(place: tuple[Workspace, str], mode: str) -> None:
    workspace, url = place
    declare(workspace, mode)
    write(url, *(insert(n) for n in range(5)), insert(9, "globex"))
    assert [reading(workspace, 4).more for _ in range(3)] == [True, False, False]
    assert orders(url) == orders(url, "acme_2") == [0, 1, 2, 3, 4]
    assert orders(url, "globex_1") == [9]
    write(url, insert(10))
    reading(workspace)
    assert orders(url)[-1] == 10
    left = read(url, "SELECT id FROM outbox WHERE handled_at IS NULL")
    assert len(left) == (7 if mode == MODES[0] else 0)
    assert len(read(url, "SELECT id FROM outbox")) == (0 if mode == "delete: true" else 7)


def test_a_row_that_is_no_event_is_dead_and_holds_up_no_other(place: tuple[Workspace, str]) -> None:
    workspace, url = place
    declare(workspace, "settle_seconds: 60")
    wrong = "INSERT INTO outbox (tenant, payload) VALUES ('acme', '{\"order\": \"x\"}')"
    list_ = "INSERT INTO outbox (tenant, payload) VALUES ('acme', '[1]')"
    rows = [sa.text(wrong), insert(1, " "), insert(2, None), sa.text(list_), insert(3)]
    write(url, *rows)
    reading(workspace)
    assert orders(url) == [3]
    sql = "SELECT tenant, error FROM membrane_events WHERE status = 'dead' ORDER BY id"
    assert [(row["tenant"], row["error"]) for row in read(url, sql)] == [
        ("acme", "order: should be integer, is text"),
        ("", "tenant: is no key of a tenant"),
        ("", "tenant: is no key of a tenant, as the formula `tenant` gives it"),
        ("acme", "payload: should be an object"),
    ]


def test_a_dead_row_is_replayed_once_its_yaml_is_mended(place: tuple[Workspace, str]) -> None:
    workspace, url = place
    declare(workspace, "settle_seconds: 60")
    wrong = sa.text("INSERT INTO outbox (tenant, payload) VALUES ('acme', '{\"order\": \"x\"}')")
    write(url, wrong)
    reading(workspace)
    workspace.replace(EVENT, "order: {type: integer}", "order: {type: string}")
    (event,) = workspace.runtime.ledger.event_log(None).events(0, 10)
    assert len(workspace.runtime.events.replay().event(event.id)) == 2
    assert orders(url) == ["x"]


def test_several_types_may_share_a_table(place: tuple[Workspace, str]) -> None:
    workspace, url = place
    for order, mode in enumerate(["settle_seconds: 60", "handled_column: handled_at"]):
        declare(workspace, f"type_column: type, {mode}")
        write(url, insert(order, type="order_paid"), insert(order, type="order_sent"))
        reading(workspace)
    assert orders(url) == [0, 1]
    assert len(read(url, "SELECT id FROM outbox WHERE handled_at IS NULL")) == 2


def test_another_table_is_read_from_its_beginning(place: tuple[Workspace, str]) -> None:
    workspace, url = place
    declare(workspace, "settle_seconds: 60")
    write(url, insert(1), insert(2))
    reading(workspace)
    run(url, "ALTER TABLE outbox RENAME TO outbox_old", CREATE[url.partition("+")[0].split(":")[0]])
    workspace.runtime.close()
    workspace.write(EVENT, ORDER_PAID + "outbox: {table: outbox_old}\n")
    reading(workspace)
    assert orders(url) == [1, 2], "an event_id says that they're the same"
    bookmark = workspace.runtime.ledger.inbox.bookmark("order_paid")
    assert bookmark is not None and bookmark.state["high"] == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_lower_number_that_commits_later_is_not_lost(
    postgresql: tuple[Workspace, str], mode: str
) -> None:
    workspace, url = postgresql
    declare(workspace, mode.replace("60", "0"))
    with open_transaction(url) as slow:
        slow.execute(insert(1))
        write(url, insert(2))
        for _ in range(3):  # however long it takes
            reading(workspace)
            assert orders(url) == [2]
        slow.commit()
    reading(workspace)
    assert orders(url) == [2, 1]


def test_a_number_that_was_given_out_before_the_transaction_wrote_is_waited_for(
    postgresql: tuple[Workspace, str],
) -> None:
    """Until it writes, PostgreSQL doesn't number a transaction: that's what the time is for."""
    workspace, url = postgresql
    declare(workspace, "settle_seconds: 3600")
    with open_transaction(url) as slow:
        number = slow.execute(sa.text("SELECT nextval('outbox_id_seq')")).scalar_one()
        write(url, insert(2))
        for _ in range(2):
            reading(workspace)
        slow.execute(insert(1, id=number))
        slow.commit()
    reading(workspace)
    assert orders(url) == [2, 1]


def test_gaps_that_nothing_can_fill_are_forgotten(postgresql: tuple[Workspace, str]) -> None:
    workspace, url = postgresql
    declare(workspace, "settle_seconds: 0")
    write(url, insert(0))
    with open_transaction(url) as undone:
        undone.execute(insert(1))
        undone.rollback()
    write(url, insert(2))
    inbox = workspace.runtime.ledger.inbox
    gaps = []
    for _ in range(2):
        reading(workspace)
        bookmark = inbox.bookmark("order_paid")
        assert bookmark is not None
        gaps.append([gap[:2] for gap in bookmark.state["gaps"]])
    assert gaps == [[[2, 2]], []]
    version = bookmark.version
    reading(workspace)
    assert inbox.bookmark("order_paid") == bookmark and version == 2, "nothing new, nothing written"


@pytest.mark.parametrize("mode", ["settle_seconds: 60", "handled_column: handled_at"])
def test_many_writers_who_commit_when_they_like_lose_nothing(
    place: tuple[Workspace, str], mode: str
) -> None:
    workspace, url = place
    declare(workspace, mode)
    runtime = workspace.runtime
    runtime.events.read_outboxes()
    total, done, written = 25, threading.Event(), list[int]()
    errors: list[BaseException] = []

    def product(writer: int) -> None:
        dice = random.Random(writer)
        engine = sa.create_engine(url, connect_args={"timeout": 60} if "sqlite" in url else {})
        for n in range(total):
            with engine.connect() as transaction:
                transaction.execute(insert(writer * 1_000 + n))
                time.sleep(dice.random() / 200)
                if dice.random() < 0.2:
                    transaction.rollback()
                else:
                    transaction.commit()
                    written.append(writer * 1_000 + n)
        engine.dispose()

    def reader() -> None:
        """Reads until all have written, and once more; another one reads too."""
        try:
            is_last = False
            while not is_last:
                is_last = done.is_set()
                for found in runtime.events.read_outboxes(7):
                    assert found.error == ""
                    is_last = is_last and not found.more
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=product, args=(n,)) for n in range(4)]
    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert len(written) > 40
    assert sorted(orders(url)) == sorted(written)


@pytest.mark.parametrize("mode", MODES)
def test_whoever_is_killed_before_or_after_the_commit_loses_and_doubles_nothing(
    place: tuple[Workspace, str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, url = place
    # Without an event_id, it's the row that's known again.
    workspace.write(
        EVENT,
        ORDER_PAID.replace("event_id: {$var: $.order}\n", "")
        + f"outbox: {{table: outbox, {mode}}}\n",
    )
    write(url, insert(1), insert(2))
    inbox = workspace.runtime.ledger.inbox
    kept = inbox.put

    class Killed(BaseException):
        pass

    def killed_before(arrivals: Any, bookmark: Any = None) -> Any:
        raise Killed

    def killed_after(arrivals: Any, bookmark: Any = None) -> Any:
        kept(arrivals, bookmark)
        raise Killed

    for put in (killed_before, killed_after):
        monkeypatch.setattr(inbox, "put", put)
        with pytest.raises(Killed):
            workspace.runtime.events.read_outboxes()
    monkeypatch.setattr(inbox, "put", kept)
    reading(workspace)
    assert orders(url) == [1, 2]


def test_of_two_who_read_on_from_one_bookmark_one_is_refused(place: tuple[Workspace, str]) -> None:
    inbox = place[0].runtime.ledger.inbox
    for version in (0, 1):
        inbox.put([], Bookmark("order_paid", "here", {"high": version}, version))
        with pytest.raises(LockTimeout):
            inbox.put([Arrival()], Bookmark("order_paid", "here", {"high": 9}, version))
    kept = inbox.bookmark("order_paid")
    assert kept is not None and (kept.version, kept.state) == (2, {"high": 1})
    assert inbox.bookmark("another") is None


def test_what_cannot_be_read_is_said_and_holds_up_no_other(place: tuple[Workspace, str]) -> None:
    workspace, url = place
    declare(workspace, "settle_seconds: 60")
    workspace.write("mappings/universal/internal_events/a.yaml", "outbox: {table: nowhere}\n")
    workspace.write(
        "mappings/universal/internal_events/b.yaml",
        "outbox: {table: outbox, cursor_column: payload}\n",
    )
    write(url, insert(1))
    missing, wrong, good = workspace.runtime.events.read_outboxes()
    assert "nowhere" in missing.error and "no whole number" in wrong.error
    assert (good.event, good.rows, orders(url)) == ("order_paid", 1, [1])


def test_with_too_many_gaps_nothing_new_is_read_until_they_settle(
    place: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, url = place
    declare(workspace, "settle_seconds: 60")
    monkeypatch.setattr(module, "MOST_GAPS", 2)
    runtime = workspace.runtime
    now = 0.0
    outboxes = Outboxes(
        runtime.project,
        runtime.ledger.inbox,
        runtime.events.internal,
        runtime.events.outboxes._open,
        lambda: now,
    )
    write(url, insert(2, id=2), insert(4, id=4))
    assert outboxes.read(100)[0].error == ""
    write(url, insert(5, id=5), insert(3, id=3))
    (full,) = outboxes.read(100)
    assert "gaps" in full.error and orders(url) == [2, 4, 3]
    now = 61.0
    for _ in range(2):
        outboxes.read(100)
    assert orders(url) == [2, 4, 3, 5]
    outboxes.close()


def test_gaps_are_what_is_missing() -> None:
    def look(*numbers: int, oldest: int = 1, newest: int = 9) -> Look:
        return Look([OutboxRow(n, "", {}) for n in numbers], oldest, newest)

    place = Place().moved(look(3, 4, 7), 100, 0.0, 60)
    assert place == Place(7, [Gap(1, 2, 0.0, 9), Gap(5, 6, 0.0, 9)])
    assert Place.of(json.loads(json.dumps(place.state))) == Place(7, tuple(place.gaps))
    later = place.moved(look(1, 6, 9, newest=12), 100, 30.0, 60)
    assert later == Place(9, [Gap(2, 2, 0.0, 9), Gap(5, 5, 0.0, 9), Gap(8, 8, 30.0, 12)])
    # Time alone isn't enough, nor is the end of transactions, nor a look that was cut short.
    assert later.moved(look(oldest=8), 100, 100.0, 60) == later
    assert later.moved(look(oldest=9), 100, 59.0, 60) == later
    assert later.moved(look(5, oldest=9), 1, 60.0, 60).gaps == [later.gaps[0], later.gaps[2]]
    assert later.moved(look(oldest=9), 100, 60.0, 60) == Place(9, [later.gaps[2]])
