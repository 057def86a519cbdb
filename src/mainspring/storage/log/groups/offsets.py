"""How far every group has come: committed positions, those of open transactions, and when they may be forgotten.

A position that is part of a transaction waits beside the committed one until its producer's marker says which way it went; a
reader that must not see what may still change is told that it is unstable. The keys are (group, topic, partition), as in the
records of `__consumer_offsets`.
"""

from collections.abc import Callable, Iterable, Iterator

from mainspring.storage.log.groups.messages import Offset, TopicPartition
from mainspring.storage.log.groups.turn import Turn
from mainspring.storage.log.record_schemas import OFFSET_COMMIT, ZERO_UUID, Record

POSITION_BYTES = 400
"""What one takes beside its metadata, with its places in the maps."""


def weight(offset: Offset) -> int:
    return POSITION_BYTES + len(offset.metadata)


class Offsets:
    """The positions of one or all groups."""

    def __init__(self) -> None:
        self._committed: dict[str, dict[TopicPartition, tuple[int, Offset]]] = {}
        self._pending: dict[int, dict[tuple[str, TopicPartition], tuple[int, Offset]]] = {}
        # The order of the records: a transaction's position does not undo one that was committed after it was written.
        self._written = 0
        self._unstable: dict[tuple[str, TopicPartition], set[int]] = {}
        self.held_bytes = 0
        """About what all of them take."""

    def groups(self) -> list[str]:
        """Those with a committed position."""
        return list(self._committed)

    def positions(self) -> Iterator[tuple[str, TopicPartition, Offset]]:
        """Every committed position."""
        for group, held in self._committed.items():
            for partition, (_, offset) in held.items():
                yield group, partition, offset

    def count(self) -> int:
        return sum(map(len, self._committed.values()))

    def of(self, group: str) -> dict[TopicPartition, Offset]:
        return {partition: offset for partition, (_, offset) in self._committed.get(group, {}).items()}

    def get(self, group: str, partition: TopicPartition) -> Offset | None:
        found = self._committed.get(group, {}).get(partition)
        return None if found is None else found[1]

    def holds(self, group: str, partition: TopicPartition, producer_id: int) -> bool:
        """Whether there is one already, of the group or of the producer's transaction."""
        if producer_id >= 0:
            return (group, partition) in self._pending.get(producer_id, {})
        return partition in self._committed.get(group, {})

    def unstable(self, group: str, partition: TopicPartition) -> bool:
        """Whether an open transaction has a position of this partition."""
        return (group, partition) in self._unstable

    def unstable_partitions(self, group: str) -> list[TopicPartition]:
        return [partition for one, partition in self._unstable if one == group]

    def commit(self, group: str, partition: TopicPartition, offset: Offset, turn: Turn) -> None:
        self._settle(group, partition, offset)
        self._write(group, partition, offset, turn)

    def commit_pending(
        self, producer_id: int, group: str, partition: TopicPartition, offset: Offset, turn: Turn
    ) -> None:
        """As part of a transaction: counts when `end` says that it committed."""
        self._hold(producer_id, group, partition, offset)
        self._write(group, partition, offset, turn)

    def end(self, producer_id: int, groups: Callable[[str], bool], commit: bool) -> set[str]:
        """A producer's marker was written to the partition of the internal topic that holds `groups`; writes nothing.

        Gives the groups whose positions it was about.
        """
        held = self._pending.get(producer_id, {})
        touched = {group for group, _ in held if groups(group)}
        for group, partition in [key for key in held if groups(key[0])]:
            order, offset = held.pop((group, partition))
            self.held_bytes -= weight(offset)
            waiting = self._unstable[group, partition]
            waiting.discard(producer_id)
            if not waiting:
                del self._unstable[group, partition]
            settled = self._committed.get(group, {}).get(partition)
            if commit and (settled is None or settled[0] < order):
                self._put(group, partition, order, offset)
        if not held:
            self._pending.pop(producer_id, None)
        return touched

    def delete(self, group: str, partitions: Iterable[TopicPartition], turn: Turn) -> int:
        """Gives how many positions there were."""
        gone = [partition for partition in partitions if self._drop(group, partition)]
        for topic, number in gone:
            turn.write(OFFSET_COMMIT, (group, topic, number), None)
        return len(gone)

    def forget(self, groups: Callable[[str], bool]) -> None:
        """Drops what is held of `groups`, to read it anew."""
        for group in [one for one in self._committed if groups(one)]:
            self.held_bytes -= sum(weight(offset) for _, offset in self._committed.pop(group).values())
        for producer_id in list(self._pending):
            self.end(producer_id, groups, commit=False)

    def expired(
        self, group: str, before_ms: int, keeps: Callable[[str], bool], since_ms: int = -1
    ) -> Iterator[TopicPartition]:
        """Positions committed before `before_ms` whose topic nobody reads; `since_ms`: at least since then nobody does."""
        if since_ms >= before_ms:
            return
        for partition, (_, offset) in self._committed.get(group, {}).items():
            if offset.committed_at_ms < before_ms and not keeps(partition[0]) and not self.unstable(group, partition):
                yield partition

    def replay(self, record: Record, producer_id: int) -> None:
        """`producer_id` at least 0: the record belongs to that producer's transaction."""
        group, topic, number = record.key
        partition = (topic, number)
        value = record.value
        if value is None:
            self._drop(group, partition)
            return
        topic_id = value["topic_id"]
        offset = Offset(
            value["offset"],
            value["leader_epoch"],
            value["metadata"],
            value["commit_timestamp"],
            None if topic_id == ZERO_UUID else topic_id,
        )
        if producer_id >= 0:
            self._hold(producer_id, group, partition, offset)
        else:
            self._settle(group, partition, offset)

    def _settle(self, group: str, partition: TopicPartition, offset: Offset) -> None:
        self._written += 1
        self._put(group, partition, self._written, offset)

    def _put(self, group: str, partition: TopicPartition, order: int, offset: Offset) -> None:
        held = self._committed.setdefault(group, {})
        before = held.get(partition)
        self.held_bytes += weight(offset) - (weight(before[1]) if before is not None else 0)
        held[partition] = (order, offset)

    def _drop(self, group: str, partition: TopicPartition) -> bool:
        """Gives whether there was one."""
        held = self._committed.get(group, {})
        before = held.pop(partition, None)
        if not held:
            self._committed.pop(group, None)
        if before is not None:
            self.held_bytes -= weight(before[1])
        return before is not None

    def _hold(self, producer_id: int, group: str, partition: TopicPartition, offset: Offset) -> None:
        self._written += 1
        held = self._pending.setdefault(producer_id, {})
        before = held.get((group, partition))
        self.held_bytes += weight(offset) - (weight(before[1]) if before is not None else 0)
        held[group, partition] = (self._written, offset)
        self._unstable.setdefault((group, partition), set()).add(producer_id)

    @staticmethod
    def _write(group: str, partition: TopicPartition, offset: Offset, turn: Turn) -> None:
        turn.write(
            OFFSET_COMMIT,
            (group, *partition),
            {
                "offset": offset.offset,
                "leader_epoch": offset.leader_epoch,
                "metadata": offset.metadata,
                "commit_timestamp": offset.committed_at_ms,
                "topic_id": offset.topic_id or ZERO_UUID,
            },
        )
