"""What the lake in memory knows of lists below parents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from membrane_sync.records import Batch, Level, Parent, Partition

Records = Mapping[str, Mapping[str, str]]
"""The payloads of the records that aren't deleted, by stream and id."""


class Below:
    """Whose children records are, and how far the lists of their parents were read."""

    def __init__(self) -> None:
        self.parent_of: dict[str, dict[str, str]] = {}
        self.partitions: dict[str, dict[str, Partition]] = {}

    def keep(self, batch: Batch) -> int:
        """Take what a batch says of it; gives how many lists that were."""
        if batch.parents:
            ids = [record.external_id for record in batch.records]
            above = dict(zip(ids, batch.parents, strict=True))
            self.parent_of.setdefault(batch.stream, {}).update(above)
        known = self.partitions.setdefault(batch.stream + batch.part, {})
        known.update({partition.parent: partition for partition in batch.partitions})
        return len(batch.partitions)

    def parents(
        self,
        stream: str,
        above: Sequence[Level],
        records: Records,
        changed: Mapping[str, int] | None,
        reading: str,
    ) -> Collection[Parent]:
        """As `ports.Lake.parents`; of those that `changed`, with their latest change."""
        known = self.partitions.get(stream, {})
        found: list[Parent] = []
        for id in sorted(records[above[0].stream]):
            partition = known.get(id)
            seq = 0
            if changed is None:
                wanted = not (partition and partition.done and partition.reading == reading)
            else:
                seq = changed.get(id, -1)
                undone = partition is not None and not partition.done
                wanted = undone or (seq >= 0 and (partition is None or seq > partition.seq))
            if wanted:
                found.append(Parent(id, self._line(id, above, records), partition, max(seq, 0)))
        return found

    def orphans(
        self, stream: str, gone: Collection[str] | None, alive: Collection[str]
    ) -> set[str]:
        """The children of parents that aren't alive, of those `gone`, or of all if that's None."""
        children = self.parent_of.get(stream, {}).items()
        return {
            child
            for child, parent in children
            if parent not in alive and (gone is None or parent in gone)
        }

    def forget(self, stream: str, alive: Collection[str]) -> None:
        """Forget how far the lists of parents that aren't alive were read."""
        known = self.partitions.get(stream, {})
        self.partitions[stream] = {id: known[id] for id in known if id in alive}

    def _line(self, id: str, above: Sequence[Level], records: Records) -> tuple[str, ...]:
        found: list[str] = []
        for level in above:
            found.append(records[level.stream].get(id, "{}"))
            id = self.parent_of.get(level.stream, {}).get(id, "")
        return tuple(found)
