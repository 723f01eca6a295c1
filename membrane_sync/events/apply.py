"""Events take effect: records go into the lake, and on from there by the same verbs as always.

A connection's events are applied in bounded chunks, under its lease. What they say of one record is
brought down to one state (`events/newest.py`), which is committed with their marks
(`events/storing.py`); syncs of whose streams something came map and deliver it. Only then the
events are settled: after a crash in between they are applied again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from membrane_sync.errors import Fenced, LockTimeout, MembraneError, NotAuthorized, Retryable
from membrane_sync.events.storing import Stored, Storing
from membrane_sync.ports.events import Event
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.read import Parties
from membrane_sync.sync.run import deliver_records, map_records, new_report, run_sync


@dataclass
class Applied:
    """What became of a chunk of events: ids of those that took effect, and why others didn't.

    Those that no sync asks for are `ignored`. `missing` are those of records that the app told of
    and doesn't find yet. `rest` is what stands in the way of all events of the
    connection, as an app that's down: those that are named nowhere wait for it. `reports` are of
    all chunks so far, by the keys of the syncs that had something to do.
    """

    done: list[int] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    rest: MembraneError | None = None
    reports: dict[str, Report] = field(default_factory=dict)


class Applying:
    """Applies events of one connection, of which `parties` take part in a sync."""

    def __init__(
        self,
        syncs: Sequence[ResolvedSync],
        parties: Callable[[ResolvedSync], Parties],
        run_id: str,
    ) -> None:
        self.syncs = syncs
        self.parties = parties
        self.run_id = run_id
        self.reports: dict[str, Report] = {}
        self._storing: dict[str, Storing] = {}

    def apply(self, events: Sequence[Event]) -> Applied:
        """Let them take effect; raises Fenced and LockTimeout, and tells of all else."""
        return _Chunk(self, events).applied

    def storing(self, sync: ResolvedSync) -> Storing:
        """What brings events into the sync's stream."""
        if sync.stream not in self._storing:
            self._storing[sync.stream] = Storing(sync, self.parties(sync), self.run_id)
        return self._storing[sync.stream]


class _Chunk:
    """One chunk on its way: which events wait for which sync, and which syncs have to read."""

    def __init__(self, applying: Applying, events: Sequence[Event]) -> None:
        self.applied = Applied(reports=applying.reports)
        self._applying = applying
        self._waiting: dict[str, list[int]] = {}
        self._reading: set[str] = set()
        streams: dict[str, list[Event]] = {}
        for event in events:
            if event.kind == "record":
                streams.setdefault(event.name, []).append(event)
            else:
                self._trigger(event)
        for stream, told in streams.items():
            self._store(stream, told)
        self._carry_on()

    def _trigger(self, event: Event) -> None:
        asking = [sync for sync in self._applying.syncs if _is_triggered(sync, event)]
        if not asking:
            self.applied.ignored.append(event.id)
        self._wait(asking, [event.id], reads=True)

    def _store(self, stream: str, events: Sequence[Event]) -> None:
        syncs = [sync for sync in self._applying.syncs if sync.stream == stream]
        if not syncs:
            self.applied.ignored += [event.id for event in events]
            return
        report = self._report(syncs[0])
        for stored in _each(self._applying.storing(syncs[0]), events, report):
            self.applied.refused |= stored.refused
            self.applied.missing |= stored.missing
            self.applied.rest = self.applied.rest or stored.rest
            self._wait(syncs, stored.done)
            self._wait(syncs, stored.to_read, reads=True)

    def _wait(
        self, syncs: Sequence[ResolvedSync], events: Sequence[int], *, reads: bool = False
    ) -> None:
        for sync in syncs if events else ():
            self._waiting.setdefault(sync.sync.key, []).extend(events)
            if reads:
                self._reading.add(sync.sync.key)

    def _carry_on(self) -> None:
        """Read, map and deliver; an event has taken effect once all of its syncs are through."""
        unfinished: set[int] = set()
        for sync in self._applying.syncs:
            events = self._waiting.get(sync.sync.key)
            if not events:
                continue
            try:
                self._run(sync)
            except (Fenced, LockTimeout):
                raise
            except (Retryable, NotAuthorized) as error:
                self.applied.rest = self.applied.rest or error
                unfinished |= {*events}
            except MembraneError as error:
                reason = f"sync {sync.sync.key!r}: {error.message}"
                self.applied.refused |= dict.fromkeys(events, reason)
        everything = {event for events in self._waiting.values() for event in events}
        self.applied.done = sorted(everything - unfinished - self.applied.refused.keys())

    def _run(self, sync: ResolvedSync) -> None:
        report, parties = self._report(sync), self._applying.parties(sync)
        if sync.sync.key in self._reading:
            run_id = self._applying.run_id
            run_sync(sync, parties, run_id=run_id, report=report, look=False)
        else:
            map_records(sync, parties, report)
            deliver_records(sync, parties, report, look=False)

    def _report(self, sync: ResolvedSync) -> Report:
        reports = self.applied.reports
        if sync.sync.key not in reports:
            reports[sync.sync.key] = new_report(sync, self._applying.parties(sync))
        return reports[sync.sync.key]


def _is_triggered(sync: ResolvedSync, event: Event) -> bool:
    wanted = "internal_event" if event.kind == "internal" else "external_event"
    return any(getattr(trigger, wanted) == event.name for trigger in sync.sync.triggers)


def _each(storing: Storing, events: Sequence[Event], report: Report) -> list[Stored]:
    """Store them; if that fails, in halves, down to the event that it fails by."""
    try:
        return [storing.store(events, report)]
    except (Retryable, NotAuthorized) as error:
        if isinstance(error, Fenced | LockTimeout):
            raise
        return [Stored(rest=error)]
    except Exception as error:
        if len(events) == 1:
            # The messages of others quote values.
            told = error.message if isinstance(error, MembraneError) else type(error).__name__
            return [Stored(refused={events[0].id: told})]
        half = len(events) // 2
        halves = (events[:half], events[half:])
        return [stored for part in halves for stored in _each(storing, part, report)]
