"""Two JSON texts of a record that say the same, and two that don't."""

from __future__ import annotations

import pytest

from membrane_sync.content import same_content


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":{"c":2,"d":3}}', '{"b": {"d": 3, "c": 2}, "a": 1}'),
        ('{"a":"é"}', '{"a":"\\u00e9"}'),
        ('{"a":1e2}', '{"a":100.0}'),
        ('{"a":1e400}', '{ "a": 1e400 }'),
        ('{"a":1,"seen":1}', '{"seen":2,"a":1}'),
    ],
)
def test_the_same_content_in_other_words(one: str, other: str) -> None:
    assert same_content(one, other, ["seen"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":true}'),
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1}', '{"a":null}'),
        ('{"a":1}', "{}"),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":123456789012345678901234567890}', '{"a":123456789012345678901234567891}'),
        ('{"b":{"seen":1}}', '{"b":{"seen":2}}'),
        ('{"a":1e400}', '{"a":-1e400}'),
    ],
)
def test_other_content(one: str, other: str) -> None:
    assert not same_content(one, other, ["seen"])
