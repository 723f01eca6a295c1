"""The answers of a reading that isn't finished, in a file beside the lake.

A process that is killed leaves it behind, and the next one reads on where that one ended. Nothing
waits for the disk: what a power failure takes is asked for again. Each line carries a checksum, and
what doesn't agree with its own, and all after it, counts as not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from membrane_sync.records import Answer


class FilePageLog:
    """Implements `ports.PageLog` in one file: a line of JSON for each answer, then its content."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._full = False

    def begun(self) -> dict[str, Any] | None:
        try:
            with self._path.open("rb") as file:
                return _read(file)[0]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def kept_at(self) -> datetime | None:
        try:
            return datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        except OSError:
            return None

    def answers(self, after: int = 0) -> Iterator[tuple[str, Answer]]:
        try:
            file = self._path.open("rb")
        except OSError:
            return
        with file:
            _pass_header(file)
            for _ in range(after):
                _pass(file)
            while (entry := _entry(file)) is not None:
                yield entry

    def begin(self, header: Mapping[str, Any], answers: Iterable[tuple[str, Answer]] = ()) -> None:
        self.close()
        unfinished = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.writelines(_written(header, b""))
                for call, answer in answers:
                    file.writelines(_answer(call, answer))
            unfinished.replace(self._path)
        except OSError:
            # The log only saves requests: a reading goes on without it, but never by an old one.
            self._full = True
            unfinished.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def keep(self, call: str, answer: Answer) -> None:
        if self._full:
            return
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            # Piece by piece: to put a page together first takes longer than to write it.
            pieces = _answer(call, answer)
            self._full = any(self._file.write(piece) != len(piece) for piece in pieces)
        except OSError:
            self._full = True

    def shorten(self, answers: int) -> None:
        """Keep only the first answers, and drop what a crash left half written."""
        self.close()
        try:
            with self._path.open("rb+") as file:
                _pass_header(file)
                for _ in range(answers):
                    if _entry(file) is None:
                        break
                file.truncate(file.tell())
        except OSError:
            return

    def clear(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _pass_header(file: BinaryIO) -> None:
    file.readline()
    file.readline()


def _pass(file: BinaryIO) -> None:
    """Go on to the next entry, without a look at this one's content."""
    try:
        file.seek(json.loads(file.readline().partition(b" ")[2])["bytes"] + 1, os.SEEK_CUR)
    except (ValueError, KeyError, TypeError):
        file.seek(0, os.SEEK_END)


def _answer(call: str, answer: Answer) -> tuple[bytes, ...]:
    entry = {
        "call": call,
        "status": answer.status,
        # Cookies are secrets, and no formula needs them.
        "headers": {n: v for n, v in answer.headers.items() if n != "set-cookie"},
        "url": answer.url,
        "plain": bool(answer.content),
        "skipped": answer.skipped,
    }
    return _written(entry, answer.content or json.dumps(answer.body).encode())


def _entry(file: BinaryIO) -> tuple[str, Answer] | None:
    """The next answer; None at the end, or where a crash cut one off: the file is left there."""
    start = file.tell()
    try:
        entry, content = _read(file)
        plain = entry["plain"]
        answer = Answer(
            entry["status"],
            entry["headers"],
            url=entry["url"],
            content=content if plain else b"",
            read=json.loads if plain else lambda _: json.loads(content),
            skipped=entry["skipped"],
        )
        return entry["call"], answer
    except (ValueError, KeyError, TypeError):
        file.seek(start)
        return None


def _written(entry: Mapping[str, Any], content: bytes) -> tuple[bytes, ...]:
    """A line with the content's length and the checksum of all, then the content."""
    line = json.dumps({**entry, "bytes": len(content)}).encode()
    return b"%016x %s\n" % (_checksum(line, content), line), content, b"\n"


def _read(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The next entry and its content; raises ValueError, KeyError or TypeError at half of one."""
    checksum, _, line = file.readline().rstrip(b"\n").partition(b" ")
    entry: Any = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("no entry")
    content = file.read(entry.pop("bytes"))
    if int(checksum, 16) != _checksum(line, content) or file.read(1) != b"\n":
        raise ValueError("not as it was written")
    return entry, content


def _checksum(line: bytes, content: bytes) -> int:
    summed = xxhash.xxh3_64(line)
    summed.update(content)
    return summed.intdigest()
