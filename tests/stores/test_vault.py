"""Secrets at rest: only the same key opens them, and only for the same owner."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from membrane_sync.errors import SecretError
from membrane_sync.stores.vault import AesVault, vault_key

SECRETS = {"password": "planted-secret", "nested": {"ü": [1, None]}}
VAULT = AesVault(b"the right key")


def test_what_was_sealed_can_be_opened() -> None:
    sealed = VAULT.seal(SECRETS, "acme")
    assert VAULT.open(sealed, "acme") == SECRETS
    assert "planted" not in sealed
    assert VAULT.seal(SECRETS, "acme") != sealed, "the same secrets don't look the same"


def test_another_key_or_owner_opens_nothing() -> None:
    sealed = VAULT.seal(SECRETS, "acme")
    for vault, owner in ((AesVault(b"the wrong key"), "acme"), (VAULT, "globex")):
        with pytest.raises(SecretError, match=f"credentials of '{owner}'") as caught:
            vault.open(sealed, owner)
        assert "planted" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("damage", ["", "v1", "v1:x:y", "v2:", "not base64"])
def test_a_damaged_text_opens_nothing(damage: str) -> None:
    with pytest.raises(SecretError):
        VAULT.open(damage, "acme")


@pytest.mark.parametrize("position", [3, 15, 40, -6])
def test_a_changed_letter_opens_nothing(position: int) -> None:
    sealed = list(VAULT.seal(SECRETS, "acme"))
    sealed[position] = "A" if sealed[position] != "A" else "B"
    with pytest.raises(SecretError):
        VAULT.open("".join(sealed), "acme")


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret.key"
    key = vault_key(None, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) >= 32
    assert vault_key(None, path) == key
    assert [found.name for found in path.parent.iterdir()] == ["secret.key"]


def test_many_may_make_the_key_file_at_once(tmp_path: Path) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        keys.append(vault_key(None, tmp_path / "secret.key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1


def test_the_setting_wins_over_the_file(tmp_path: Path) -> None:
    assert vault_key("x" * 16, tmp_path / "secret.key") == b"x" * 16
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="MEMBRANE_SECRET_KEY is shorter than 16"):
        vault_key("short-secret", tmp_path / "secret.key")
    (tmp_path / "secret.key").touch()
    with pytest.raises(SecretError, match=r"secret\.key holds no key"):
        vault_key(None, tmp_path / "secret.key")
