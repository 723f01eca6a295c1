"""The records of the mapping benchmark; a module without a package, since its peer reads it too."""

from __future__ import annotations

import json
from typing import Any

CITIES = ("Basel", "Zürich", "Leipzig", "Mumbai", "Ōsaka", "Lagos", "Oslo")
NAMES = ("Ada", "Grace", "Zoë", "Wei", "Olga", "José", "Mary Ann", "李")
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def contact(i: int) -> dict[str, Any]:
    """A contact as an app sends it; every third one lacks something."""
    record: dict[str, Any] = {
        "id": i,
        "first_name": NAMES[i % 8],
        "last_name": f"Lovelace-{i % 1000}",
        "email": f"user{i}@example.org" if i % 5 else None,
        "phone": f"+1 555 {i % 10000:04}" if i % 3 else None,
        "title": "Sales manager" if i % 4 else "Engineer",
        "status": str(i % 4),
        "score": i % 100,
        "company": {"id": f"c{i % 500}", "name": "Analytical Engines", "type": "account"},
        "owner_id": i % 50,
        "source": "web",
        "website": "https://example.org/about",
        "language": "en",
        "subscribed": i % 2 == 0,
        "address": {
            "street": f"{i % 200} Elm St",
            "city": CITIES[i % 7],
            "zip": 4000 + i % 90,
            "country": "CH",
        },
        "emails": [
            {"value": f"user{i}@example.org", "label": "work"},
            {"value": f"home{i}@example.net", "label": "home"},
        ],
        "created_at": f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}T{i % 24:02}:00:00Z",
        "updated_at": f"2025-{i % 12 + 1:02}-{i % 28 + 1:02}T{i % 24:02}:30:15.250Z",
        "last_contacted": None,
        "notes": "Met at the fair; wants a call back next week.",
    }
    if i % 3 == 0:
        record["mobile"] = f"+41 79 {i % 10000:04}"
    return record
