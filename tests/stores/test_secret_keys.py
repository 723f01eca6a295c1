"""Keys of the environment and of the key file, which is made once and changed as a whole."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from membrane_sync.errors import SecretError
from membrane_sync.stores.secret_keys import SecretKeys

GIVEN, OLD = "x" * 16, "y" * 20


def test_the_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret.key"
    (key,) = SecretKeys(path)()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) >= 32
    assert list(SecretKeys(path)()) == [key]
    assert [found.name for found in path.parent.iterdir()] == ["secret.key"]


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        found.extend(SecretKeys(tmp_path / "secret.key")())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_the_environment_needs_no_file(tmp_path: Path) -> None:
    keys = SecretKeys(tmp_path / "secret.key", GIVEN, [OLD])
    assert list(keys()) == [GIVEN.encode(), OLD.encode()]
    assert keys.from_environment
    assert not list(tmp_path.iterdir())


def test_keys_of_the_environment_come_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    in_file = list(SecretKeys(path)())
    assert list(SecretKeys(path, GIVEN)()) == [GIVEN.encode(), *in_file]
    # Without a newest one, old ones only open.
    assert list(SecretKeys(path, None, [OLD])()) == [*in_file, OLD.encode()]


def test_a_new_key_is_put_above_the_others_and_others_see_it(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    mine, others = SecretKeys(path), SecretKeys(path)
    (first,) = mine()
    assert list(others()) == [first]
    mine.add()
    second, then = others()
    assert then == first and second != first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    others.drop([first])
    assert list(mine()) == [second]


def test_two_that_add_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    (first,) = SecretKeys(path)()
    threads = [threading.Thread(target=SecretKeys(path).add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = list(SecretKeys(path)())
    assert len(set(keys)) == 5 and keys[-1] == first


def test_a_key_that_is_too_short_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with pytest.raises(SecretError, match="MEMBRANE_SECRET_KEY has a key of fewer") as caught:
        SecretKeys(path, "short-secret")
    assert "short-secret" not in str(caught.value)
    with pytest.raises(SecretError, match="MEMBRANE_SECRET_KEYS_OLD has a key of fewer"):
        SecretKeys(path, GIVEN, ["short-secret"])
    for content in ("", "\n\n", f"{GIVEN}\nshort-secret\n"):
        path.write_text(content)
        with pytest.raises(SecretError, match=r"secret\.key holds no key") as caught:
            SecretKeys(path)()
        assert "short-secret" not in str(caught.value)
