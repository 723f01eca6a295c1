"""What a record says: a function of seed, number and revision, about 500 bytes of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_FIRST = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Ken", "Radia", "Tim")
_LAST = ("Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Allen", "Perlman", "Lee")
_CITIES = ("Lisbon", "Zürich", "Kyoto", "Nairobi", "Montréal", "Oslo", "Porto", "Lima", "Łódź")
_STAGES = ("lead", "trial", "customer", "champion", "former")
_WORDS = (
    "called about the renewal and asked for an offer in writing before the end of the quarter",
    "met at the fair; wants a second demonstration for the team in the other office",
    "no answer to the last two letters, the next one goes to the managing director instead",
    'said: "send the contract", but the address on file is old and has to be asked for again',
)
_NOTES = tuple(json.dumps(words) for words in _WORDS)

FIELDS = [
    "id",
    "name",
    "email",
    "phone",
    "company",
    "city",
    "stage",
    "score",
    "amount",
    "active",
    "tags",
    "address",
    "notes",
    "revision",
    "created_at",
    "updated_at",
]
"""The fields of every record, beside an account's own."""


def mix(seed: int, number: int, revision: int) -> int:
    """A number that looks random, and is the same for the same three."""
    value = (number * 0x9E3779B1 + revision * 0x85EBCA77 + seed * 0xC2B2AE3D) & 0xFFFFFFFF
    value ^= value >> 15
    value = (value * 0x2C1B3C6D) & 0xFFFFFFFF
    return value ^ (value >> 12)


def id_of(key: str, number: int) -> str:
    """The id of a record; ids sort as numbers do."""
    return f"{key}-{number:08d}"


def number_of(key: str, external_id: str) -> int | None:
    """The number in an id of this collection, None if it isn't one."""
    prefix, _, digits = external_id.rpartition("-")
    return int(digits) if prefix == key and digits.isdecimal() else None


def record_text(key: str, seed: int, number: int, revision: int, times: tuple[str, str]) -> str:
    """A record's JSON text, without what was set by hand; `times` are JSON: created, updated."""
    h = mix(seed, number, revision)
    first, last = _FIRST[number % 10], _LAST[h % 9]
    return (
        f'{{"id":"{key}-{number:08d}","name":"{first} {last}",'
        f'"email":"{first.lower()}.{number}@customer{h % 997}.example",'
        f'"phone":"+351 21 {h % 10_000_000:07d}","company":"Company {h % 5003} Limited",'
        f'"city":"{_CITIES[h % 7]}","stage":"{_STAGES[h % 5]}","score":{h % 100},'
        f'"amount":{h % 100_000}.{h % 89 + 10},"active":{"true" if h & 1 else "false"},'
        f'"tags":["t{h % 13}","t{h % 17}"],"address":{{"street":"{h % 200} Long Street",'
        f'"zip":"{h % 90_000 + 10_000}","country":"PT"}},"notes":{_NOTES[h & 3]},'
        f'"revision":{revision},"created_at":{times[0]},"updated_at":{times[1]}}}'
    )


def with_fields(text: str, fields: Mapping[str, Any]) -> str:
    """The record's text with these fields added or replaced."""
    if not fields:
        return text
    return json.dumps({**json.loads(text), **fields}, ensure_ascii=False, separators=(",", ":"))


def custom_field(account: str, index: int) -> str:
    """The name of one of an account's own fields."""
    return f"{account}_field_{index}"


def custom_values(account: str, count: int, number: int) -> str:
    """The account's own fields of a record, as JSON text to add to it."""
    return "".join(
        f',"{custom_field(account, index)}":"value {number * 7 + index}"' for index in range(count)
    )
