"""A reading of many lists, one below each parent, that was cut off goes on at the list it was in.

As in `sync/resume.py`, each answer is kept before the next one is asked for. Here the log has a
section for each list. What is begun again is known by its name: the parent, the change of it that
is read after, and the cursor it began with. A list whose section is kept is fed with it first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from membrane_sync.ports import Api, PageLog
from membrane_sync.records import Answer, Call, Parent
from membrane_sync.sync.resume import REBASE_BYTES, Beginning, call_name, fingerprint


@dataclass
class _Section:
    """The answers of one list in the log; `marked_at` the page with which the lake knows of it."""

    answers: int = 0
    bytes: int = 0
    marked_at: int | None = None


class Visits:
    """The lists below parents in the order in which they're read, and the log of their answers."""

    def __init__(
        self, log: PageLog, beginning: Beginning, api: Api, *, resumed: bool = False
    ) -> None:
        self.resumed = resumed
        self.beginning = beginning
        self.api = api
        self.page = 0
        """How many pages of all lists were read by this process."""
        self.committed = 0
        """How many of them the lake has; another thread may set it."""
        self._log = log
        self._begun = resumed
        self._unkept: tuple[str, Call, Answer] | None = None
        self._sections: dict[str, _Section] = {}
        self._bytes, self._limit = 0, REBASE_BYTES
        if resumed:
            for name, answer in log.answers():
                self._count(name.partition(" ")[0], answer)
            log.shorten(sum(section.answers for section in self._sections.values()))

    def lists(self, parents: Collection[Parent]) -> Iterator[Visit]:
        """One visit for each parent: first those that have answers in the log, in its order."""
        kept = {name: section.answers for name, section in self._sections.items()}
        if kept:
            yield from self._begun_lists(parents, kept)
        for parent in parents:
            visit = Visit(self, parent)
            if visit.name not in kept:
                self._rebase()
                yield visit

    def has(self, name: str) -> bool:
        """Whether answers of this list are kept."""
        return name in self._sections

    def send(self, visit: Visit, call: Call) -> Answer:
        """Ask the app, after the answer before this one is kept."""
        if not self._begun:
            # Even with no answer yet: that the parents were brought needn't be done again.
            self._log.begin(self.beginning.written())
            self._begun = True
        self._keep_last()
        answer = self.api.send(call)
        if not visit.astray:
            self._unkept = (visit.name, call, answer)
        return answer

    def marked(self, name: str) -> None:
        """How far this list was read goes to the lake with the page that was read last."""
        if name in self._sections:
            self._sections[name].marked_at = self.page

    def commit(self, pages: int) -> None:
        """So many pages are in the lake."""
        self.committed = max(self.committed, pages)

    def end(self) -> None:
        """Nothing is left to go on with."""
        self._unkept = None
        if self._begun:
            self._log.clear()
            self._begun = False

    def _begun_lists(self, parents: Collection[Parent], kept: dict[str, int]) -> Iterator[Visit]:
        visits = (Visit(self, parent) for parent in parents)
        found = {visit.name: visit for visit in visits if visit.name in kept}
        answers = self._log.answers()
        for name, count in kept.items():
            mine = islice(answers, count)
            if name in found:
                found[name].feed(mine)
                yield found[name]
            for _ in mine:  # what is left would be taken for another's
                pass

    def _keep_last(self) -> None:
        if self._unkept is None:
            return
        (name, call, answer), self._unkept = self._unkept, None
        self._log.keep(f"{name} {call_name(call)}", answer)
        self._count(name, answer)

    def _count(self, name: str, answer: Answer) -> None:
        section = self._sections.setdefault(name, _Section())
        section.answers += 1
        section.bytes += len(answer.content)
        self._bytes += len(answer.content)

    def _rebase(self) -> None:
        """Begin a long log again without the lists that the lake knows to be read."""
        if self._bytes < self._limit:
            return
        committed, over = self.committed, []
        for name, section in self._sections.items():
            if section.marked_at is None or section.marked_at > committed:
                break
            over.append(name)
        gone = [self._sections.pop(name) for name in over]
        self._bytes -= sum(section.bytes for section in gone)
        dropped = sum(section.answers for section in gone)
        kept = list(islice(self._log.answers(), dropped, None))
        self._log.begin(self.beginning.written())
        for call, answer in kept:
            self._log.keep(call, answer)
        self._limit = max(REBASE_BYTES, 2 * self._bytes)


class Visit:
    """One parent's list, which answers calls from the log first, and then asks the app."""

    def __init__(self, visits: Visits, parent: Parent) -> None:
        partition = parent.partition
        self.parent = parent
        self.pages = 0
        """How many of its pages were read."""
        self.astray = False
        """The list asks for something else than when its answers were kept: they say nothing."""
        self.cursor: Any = partition.cursor if partition else None
        self._visits = visits
        self._kept: Iterator[tuple[str, Answer]] = iter(())
        self._was_kept = False
        self._committed = 0
        self.name = fingerprint(parent.id, parent.seq, self.cursor)
        if partition and partition.reading == visits.beginning.name and not partition.done:
            begun = fingerprint(parent.id, parent.seq, partition.began)
            if visits.has(begun):
                self.name, self.cursor = begun, partition.began
                self._committed = partition.pages

    def feed(self, answers: Iterator[tuple[str, Answer]]) -> None:
        """Give it the answers that were kept of it."""
        self._kept = answers

    @property
    def is_stored(self) -> bool:
        """Whether the lake has the page that was read last."""
        return self._was_kept and self.pages <= self._committed

    def send(self, call: Call) -> Answer:
        """The next page's answer, which was kept or is asked for."""
        self.pages += 1
        self._visits.page += 1
        kept = None if self.astray else next(self._kept, None)
        self._was_kept = kept is not None and kept[0] == f"{self.name} {call_name(call)}"
        if kept is not None and self._was_kept:
            return kept[1]
        self.astray = self.astray or kept is not None
        return self._visits.send(self, call)
