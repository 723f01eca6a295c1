"""Where the vault's keys come from: the environment, and a file of which each line is a key."""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from membrane_sync.errors import SecretError
from membrane_sync.stores.file_lock import held

SHORTEST_KEY = 16
_LOCK_SECONDS = 30.0


class SecretKeys:
    """The keys at hand, the newest first; a file that another process changes is read again.

    Those of the environment come before those of the file. The file is made on first use, readable
    by its owner alone, unless the environment has a key. Raises SecretError for a key that's short.
    """

    def __init__(self, path: Path, newest: str | None = None, old: Sequence[str] = ()) -> None:
        self._path = path
        self._given = [_checked(newest, "MEMBRANE_SECRET_KEY")] if newest is not None else []
        self._old = [_checked(key, "MEMBRANE_SECRET_KEYS_OLD") for key in old]
        self._read: tuple[tuple[int, ...], list[bytes]] | None = None

    @property
    def from_environment(self) -> bool:
        """Whether the newest key is the environment's, so that a new one has to come from there."""
        return bool(self._given)

    def __call__(self) -> Sequence[bytes]:
        if self._given and not self._path.exists():
            return [*self._given, *self._old]
        in_file = self._in_file()
        return [*self._given, *self._old, *in_file] if self._given else [*in_file, *self._old]

    def add(self) -> None:
        """Make a new key, and put it above the others in the file."""
        with self._held():
            self._write([random.token_urlsafe(32).encode(), *self._in_file()])

    def drop(self, keys: Sequence[bytes]) -> None:
        """Take keys out of the file; what they have sealed can't be read any more."""
        with self._held():
            self._write([key for key in self._in_file() if key not in keys])

    def in_file(self) -> Sequence[bytes]:
        """The file's keys, the newest first; none where there's no file."""
        return self._in_file() if self._path.exists() else []

    def _held(self) -> AbstractContextManager[None]:
        return held(self._path.with_name(f"{self._path.name}.lock"), "keys", _LOCK_SECONDS)

    def _in_file(self) -> list[bytes]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            _make(self._path)
            stat = self._path.stat()
        version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if self._read is None or self._read[0] != version:
            self._read = (version, _keys_of(self._path))
        return self._read[1]

    def _write(self, keys: Sequence[bytes]) -> None:
        """Replace the file as a whole: whoever reads it sees the former keys or the new ones."""
        unfinished = _unfinished(self._path, b"\n".join(keys) + b"\n")
        unfinished.replace(self._path)
        self._read = None


def _keys_of(path: Path) -> list[bytes]:
    keys = [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
    if not keys or any(len(key) < SHORTEST_KEY for key in keys):
        raise SecretError(
            f"{path.name} holds no key of {SHORTEST_KEY} characters or more on each of its lines",
            hint="put the keys back that the credentials were stored with, the newest first",
        )
    return keys


def _checked(key: str, name: str) -> bytes:
    if len(key) < SHORTEST_KEY:
        raise SecretError(
            f"{name} has a key of fewer than {SHORTEST_KEY} characters",
            hint="make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return key.encode()


def _make(path: Path) -> None:
    """Make the file under another name first: whoever sees it must see all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(path, random.token_urlsafe(32).encode())
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass  # another process was first, and its key is the one
    finally:
        unfinished.unlink()


def _unfinished(path: Path, content: bytes) -> Path:
    made = path.with_name(f"{path.name}.{os.getpid()}.{random.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return made
