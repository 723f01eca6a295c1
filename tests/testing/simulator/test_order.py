"""The order of a table against a list that is sorted anew each time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.testing.simulator.listing import Query, View
from membrane_sync.testing.simulator.switches import Collection
from membrane_sync.testing.simulator.table import Table

WRITES = st.lists(
    st.tuples(
        st.sampled_from(["create", "edit", "delete", "undelete"]),
        st.integers(0, 40),
        st.integers(0, 60),
    ),
    max_size=25,
)
SPECS = st.builds(
    Collection,
    key=st.just("things"),
    per_moment=st.integers(1, 6),
    step_ms=st.just(1),
    nulls=st.integers(0, 4),
    null_order=st.sampled_from(["first", "last", "absent"]),
    deletes=st.sampled_from(["tombstone", "endpoint", "silent"]),
)


def written(spec: Collection, writes: list[tuple[str, int, int]]) -> Table:
    table = Table(spec, 30, seed=1, start=10_000)
    for verb, number, at in writes:
        now = 10_000 + at * 500
        if verb == "create":
            table.create(now, {})
        elif number < table.count:
            getattr(table, verb)(number, now)
    return table


def naive(table: Table, query: Query) -> list[int]:
    """The records of a query by looking at every one of them."""
    found = []
    for number in range(table.count):
        row = table.row(number)
        if row.deleted and table.spec.deletes != "tombstone":
            continue
        filtered = query.since is not None or query.until is not None
        if row.updated is None:
            absent = table.spec.null_order == "absent" and query.sort != "id"
            if filtered or absent:
                continue
        elif not (query.since or 0) <= row.updated < (query.until or 1 << 60):
            continue
        found.append(number)
    if query.sort == "id":
        return found
    early = -1 if table.spec.null_order == "first" else 1 << 60

    def key(number: int) -> tuple[int, int]:
        time = table.row(number).updated
        return (early if time is None else time, number)

    return sorted(found, key=key, reverse=query.sort == "descending")


@settings(max_examples=300, deadline=None)
@given(
    spec=SPECS,
    writes=WRITES,
    since=st.none() | st.integers(9_000, 45_000),
    until=st.none() | st.integers(9_000, 45_000),
    sort=st.sampled_from(["ascending", "descending", "id"]),
    position=st.integers(0, 40),
    size=st.integers(1, 40),
)
def test_a_page_is_a_slice_of_the_sorted_records(
    spec: Collection,
    writes: list[tuple[str, int, int]],
    since: int | None,
    until: int | None,
    sort: str,
    position: int,
    size: int,
) -> None:
    table = written(spec, writes)
    query = Query(since=since, until=until, sort=sort)
    view, whole = View(table, query), naive(table, query)
    assert len(view) == len(whole)
    assert view.page(position, size) == whole[position : position + size]


@settings(max_examples=200, deadline=None)
@given(
    spec=SPECS,
    writes=WRITES,
    since=st.none() | st.integers(9_000, 45_000),
    sort=st.sampled_from(["ascending", "descending", "id"]),
)
def test_the_place_after_a_record_is_the_next_ones(
    spec: Collection, writes: list[tuple[str, int, int]], since: int | None, sort: str
) -> None:
    table = written(spec, writes)
    view = View(table, Query(since=since, sort=sort))
    for position, number in enumerate(view.page(0, len(view))):
        assert view.after(table.row(number).updated, number) == position + 1


@settings(max_examples=100, deadline=None)
@given(spec=SPECS, writes=WRITES, sort=st.sampled_from(["none", "ascending"]), salt=st.integers(0))
def test_no_order_and_unstable_ties_still_give_each_record_once(
    spec: Collection, writes: list[tuple[str, int, int]], sort: str, salt: int
) -> None:
    table = written(spec.model_copy(update={"ties": "unstable"}), writes)
    view = View(table, Query(sort=sort, salt=salt))
    assert sorted(view.page(0, len(view))) == sorted(naive(table, Query(sort="ascending")))


def test_unstable_ties_differ_from_request_to_request() -> None:
    spec = Collection(key="things", per_moment=10, ties="unstable")
    table = Table(spec, 100, seed=1, start=0)
    pages = {tuple(View(table, Query(salt=salt)).page(0, 10)) for salt in range(5)}
    assert len(pages) > 1


@settings(max_examples=50, deadline=None)
@given(spec=SPECS, writes=WRITES)
def test_the_truth_is_what_is_alive(spec: Collection, writes: list[tuple[str, int, int]]) -> None:
    table = written(spec, writes)
    alive = {f"things-{n:08d}" for n in range(table.count) if not table.row(n).deleted}
    assert set(dict(table.truth())) == alive


def test_a_million_records_cost_nothing_until_they_are_read() -> None:
    table = Table(Collection(key="things"), 1_000_000, seed=1, start=0)
    view = View(table, Query())
    assert len(view) == 1_000_000
    assert view.page(999_998, 10) == [999_998, 999_999]
    assert not table.order.untouched.holes and not table.order.touched
