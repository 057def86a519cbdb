"""What a partition remembers of its producers: enough to recognise a repeated batch, a missing one and an old producer.

For each producer id: its epoch, its last five batches, and where its open transaction began. The rules are Kafka's
(ProducerStateManager, ProducerAppendInfo): within an epoch a batch's first sequence follows the last one's; one of the last
five is a repetition and gets their answer; a new epoch begins at zero; an old one is refused. A transaction is open from its
first batch to its marker, and the last stable offset never passes the first open one.

The state is a function of the batches in the log: `.snapshot` files spare reading the log from its start.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum
from struct import Struct
from typing import NamedTuple

from .errors import CoordinatorFenced, InvalidProducerEpoch, InvalidTransactionState, OutOfOrderSequence
from .indexes import Aborted
from .records import Batch, Control, crc32c

BATCHES_KEPT = 5

_KEPT = Struct(">iqiq")
"""Last sequence, last offset, offset delta, timestamp."""
_SNAPSHOT_HEAD = Struct(">hIi")
_SNAPSHOT_ENTRY = Struct(">qhiqiqiq")
_SNAPSHOT_VERSION = 1


class Origin(Enum):
    """Who appends: a client's batches are checked whole; those of a coordinator or of another replica were."""

    CLIENT = "client"
    COORDINATOR = "coordinator"
    REPLICATION = "replication"


class Kept(NamedTuple):
    """What is remembered of a batch."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def first_sequence(self) -> int:
        return (self.last_sequence - self.offset_delta) & 0x7FFFFFFF

    @property
    def first_offset(self) -> int:
        return self.last_offset - self.offset_delta


class Producer:
    """One producer id in one partition; its batches are packed, since there may be many of them."""

    __slots__ = ("_batches", "coordinator_epoch", "epoch", "last_timestamp_ms")

    def __init__(self, epoch: int, coordinator_epoch: int = -1, last_timestamp_ms: int = -1) -> None:
        self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.last_timestamp_ms = last_timestamp_ms
        self._batches = b""

    @property
    def batches(self) -> list[Kept]:
        """The oldest first."""
        return [Kept(*fields) for fields in _KEPT.iter_unpack(self._batches)]

    @property
    def last(self) -> Kept | None:
        return Kept(*_KEPT.unpack_from(self._batches, len(self._batches) - _KEPT.size)) if self._batches else None

    @property
    def last_sequence(self) -> int:
        return _KEPT.unpack_from(self._batches, len(self._batches) - _KEPT.size)[0] if self._batches else -1

    def add(self, last_sequence: int, last_offset: int, offset_delta: int, timestamp_ms: int) -> None:
        packed = _KEPT.pack(last_sequence, last_offset, offset_delta, timestamp_ms)
        self._batches = self._batches[-(BATCHES_KEPT - 1) * _KEPT.size :] + packed
        self.last_timestamp_ms = timestamp_ms

    def renew(self, epoch: int) -> None:
        """Takes a new epoch, in which no batch has been seen."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._batches = b""

    def repeated(self, batch: Batch) -> Kept | None:
        """The remembered batch that this one repeats."""
        if not self._batches or batch.producer_epoch != self.epoch:
            return None
        last_sequence, delta = batch.last_sequence, batch.last_delta
        for kept in self.batches:
            if kept.last_sequence == last_sequence and kept.offset_delta == delta:
                return kept
        return None


class Producers:
    """All producers of a partition."""

    __slots__ = ("_ended", "by_id", "ongoing")

    def __init__(self) -> None:
        self.by_id: dict[int, Producer] = {}
        self.ongoing: dict[int, int] = {}
        """Producer id to the first offset of its open transaction, in the order of these offsets."""
        self._ended: deque[tuple[int, int]] = deque()
        """First offset and marker of transactions that have ended above the high watermark."""

    def check(self, batch: Batch, origin: Origin) -> Kept | None:
        """Whether this batch may come now; gives the one that it repeats, if it does.

        Raises `InvalidProducerEpoch`, `OutOfOrderSequence` or `InvalidTransactionState`.
        """
        known = self.by_id.get(batch.producer_id)
        if known is not None:
            if origin is Origin.CLIENT and (kept := known.repeated(batch)) is not None:
                return kept
            if batch.producer_epoch < known.epoch and origin is not Origin.REPLICATION:
                raise InvalidProducerEpoch(
                    f"producer {batch.producer_id} has epoch {known.epoch}, the batch {batch.producer_epoch}"
                )
            if origin is Origin.CLIENT:
                self._check_sequence(batch, known)
        if not batch.transactional and batch.producer_id in self.ongoing:
            raise InvalidTransactionState(f"producer {batch.producer_id} has an open transaction, the batch is outside")
        return None

    def _check_sequence(self, batch: Batch, known: Producer) -> None:
        first = batch.base_sequence
        if batch.producer_epoch != known.epoch:
            if first != 0:
                raise OutOfOrderSequence(f"producer {batch.producer_id} begins a new epoch at {first} and not at 0")
            return
        expected = (known.last_sequence + 1) & 0x7FFFFFFF
        if first != expected:
            raise OutOfOrderSequence(f"producer {batch.producer_id} sent {first}, {expected} is next")

    def append(self, batch: Batch, base_offset: int, timestamp_ms: int) -> None:
        """Remembers a batch that has been checked and has got its offset."""
        known = self.by_id.get(batch.producer_id)
        if known is None:
            known = self.by_id[batch.producer_id] = Producer(batch.producer_epoch)
        else:
            known.renew(batch.producer_epoch)
        known.add(batch.last_sequence, base_offset + batch.last_delta, batch.last_delta, timestamp_ms)
        if batch.transactional:
            self.ongoing.setdefault(batch.producer_id, base_offset)

    def check_marker(self, batch: Batch, coordinator_epoch: int, *, bumped: bool) -> None:
        """Whether this marker may end the producer's transaction. `bumped`: its epoch is above that of every batch it ends.

        Raises `InvalidProducerEpoch` or `CoordinatorFenced`.
        """
        known = self.by_id.get(batch.producer_id)
        if known is None:
            return
        if batch.producer_epoch < known.epoch or (bumped and batch.producer_epoch == known.epoch):
            raise InvalidProducerEpoch(
                f"producer {batch.producer_id} has epoch {known.epoch}, the marker is of an older one"
            )
        if coordinator_epoch < known.coordinator_epoch:
            raise CoordinatorFenced(f"a coordinator of epoch {known.coordinator_epoch} has written here")

    def end(
        self, batch: Batch, offset: int, control: Control, coordinator_epoch: int, timestamp_ms: int
    ) -> Aborted | None:
        """Ends the producer's transaction with the marker at `offset`; what the transaction index is to say, if aborted."""
        producer_id = batch.producer_id
        known = self.by_id.get(producer_id)
        if known is None:
            known = self.by_id[producer_id] = Producer(batch.producer_epoch)
        known.renew(batch.producer_epoch)
        known.coordinator_epoch = max(known.coordinator_epoch, coordinator_epoch)
        known.last_timestamp_ms = timestamp_ms
        first = self.ongoing.pop(producer_id, None)
        if first is None:
            return None
        self._ended.append((first, offset))
        if control is Control.COMMIT:
            return None
        return Aborted(producer_id, first, offset, next(iter(self.ongoing.values()), offset + 1))

    def advance(self, high_watermark: int) -> None:
        """Markers below the high watermark hold nothing back any more."""
        ended = self._ended
        while ended and ended[0][1] < high_watermark:
            ended.popleft()

    def first_unstable(self) -> int | None:
        """The first offset of a transaction that has not ended below the high watermark."""
        ongoing = next(iter(self.ongoing.values()), None)
        ended = min((first for first, _ in self._ended), default=None)
        if ongoing is None or ended is None:
            return ended if ongoing is None else ongoing
        return min(ongoing, ended)

    def expire(self, before_ms: int, producers_max: int) -> int:
        """Forgets producers silent since `before_ms`, and beyond the number the longest silent; gives how many.

        Those in a transaction stay: its end must find them.
        """
        silent = [
            id for id, known in self.by_id.items() if known.last_timestamp_ms < before_ms and id not in self.ongoing
        ]
        for id in silent:
            del self.by_id[id]
        excess = len(self.by_id) - producers_max
        if excess > 0:
            idle = (id for id in self.by_id if id not in self.ongoing)
            for id in sorted(idle, key=lambda id: self.by_id[id].last_timestamp_ms)[:excess]:
                del self.by_id[id]
                silent.append(id)
        return len(silent)

    def to_snapshot(self) -> bytes:
        """The bytes of a `.snapshot` file."""
        entries = []
        for id, known in self.by_id.items():
            last = known.last
            entries.append(
                _SNAPSHOT_ENTRY.pack(
                    id,
                    known.epoch,
                    last.last_sequence if last else -1,
                    last.last_offset if last else -1,
                    last.offset_delta if last else 0,
                    known.last_timestamp_ms,
                    known.coordinator_epoch,
                    self.ongoing.get(id, -1),
                )
            )
        body = len(entries).to_bytes(4, "big") + b"".join(entries)
        return _SNAPSHOT_VERSION.to_bytes(2, "big") + crc32c(body).to_bytes(4, "big") + body

    @classmethod
    def from_snapshot(cls, data: bytes) -> "Producers":
        """Raises `ValueError` for what is no snapshot, or a damaged one."""
        if len(data) < _SNAPSHOT_HEAD.size:
            raise ValueError("too short for a producer snapshot")
        version, crc, count = _SNAPSHOT_HEAD.unpack_from(data)
        if version != _SNAPSHOT_VERSION or crc != crc32c(data[6:]):
            raise ValueError("not a producer snapshot, or a damaged one")
        if len(data) != _SNAPSHOT_HEAD.size + count * _SNAPSHOT_ENTRY.size:
            raise ValueError("a producer snapshot of another length than it says")
        self = cls()
        open_since = []
        for entry in _SNAPSHOT_ENTRY.iter_unpack(data[_SNAPSHOT_HEAD.size :]):
            id, epoch, last_sequence, last_offset, delta, timestamp_ms, coordinator_epoch, first = entry
            known = self.by_id[id] = Producer(epoch, coordinator_epoch, timestamp_ms)
            if last_offset >= 0:
                known.add(last_sequence, last_offset, delta, timestamp_ms)
            if first >= 0:
                open_since.append((first, id))
        self.ongoing = {id: first for first, id in sorted(open_since)}
        return self

    def kept(self) -> list[tuple[int, list[tuple[int, ...]]]]:
        """All remembered batches, which a snapshot has no room for."""
        return [(id, [tuple(kept) for kept in known.batches]) for id, known in self.by_id.items()]

    def keep(self, kept: Iterable[tuple[int, Iterable[tuple[int, int, int, int]]]]) -> None:
        """Takes back what `kept` gave."""
        for id, batches in kept:
            known = self.by_id.get(id)
            if known is not None:
                last_timestamp_ms = known.last_timestamp_ms
                known._batches = b"".join(_KEPT.pack(*batch) for batch in batches)
                known.last_timestamp_ms = last_timestamp_ms
