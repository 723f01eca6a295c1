"""Secrets at rest: only a key that is at hand opens them, and only for the same owner."""

from __future__ import annotations

import pytest

from membrane_sync.errors import SecretError
from membrane_sync.stores.vault import AesVault, key_id

SECRETS = {"password": "planted-secret", "nested": {"ü": [1, None]}}
KEY, OTHER = b"the right key", b"another key"
VAULT = AesVault(KEY)


def test_what_was_sealed_can_be_opened() -> None:
    sealed = VAULT.seal(SECRETS, "acme")
    assert VAULT.open(sealed, "acme") == SECRETS
    assert "planted" not in sealed
    assert VAULT.seal(SECRETS, "acme") != sealed, "the same secrets don't look the same"


def test_another_owner_opens_nothing() -> None:
    with pytest.raises(
        SecretError, match="credentials of 'globex' .* another connection"
    ) as caught:
        VAULT.open(VAULT.seal(SECRETS, "acme"), "globex")
    assert "planted" not in str(caught.value) + repr(caught.value)


def test_a_key_that_is_not_at_hand_is_named() -> None:
    with pytest.raises(SecretError, match=f"sealed with key {key_id(KEY)}") as caught:
        AesVault(OTHER).open(VAULT.seal(SECRETS, "acme"), "acme")
    assert "MEMBRANE_SECRET_KEYS_OLD" in caught.value.hint
    assert KEY.decode() not in str(caught.value)


def test_the_newest_key_seals_and_older_ones_open() -> None:
    both = AesVault(lambda: [OTHER, KEY])
    old, new = VAULT.seal(SECRETS, "acme"), both.seal(SECRETS, "acme")
    assert both.open(old, "acme") == both.open(new, "acme") == SECRETS
    assert AesVault(OTHER).open(new, "acme") == SECRETS
    assert (both.key_of(old), both.key_of(new)) == (key_id(KEY), key_id(OTHER))
    assert (both.newest, list(both.known)) == (key_id(OTHER), [key_id(OTHER), key_id(KEY)])


@pytest.mark.parametrize("damage", ["", "v1", "v1:x:y", "v2:", "not base64", "v1:x:", "v1::AAAA"])
def test_a_damaged_text_opens_nothing(damage: str) -> None:
    with pytest.raises(SecretError, match="damaged|sealed with") as caught:
        VAULT.open(damage, "acme")
    assert "connect again" in caught.value.hint


def test_a_text_of_an_external_store_says_where_it_is() -> None:
    with pytest.raises(SecretError, match="external store") as caught:
        VAULT.open("store:0123", "acme")
    assert "MEMBRANE_VAULT" in caught.value.hint


@pytest.mark.parametrize("position", [0, 3, 15, 40, -6])
def test_a_changed_letter_opens_nothing(position: int) -> None:
    sealed = list(VAULT.seal(SECRETS, "acme"))
    sealed[position] = "A" if sealed[position] != "A" else "B"
    with pytest.raises(SecretError):
        VAULT.open("".join(sealed), "acme")
