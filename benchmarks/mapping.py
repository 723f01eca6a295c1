"""How fast mappings run: compiled, one record at a time, and written by hand in SQL.

`python -m benchmarks.mapping`; RECORDS (1,000,000), BATCH (50,000), SCALAR (20,000), how many are
mapped one at a time, and PEER, the folder of dlt's environment, are environment variables. The
compiled path and the SQL by hand are measured both from an Arrow column of JSON texts to another,
as DuckDB keeps them, and from a list of Python's texts to another, as all other paths go.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.contacts import contact, encode
from benchmarks.peers import answer_of, environment
from membrane_sync.formulas import MISSING, evaluate_fields
from membrane_sync.formulas.frames import text_column
from membrane_sync.formulas.plan import compile

RECORDS = int(os.environ.get("RECORDS", "1000000"))
BATCH = int(os.environ.get("BATCH", "50000"))
SCALAR = int(os.environ.get("SCALAR", "20000"))


def var(path: str) -> dict[str, str]:
    return {"$var": f"$.{path}"}


def address(at: str) -> dict[str, Any]:
    parts = {name: var(f"{at}.{name}") for name in ("street", "city", "state", "zip", "country")}
    return {**parts, "full": {"$concat": {"values": [*parts.values()], "delimiter": ", "}}}


CONTACTS: dict[str, Any] = {
    "id": var("id"),
    "fullName": {"$concat": {"values": [var("first_name"), var("last_name")], "delimiter": " "}},
    "firstName": var("first_name"),
    "lastName": var("last_name"),
    "primaryEmail": {"$firstNotEmpty": [var("email"), var("emails[0].value")]},
    "primaryPhone": {"$firstNotEmpty": [var("phone"), var("mobile"), var("work_number")]},
    "primaryAddress": address("address"),
    "stage": {
        "$map": {
            "value": var("status"),
            "mapping": [
                {"from": 0, "to": "lead"},
                {"from": 1, "to": "open"},
                {"from": 2, "to": "won"},
            ],
            "default": "other",
        }
    },
    "rating": {
        "$case": {
            "cases": [
                {"filter": {"$eval": var("score"), "gte": 90}, "value": "hot"},
                {"filter": {"$eval": var("score"), "gte": 50}, "value": "warm"},
            ],
            "default": "cold",
        }
    },
    "isManager": {"$eval": var("title"), "contains": "manager"},
    "jobTitle": var("title"),
    "companyId": {
        "$case": [
            {"filter": {"$eval": var("company.type"), "is": "account"}, "value": var("company.id")}
        ]
    },
    "companyName": var("company.name"),
    "ownerId": var("owner_id"),
    "source": var("source"),
    "website": var("website"),
    "language": var("language"),
    "subscribed": var("subscribed"),
    "greeting": {"$tpl": {"template": "Dear {name}!", "values": {"name": var("first_name")}}},
    "emails": {
        "$iterate": {
            "source": var("emails"),
            "item": {"value": var("item.value"), "type": var("item.label")},
        }
    },
    "phones": [{"value": var("phone"), "type": "work"}, {"value": var("mobile"), "type": "mobile"}],
    "createdTime": var("created_at"),
    "createdOn": {"$extractDate": var("created_at")},
    "updatedTime": var("updated_at"),
    "lastActivityTime": var("last_contacted"),
}
PLAIN: dict[str, Any] = {
    "id": var("id"),
    "firstName": var("first_name"),
    "lastName": var("last_name"),
    "email": var("email"),
    "phone": var("phone"),
    "mobile": var("mobile"),
    "jobTitle": var("title"),
    "status": var("status"),
    "score": var("score"),
    "company": var("company.name"),
    "companyId": var("company.id"),
    "city": var("address.city"),
    "country": var("address.country"),
    "ownerId": var("owner_id"),
    "createdTime": var("created_at"),
    "updatedTime": var("updated_at"),
}


TEXT, NUMBER, SWITCH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
ENTRIES = {"type": "array", "items": {"properties": {"value": TEXT, "type": TEXT}}}
ADDRESS = dict.fromkeys(("street", "city", "state", "country", "full"), TEXT)
TYPES: dict[str, Any] = {
    **{"id": NUMBER, "score": NUMBER, "ownerId": NUMBER, "isManager": SWITCH, "subscribed": SWITCH},
    **{"emails": ENTRIES, "phones": ENTRIES, "createdOn": {"type": "string", "format": "date"}},
    "createdTime": {"type": "string", "format": "date-time"},
    "primaryEmail": {"type": "string", "format": "email"},
    "primaryAddress": {"type": "object", "properties": {**ADDRESS, "zip": NUMBER}},
    "rating": {"type": "string", "enum": ["hot", "warm", "cold"]},
}


def schema_of(template: dict[str, Any]) -> dict[str, Any]:
    """The data schema that a mapping is for: each field with its type."""
    known = {name: TYPES.get(name, TEXT) for name in template}
    return {"type": "object", "properties": known, "required": ["id"]}


PLAIN_BY_HAND = """
SELECT to_json({id: s.id, firstName: s.first_name, lastName: s.last_name, email: s.email,
    phone: s.phone, mobile: s.mobile, jobTitle: s.title, status: s.status, score: s.score,
    company: s.company.name, companyId: s.company.id, city: s.address.city,
    country: s.address.country, ownerId: s.owner_id, createdTime: s.created_at,
    updatedTime: s.updated_at})::VARCHAR
FROM (SELECT from_json(j, '{"id":"BIGINT","first_name":"VARCHAR","last_name":"VARCHAR",
    "email":"VARCHAR","phone":"VARCHAR","mobile":"VARCHAR","title":"VARCHAR","status":"VARCHAR",
    "score":"BIGINT","company":{"id":"VARCHAR","name":"VARCHAR"},
    "address":{"city":"VARCHAR","country":"VARCHAR"},"owner_id":"BIGINT","created_at":"VARCHAR",
    "updated_at":"VARCHAR"}') AS s FROM input)
"""
"""The projection as one would write it knowing every type; missing fields come out as null."""

CONTACTS_BY_HAND = """
SELECT to_json({id: s.id, fullName: concat_ws(' ', s.first_name, s.last_name),
    firstName: s.first_name, lastName: s.last_name,
    primaryEmail: coalesce(s.email, s.emails[1].value),
    primaryPhone: coalesce(s.phone, s.mobile, s.work_number),
    primaryAddress: {street: s.address.street, city: s.address.city, state: s.address.state,
        zip: s.address.zip, country: s.address.country, "full": concat_ws(', ', s.address.street,
        s.address.city, s.address.state, s.address.zip, s.address.country)},
    stage: CASE s.status WHEN '0' THEN 'lead' WHEN '1' THEN 'open' WHEN '2' THEN 'won'
        ELSE 'other' END,
    rating: CASE WHEN s.score >= 90 THEN 'hot' WHEN s.score >= 50 THEN 'warm' ELSE 'cold' END,
    isManager: contains(lower(s.title), 'manager'), jobTitle: s.title,
    companyId: CASE WHEN s.company.type = 'account' THEN s.company.id END,
    companyName: s.company.name, ownerId: s.owner_id, source: s.source, website: s.website,
    language: s.language, subscribed: s.subscribed,
    greeting: 'Dear ' || s.first_name || '!',
    emails: list_transform(s.emails, lambda e: {value: e.value, type: e.label}),
    phones: list_filter([{value: s.phone, type: 'work'}, {value: s.mobile, type: 'mobile'}],
        lambda p: true),
    createdTime: s.created_at, createdOn: strftime(s.created_at::TIMESTAMP, '%Y-%m-%d'),
    updatedTime: s.updated_at, lastActivityTime: s.last_contacted})::VARCHAR
FROM (SELECT from_json(j, '{"id":"BIGINT","first_name":"VARCHAR","last_name":"VARCHAR",
    "email":"VARCHAR","phone":"VARCHAR","mobile":"VARCHAR","work_number":"VARCHAR",
    "title":"VARCHAR","status":"VARCHAR","score":"BIGINT","source":"VARCHAR","website":"VARCHAR",
    "language":"VARCHAR","subscribed":"BOOLEAN","owner_id":"BIGINT","created_at":"VARCHAR",
    "updated_at":"VARCHAR","last_contacted":"VARCHAR",
    "company":{"id":"VARCHAR","name":"VARCHAR","type":"VARCHAR"},
    "address":{"street":"VARCHAR","city":"VARCHAR","state":"VARCHAR","zip":"BIGINT",
    "country":"VARCHAR"},"emails":[{"value":"VARCHAR","label":"VARCHAR"}]}') AS s FROM input)
"""


def batches(total: int) -> Iterator[list[str]]:
    for start in range(0, total, BATCH):
        yield [encode(contact(i)) for i in range(start, min(start + BATCH, total))]


def compiled(template: Any) -> Callable[[Any], Any]:
    """From a column of texts to another."""
    plan = compile(template)
    assert not plan.unplanned, plan.unplanned

    def run(texts: Any) -> Any:
        mapped = plan.run(texts)
        assert mapped.scalar == 0 and not mapped.errors
        return mapped.column

    return run


def one_by_one(template: Any) -> Callable[[Any], Any]:
    """From a list of texts to another."""

    def text(record: Any) -> Any:
        value, _ = evaluate_fields(template, record)
        return value if value is MISSING else encode(value)

    return lambda texts: [text(json.loads(record)) for record in texts]


def by_hand(sql: str) -> Callable[[Any], Any]:
    """From a column of texts to another."""
    connection = duckdb.connect()

    def run(texts: Any) -> Any:
        rows = pa.table({"j": texts}).to_batches(max_chunksize=4096)
        connection.register("input", pa.Table.from_batches(rows))
        return connection.sql(sql).to_arrow_table().column(0)

    return run


def in_lists(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same from a list of Python's texts to another."""
    return lambda texts: run(text_column(texts)).to_pylist()


def measured(
    run: Callable[[Any], Any], total: int, given: Callable[[list[str]], Any] = list
) -> tuple[float, float, list[int]]:
    """Rows for each second of the clock and of the processors, and the memory after each batch."""
    clock = processor = 0.0
    memory = []
    for texts in map(given, batches(total)):
        began, used = time.perf_counter(), time.process_time()
        assert len(run(texts)) == len(texts)
        clock += time.perf_counter() - began
        processor += time.process_time() - used
        memory.append(resource_now())
    return total / clock, total / processor, memory


def resource_now() -> int:
    """The memory in use, in MiB; the most so far where the system doesn't tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize() >> 20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def pruned(value: Any) -> Any:
    """Without nulls, in which a typed struct can't tell missing from null."""
    if isinstance(value, dict):
        return {k: pruned(v) for k, v in value.items() if v is not None}
    return [pruned(item) for item in value] if isinstance(value, list) else value


def likeness(some: list[str], others: list[str]) -> int:
    """How many are alike, save nulls."""
    pairs = zip(some, others, strict=True)
    return sum(pruned(json.loads(a)) == pruned(json.loads(b)) for a, b in pairs)


def agree(name: str, template: Any, sql: str, by_peer: Any) -> None:
    texts = [encode(contact(i)) for i in range(1000)]
    fast, hand = (in_lists(run)(texts) for run in (compiled(template), by_hand(sql)))
    assert fast == one_by_one(template)(texts), f"{name}: the evaluators differ"
    others = {"by hand": hand, **({"by dlt": by_peer[2]} if by_peer else {})}
    alike = {label: likeness(fast, others[label]) for label in others}
    told = "; ".join(f"{label}, save nulls, in {count:,}" for label, count in alike.items())
    print(f"  outputs: both evaluators alike in all of 1,000; {told}")


def peer() -> dict[str, Any]:
    """What dlt makes of both mappings, in an environment of its own that is made once and kept.

    Nothing where it can't be installed.
    """
    python = environment()
    if python is None:
        return {}
    script = Path(__file__).with_name("peer.py")
    found: dict[str, Any] = json.loads(answer_of(python, script, str(RECORDS), str(BATCH)))
    return found


def report(name: str, template: Any, sql: str, by_peer: Any) -> None:
    print(f"\n{name}: {len(template)} fields")
    agree(name, template, sql, by_peer)
    fast, hand = compiled(template), by_hand(sql)
    scalar, scalar_cpu, _ = measured(one_by_one(template), min(SCALAR, RECORDS))
    columns, columns_cpu, memory = measured(fast, RECORDS, text_column)
    rows = [
        ("compiled, columns", columns, columns_cpu),
        ("by hand, columns", *measured(hand, RECORDS, text_column)[:2]),
        ("compiled, lists", *measured(in_lists(fast), RECORDS)[:2]),
        ("by hand, lists", *measured(in_lists(hand), RECORDS)[:2]),
        *([("dlt's add_map", *by_peer[:2])] if by_peer else []),
        ("one record at a time", scalar, scalar_cpu),
    ]
    print(f"  {'':22}{'rows/s':>12} {'rows/CPU-s':>12}   × one at a time  by CPU")
    for label, clock, cpu in rows:
        ratios = f"{clock / scalar:15.1f} {cpu / scalar_cpu:9.1f}"
        print(f"  {label:22}{clock:12,.0f} {cpu:12,.0f} {ratios}")
    if not by_peer:
        print("  dlt: not measured (couldn't be installed)")
    for what, (_, _, quick), (_, _, floor) in (("columns", *rows[:2]), ("lists", *rows[2:4])):
        print(f"  by CPU, {what}: compiled takes {floor / quick:.2f} times what it takes by hand")
    some = memory[:: max(1, len(memory) // 8)]
    print(f"  memory after a batch, from first to last: {', '.join(map(str, some))} MiB")


def main() -> None:
    print(f"{RECORDS:,} records of {len(encode(contact(7)))} bytes, in batches of {BATCH:,}")
    print(f"one record at a time: measured on {min(SCALAR, RECORDS):,}")
    by_peer = peer()
    report("Plain projection", PLAIN, PLAIN_BY_HAND, by_peer.get("plain"))
    report("Contacts", CONTACTS, CONTACTS_BY_HAND, by_peer.get("contacts"))


if __name__ == "__main__":
    main()
