"""Every collection of the simulator, read over HTTP as its answers say, gives its truth."""

import httpx
import pytest

from membrane_sync.testing.simulator import STYLES, Collection, Simulator
from tests.testing.simulator.helpers import client_of, read_all

PLAIN = [
    spec
    for spec in STYLES
    if not spec.parent and not spec.summary and spec.window == "optional" and spec.ties == "by_id"
]


@pytest.fixture(scope="module")
def served():
    simulator = Simulator(seed=3, records=230)
    for spec in PLAIN:
        simulator.edit(spec.key, 7)
        simulator.create(spec.key, 3)
        simulator.delete(spec.key, 4)
    simulator.settle()
    with client_of(simulator) as client:
        yield simulator, client


@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.key)
def test_a_whole_reading_gives_the_truth(spec: Collection, served) -> None:
    simulator, client = served
    records = read_all(client, f"/{spec.key}", spec.pagination, limit=40)
    assert len({record["id"] for record in records}) == len(records)
    alive = {record["id"]: record for record in records if not record.get("deleted")}
    assert alive == simulator.truth(spec.key)
    assert any(r.get("deleted") for r in records) == (spec.deletes == "tombstone")


@pytest.mark.parametrize(
    "spec", [s for s in PLAIN if s.filter != "none"], ids=lambda spec: spec.key
)
def test_a_filter_finds_what_has_changed_since(spec: Collection, served) -> None:
    simulator, client = served
    table = simulator.tables[spec.key]
    numbers = [n for n in table.present.walk(0) if table.row(n).updated is not None]
    times = sorted(table.clock.floor(table.row(n).updated or 0) for n in numbers)
    since = times[len(times) // 2]
    sent = table.clock.json(since).strip('"')
    found = read_all(client, f"/{spec.key}", spec.pagination, limit=40, updated_from=sent)
    exclusive = spec.filter == "exclusive"
    expected = [t for t in times if (t > since if exclusive else t >= since)]
    assert len(found) == len(expected) > 0


def test_children_are_read_below_their_parents() -> None:
    simulator = Simulator(records=5)
    parent = next(iter(simulator.truth("accounts")))
    [added] = simulator.create("notes", parent=parent)
    with client_of(simulator) as client:
        below = read_all(client, f"/accounts/{parent}/notes", "cursor")
        assert client.get("/notes").status_code == 404
        changed = client.get("/accounts", params={"sort": "-updated_at"}).json()["items"][0]
    assert [record["id"] for record in below][-1] == added
    assert {record["parent_id"] for record in below} == {parent}
    assert len(below) == 4
    assert changed["id"] == parent, "a change of a child touches the parent"


def test_a_summary_leads_to_the_record() -> None:
    simulator = Simulator(records=3)
    with client_of(simulator) as client:
        [first, *_] = client.get("/summaries").json()["items"]
        assert set(first) == {"id", "updated_at"}
        assert (
            client.get(f"/summaries/{first['id']}").json()
            == (simulator.truth("summaries")[first["id"]])
        )


def test_a_window_is_required_and_bounds_the_list() -> None:
    simulator = Simulator(records=100)
    with client_of(simulator) as client:
        assert client.get("/windowed").status_code == 400
        bounds = {
            "updated_from": "2026-01-01T00:00:01Z",
            "updated_before": "2026-01-01T00:00:03Z",
        }
        assert client.get("/windowed", params=bounds).json()["total"] == 20


@pytest.mark.parametrize("beyond", ["error", "stop"])
def test_a_cap_ends_every_query(beyond: str) -> None:
    spec = Collection(key="c", pagination="offset", result_cap=50, beyond_cap=beyond)
    simulator = Simulator(records=120, collections=[spec])
    with client_of(simulator) as client:
        ids = [r["id"] for r in client.get("/c", params={"offset": 40}).json()["items"]]
        after = client.get("/c", params={"offset": 50})
    assert ids == [f"c-{n:08d}" for n in range(40, 50)]
    assert after.status_code == (400 if beyond == "error" else 200)


def test_ties_behind_a_cap_can_be_drained_by_id() -> None:
    spec = Collection(key="c", pagination="page", result_cap=100, per_moment=250)
    simulator = Simulator(records=400, collections=[spec])
    moment = {"updated_at": "2026-01-01T00:00:00.000Z", "sort": "id", "limit": 100}
    seen: list[str] = []
    with client_of(simulator) as client:
        while True:
            query = {**moment, **({"after_id": seen[-1]} if seen else {})}
            found = client.get("/c", params=query).json()["items"]
            if not found:
                break
            seen += [record["id"] for record in found]
    assert seen == list(simulator.truth("c"))[:250]


def test_pages_are_clamped_or_refused() -> None:
    large = {"limit": 200}
    clamped = Collection(key="c", max_page_size=10)
    refused = Collection(key="r", max_page_size=10, oversize="error")
    with client_of(Simulator(records=30, collections=[clamped, refused])) as client:
        assert len(client.get("/c", params=large).json()["items"]) == 10
        assert client.get("/r", params=large).status_code == 400


def test_late_records_show_when_they_are_due_with_the_time_they_were_written() -> None:
    spec = Collection(key="c", late_seconds=30)
    simulator = Simulator(records=5, collections=[spec])
    [made] = simulator.create("c")
    written = simulator.truth("c")[made]["updated_at"]
    with client_of(simulator) as client:
        assert client.get(f"/c/{made}").status_code == 404
        simulator.tick(30)
        assert client.get(f"/c/{made}").json()["updated_at"] == written


def test_skewed_clocks_write_times_out_of_order() -> None:
    spec = Collection(key="c", skew_ms=2000, step_ms=10)
    simulator = Simulator(records=1, collections=[spec])
    simulator.create("c", 50)
    times = [record["updated_at"] for record in simulator.truth("c").values()]
    assert times != sorted(times)


def test_an_edit_together_shares_one_moment() -> None:
    simulator = Simulator(records=50)
    changed = simulator.edit("contacts", 10, together=True)
    truth = simulator.truth("contacts")
    assert len({truth[external_id]["updated_at"] for external_id in changed}) == 1


def test_undelete_brings_a_record_back_as_changed() -> None:
    simulator = Simulator(records=5)
    [gone] = simulator.delete("silent", 1)
    assert gone not in simulator.truth("silent")
    simulator.undelete("silent", [gone])
    with client_of(simulator) as client:
        newest = client.get("/silent", params={"sort": "-updated_at"}).json()["items"][0]
    assert newest["id"] == gone and newest == simulator.truth("silent")[gone]


def test_the_deleted_endpoint_gives_what_went_since() -> None:
    simulator = Simulator(records=20)
    early = simulator.delete("deleted_endpoint", 2)
    since = simulator.tables["deleted_endpoint"].clock.json(simulator.now + 1000).strip('"')
    late = simulator.delete("deleted_endpoint", 3)
    with client_of(simulator) as client:
        everything = client.get("/deleted_endpoint/deleted").json()["items"]
        later = client.get("/deleted_endpoint/deleted", params={"updated_from": since}).json()
        assert client.get("/silent/deleted").status_code == 404
    assert sorted(r["id"] for r in everything) == sorted(early + late)
    assert sorted(r["id"] for r in later["items"]) == sorted(late)


def follow(client: httpx.Client, token: str | None) -> tuple[dict[str, dict], str]:
    """All changes since a token, and the next token."""
    state: dict[str, dict] = {}
    while True:
        query = {"limit": 7, **({"token": token} if token else {})}
        body = client.get("/delta/delta", params=query).raise_for_status().json()
        state |= {record["id"]: record for record in body["items"]}
        if body["delta"]:
            return state, body["delta"]
        token = body["next"]


def test_delta_tokens_follow_every_change_and_expire() -> None:
    simulator = Simulator(records=30)
    with client_of(simulator) as client:
        state, token = follow(client, None)
        simulator.edit("delta", 9)
        simulator.create("delta", 2)
        simulator.delete("delta", 4)
        changed, token = follow(client, token)
        state |= changed
        alive = {i: record for i, record in state.items() if not record.get("deleted")}
        assert alive == simulator.truth("delta")
        assert follow(client, token)[0] == {}
        simulator.edit("delta", ["delta-00000000"] * 10_001)
        assert client.get("/delta/delta", params={"token": token}).status_code == 410


def test_pages_drift_while_they_are_read() -> None:
    from membrane_sync.testing.simulator import Faults

    simulator = Simulator(records=40, faults=Faults(drift_every=2))
    with client_of(simulator) as client:
        read_all(client, "/by_offset", "offset", limit=10)
    edited = [r for r in simulator.truth("by_offset").values() if r["revision"]]
    assert len(edited) == 2


def test_etag_gzip_and_custom_fields() -> None:
    from membrane_sync.testing.simulator import Access, Wire

    access = Access(custom_fields=2)
    simulator = Simulator(records=20, access=access, wire=Wire(gzip=True))
    with client_of(simulator) as client:
        first = client.get("/conditional")
        etag = {"If-None-Match": first.headers["etag"]}
        assert client.get("/conditional", headers=etag).status_code == 304
        simulator.edit("conditional", 1)
        assert client.get("/conditional", headers=etag).status_code == 200
        assert first.headers["content-encoding"] == "gzip"
        names = [field["name"] for field in client.get("/fields/contacts").json()["fields"]]
        record = client.get("/contacts").json()["items"][0]
    assert names == ["acme_field_0", "acme_field_1"]
    assert set(names) < set(record)


def test_the_same_seed_gives_the_same_app() -> None:
    def story(seed: int) -> dict[str, dict]:
        simulator = Simulator(seed=seed, records=60)
        simulator.edit("contacts", 9)
        simulator.delete("contacts", 5)
        simulator.create("contacts", 2)
        return simulator.truth("contacts")

    assert story(4) == story(4)
    assert story(4) != story(5)
