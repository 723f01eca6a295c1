"""The answers of a reading that isn't finished, in a file beside the lake.

A process that is killed leaves it behind, and the next one reads on where that one ended. Nothing
waits for the disk: what a power failure takes is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from membrane_sync.records import Answer


class FilePageLog:
    """Implements `ports.PageLog` in one file: a line of JSON for each answer, then its content."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def begun(self) -> dict[str, Any] | None:
        try:
            with self._path.open("rb") as file:
                header = json.loads(file.readline())
        except (OSError, ValueError):
            return None
        return header if isinstance(header, dict) else None

    def answers(self) -> Iterator[tuple[str, Answer]]:
        try:
            file = self._path.open("rb")
        except OSError:
            return
        with file:
            file.readline()
            while (entry := _entry(file)) is not None:
                yield entry

    def begin(self, header: Mapping[str, Any]) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f"{self._path.name}.new")
        unfinished.write_bytes(json.dumps(header).encode() + b"\n")
        unfinished.replace(self._path)

    def keep(self, call: str, answer: Answer) -> None:
        if self._file is None:
            self._file = self._path.open("ab")
        self._file.write(_written(call, answer))
        self._file.flush()

    def shorten(self, answers: int) -> None:
        """Keep only the first answers, and drop what a crash left half written."""
        self.close()
        try:
            with self._path.open("rb+") as file:
                file.readline()
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


def _written(call: str, answer: Answer) -> bytes:
    content = answer.content or json.dumps(answer.body).encode()
    entry = {
        "call": call,
        "status": answer.status,
        # Cookies are secrets, and no formula needs them.
        "headers": {n: v for n, v in answer.headers.items() if n != "set-cookie"},
        "url": answer.url,
        "plain": bool(answer.content),
        "skipped": answer.skipped,
        "bytes": len(content),
    }
    return json.dumps(entry).encode() + b"\n" + content + b"\n"


def _entry(file: BinaryIO) -> tuple[str, Answer] | None:
    """The next answer; None at the end, or where a crash cut one off: the file is left there."""
    start = file.tell()
    try:
        entry = json.loads(file.readline())
        content = file.read(entry["bytes"])
        if len(content) == entry["bytes"] and file.read(1) == b"\n":
            plain = content if entry["plain"] else b""
            read = json.loads if entry["plain"] else lambda _: json.loads(content)
            answer = Answer(
                entry["status"],
                entry["headers"],
                url=entry["url"],
                content=plain,
                read=read,
                skipped=entry["skipped"],
            )
            return entry["call"], answer
    except (ValueError, KeyError, TypeError):
        pass
    file.seek(start)
    return None
