"""Records for the demo, the same at every run, and the changes that happen to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

Record = dict[str, Any]

_FIRST = [
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Frances",
    "Ken",
    "Radia",
    "Margaret",
]
_LAST = [
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Allen",
    "Thompson",
    "Perlman",
]
_CITIES = ["Berlin", "Lyon", "Oslo", "Porto", "Zürich", "Łódź", "Århus", "東京"]
_TAGS = ["newsletter", "trial", "partner", "event"]


@dataclass(frozen=True)
class Churn:
    """What the app's users do between two syncs."""

    changed: list[Record]
    created: list[Record]
    deleted: list[str]


def kinto_collections(tenant: str, count: int) -> dict[str, Iterator[Record]]:
    """A tenant's records in Kinto by collection; `count` is how many contacts."""
    return {"companies": kinto_companies(), "contacts": kinto_contacts(tenant, count)}


def kinto_companies() -> Iterator[Record]:
    """The forty companies that contacts work for."""
    for number in range(40):
        name = f"Company {number}"
        yield {"id": f"company-{number:03d}", "name": name, "website": f"https://c{number}.example"}


def kinto_contacts(tenant: str, count: int) -> Iterator[Record]:
    """A tenant's contacts in Kinto."""
    random = Random(tenant)
    for number in range(count):
        yield _kinto_contact(random, tenant, number)


def kinto_churn(tenant: str, count: int) -> Churn:
    """Some contacts move, some are new, some are gone, and some are saved without a change."""
    saved = list(kinto_contacts(tenant, count))
    random = Random(f"{tenant} churn")
    moved = [{**record, "address": {"city": "Lisboa", "country": "PT"}} for record in saved[10:60]]
    untouched = saved[100:120]
    created = [_kinto_contact(random, tenant, number) for number in range(count, count + 25)]
    return Churn(moved + untouched, created, [record["id"] for record in saved[200:215]])


def pocketbase_contacts(tenant: str, count: int) -> Iterator[Record]:
    """A tenant's contacts in PocketBase; `id` is left to the app's own form."""
    random = Random(f"{tenant} pocketbase")
    for number in range(count):
        first, last = random.choice(_FIRST), random.choice(_LAST)
        yield {
            "number": number,
            "name": f"{first} {last}",
            "email": f"{first}.{last}.{number}@{tenant}.example".lower(),
            "phone": f"+49 30 {random.randrange(10**6, 10**7)}",
            "company": f"Company {number % 40}",
        }


def _kinto_contact(random: Random, tenant: str, number: int) -> Record:
    first, last = random.choice(_FIRST), random.choice(_LAST)
    return {
        "id": f"contact-{number:06d}",
        "email": f"{first}.{last}.{number}@{tenant}.example".lower(),
        "first_name": first,
        "last_name": last,
        "phone": f"+49 30 {random.randrange(10**6, 10**7)}",
        "company": f"Company {number % 40}",
        "tags": sorted(random.sample(_TAGS, random.randrange(3))),
        "address": {"city": random.choice(_CITIES), "country": "XX"},
        "signed_up": f"2026-{random.randrange(1, 12):02d}-{random.randrange(1, 28):02d}T09:30:00Z",
        "score": random.randrange(100),
    }
