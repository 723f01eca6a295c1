"""The contacts mapping and the projection in plain Python, run by dlt's `add_map`.

`mapping.py` runs this file in an environment that has dlt in it, and reads the one line it prints.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import dlt
from contacts import contact, encode

Record = dict[str, Any]
SAMPLE = 1_000


def plain(record: Record) -> Record:
    """The projection; what's missing comes out as null."""
    company, address = record.get("company") or {}, record.get("address") or {}
    return {
        "id": record.get("id"),
        "firstName": record.get("first_name"),
        "lastName": record.get("last_name"),
        "email": record.get("email"),
        "phone": record.get("phone"),
        "mobile": record.get("mobile"),
        "jobTitle": record.get("title"),
        "status": record.get("status"),
        "score": record.get("score"),
        "company": company.get("name"),
        "companyId": company.get("id"),
        "city": address.get("city"),
        "country": address.get("country"),
        "ownerId": record.get("owner_id"),
        "createdTime": record.get("created_at"),
        "updatedTime": record.get("updated_at"),
    }


def contacts(record: Record) -> Record:
    """The contacts mapping, as one would write it knowing every type."""
    get, company = record.get, record.get("company") or {}
    address, emails = get("address") or {}, get("emails") or []
    place = {name: address.get(name) for name in ("street", "city", "state", "zip", "country")}
    names = [get("first_name"), get("last_name")]
    created, score = get("created_at"), get("score") or 0
    return {
        "id": get("id"),
        "fullName": " ".join(name for name in names if name),
        "firstName": get("first_name"),
        "lastName": get("last_name"),
        "primaryEmail": get("email") or (emails[0].get("value") if emails else None),
        "primaryPhone": get("phone") or get("mobile") or get("work_number"),
        "primaryAddress": {
            **place,
            "full": ", ".join(str(part) for part in place.values() if part is not None),
        },
        "stage": {"0": "lead", "1": "open", "2": "won"}.get(str(get("status")), "other"),
        "rating": "hot" if score >= 90 else "warm" if score >= 50 else "cold",
        "isManager": "manager" in (get("title") or "").lower(),
        "jobTitle": get("title"),
        "companyId": company.get("id") if company.get("type") == "account" else None,
        "companyName": company.get("name"),
        "ownerId": get("owner_id"),
        "source": get("source"),
        "website": get("website"),
        "language": get("language"),
        "subscribed": get("subscribed"),
        "greeting": f"Dear {get('first_name')}!",
        "emails": [{"value": item.get("value"), "type": item.get("label")} for item in emails],
        "phones": [
            {"value": get("phone"), "type": "work"},
            {"value": get("mobile"), "type": "mobile"},
        ],
        "createdTime": created,
        "createdOn": created and created[:10],
        "updatedTime": get("updated_at"),
        "lastActivityTime": get("last_contacted"),
    }


def mapped(texts: list[str], function: Callable[[Record], Record]) -> list[str]:
    """From JSON texts to JSON texts, the mapping by `add_map`."""

    @dlt.resource(name="contacts")
    def read() -> Iterator[list[Record]]:
        yield [json.loads(text) for text in texts]

    return [encode(record) for record in read().add_map(function)]


def main(total: int, batch: int) -> None:
    """Print rows for each second of the clock and of the processors, and some of the results."""
    answer: dict[str, Any] = {"version": dlt.__version__}
    for function in (plain, contacts):
        clock = processor = 0.0
        for start in range(0, total, batch):
            texts = [encode(contact(i)) for i in range(start, min(start + batch, total))]
            began, used = time.perf_counter(), time.process_time()
            assert len(mapped(texts, function)) == len(texts)
            clock += time.perf_counter() - began
            processor += time.process_time() - used
        sample = mapped([encode(contact(i)) for i in range(SAMPLE)], function)
        answer[function.__name__] = [total / clock, total / processor, sample]
    print(json.dumps(answer))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
