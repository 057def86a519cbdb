"""A partition: batches in order, from the log start to the end, as its producers and consumers see it.

The event loop owns this object. An append checks a batch, gives it its offsets and its place in the active segment, and hands
the bytes to the directory's writer; all of that at once, so that the order of calls is the order of offsets. Readers see what
is below the high watermark: what the writer has made durable (under `flush.policy=async`, what it has written).

No record is read here but where the topic is compacted (null keys are refused) or recompresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from . import reading
from .checkpoints import FIRST_EPOCHS, Epochs, first_files
from .checks import check
from .errors import InvalidRecord, LogError, Overloaded
from .files import OpenFiles
from .model import Appending, Fetched, call
from .newest import Tails
from .producers import Kept, Origin, Producer, Producers
from .records import OVERHEAD_BYTES, Batch, build, marker_in, parse, placed, records_in, stamped
from .segments import SNAPSHOT, Segment
from .settings import LogSettings

if TYPE_CHECKING:
    from mainspring.core.clock import Clock

    from .threads import InlineWriter, ThreadedWriter
    from .topics import Topic

RELATIVE_OFFSET_MAX = (1 << 31) - 1
INDEXES_BYTES_MAX = 4 << 20
"""Of the indexes of closed segments: those of eighteen segments of 64 MiB."""


class Surroundings:
    """What all partitions of an engine share."""

    __slots__ = ("clock", "delete_records", "indexes", "opened", "settings", "tails")
    delete_records: Callable[[Partition, int], Awaitable[int]]

    def __init__(self, clock: Clock, settings: LogSettings, opened: OpenFiles) -> None:
        self.clock = clock
        self.settings = settings
        self.opened = opened
        """Files for reading, on the loop."""
        self.tails = Tails(settings.cache_bytes_max, settings.cache_partition_bytes_max)
        self.indexes = reading.Indexes(INDEXES_BYTES_MAX)


class Partition:
    """`log_start` ≤ `last_stable` ≤ `high_watermark` ≤ `end`; all are offsets, `end` the next to be given."""

    __slots__ = (
        "_listeners",
        "around",
        "end",
        "epochs",
        "failure",
        "folder",
        "high_watermark",
        "index",
        "leader_epoch",
        "log_start",
        "producer_states",
        "segments",
        "topic",
        "write_error",
        "writer",
    )

    def __init__(
        self, topic: Topic, index: int, folder: str, around: Surroundings, writer: ThreadedWriter | InlineWriter
    ) -> None:
        self.topic = topic
        self.index = index
        self.folder = folder
        self.around = around
        self.writer = writer
        self.leader_epoch = 0
        self.epochs: Epochs = FIRST_EPOCHS
        """(epoch, its first offset), rising."""
        self.log_start = self.end = self.high_watermark = 0
        self.segments: list[Segment] = []
        self.producer_states: Producers | None = None
        self.failure: LogError | None = None
        """Why it takes no appends."""
        self.write_error: LogError | None = None
        """The writer's: set there when a write fails, cleared there when the files are as they should be."""
        self._listeners: list[Callable[[], None]] | None = None

    @property
    def name(self) -> str:
        """As Kafka names the folder."""
        return f"{self.topic.name}-{self.index}"

    @property
    def last_stable(self) -> int:
        """No transaction that is open, or whose end is not durable, has a record below."""
        states = self.producer_states
        if states is None or (first := states.first_unstable()) is None:
            return self.high_watermark
        return min(first, self.high_watermark)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def producers(self) -> Mapping[int, Producer]:
        """By producer id, for those who describe them."""
        return self.producer_states.by_id if self.producer_states is not None else {}

    @property
    def open_transactions(self) -> Mapping[int, int]:
        """Producer id to the first offset of its open transaction."""
        return self.producer_states.ongoing if self.producer_states is not None else {}

    # Appends

    def append(
        self,
        batch: bytes | bytearray | memoryview,
        *,
        acks: int = -1,
        coordinator_epoch: int = -1,
        origin: Origin = Origin.CLIENT,
        bumped_epoch: bool = False,
    ) -> Appending:
        """Appends whole batches as a producer sent them, all or none; their offsets are given when this returns.

        A repetition of one of its producer's last five batches gets the first answer. A control batch ends its producer's
        transaction, by the coordinator of `coordinator_epoch`; `bumped_epoch` says that its epoch must be above the producer's.

        Raises `CorruptBatch`, `InvalidRecord`, `InvalidTimestamp`, `MessageTooLarge`, `UnsupportedCompression`,
        `OutOfOrderSequence`, `InvalidProducerEpoch`, `InvalidTransactionState`, `CoordinatorFenced`, `StorageFailed`,
        `Overloaded` or `NotOpen`, having changed nothing.
        """
        if self.failure is not None:
            raise self.failure
        writer = self.writer
        size = len(batch)
        if writer.queued_bytes + size > self.around.settings.queue_bytes_max:
            raise Overloaded(f"{writer.queued_bytes} bytes wait for the disk")
        now_ms = self.around.clock.wall_ns() // 1_000_000
        header = parse(batch)
        if header.length + OVERHEAD_BYTES != size:
            return self._append_several(batch, acks, origin, now_ms)
        check(self.topic.config, batch, 0, header, origin, now_ms)
        if header.producer_id >= 0:
            states = self.producer_states
            if header.control:
                return self._append_marker(batch, header, acks, coordinator_epoch, bumped_epoch, now_ms)
            if states is None:
                states = self.producer_states = Producers()
            if (kept := states.check(header, origin)) is not None:
                return self._repeated(kept, acks)
        appending = self._put(batch, 0, header, acks, now_ms)
        if header.producer_id >= 0:
            assert states is not None
            states.append(header, appending.base_offset, now_ms)
        return appending

    def _append_several(
        self, data: bytes | bytearray | memoryview, acks: int, origin: Origin, now_ms: int
    ) -> Appending:
        """Several batches as one append: for producers without ids, whose batches cannot be refused one by one."""
        found: list[tuple[int, Batch]] = []
        at = 0
        while at < len(data):
            try:
                header = parse(data, at)
                check(self.topic.config, data, at, header, origin, now_ms)
                if header.producer_id >= 0 and origin is not Origin.REPLICATION:
                    raise InvalidRecord("an idempotent producer appends one batch at a time")
            except LogError as error:
                error.batch_index = len(found)
                raise
            found.append((at, header))
            at += header.size_bytes
        first = last = self._put(data, *found[0], acks, now_ms)
        for at, header in found[1:]:
            last = self._put(data, at, header, acks, now_ms)
        whole = Appending(self, first.base_offset, last.next_offset, acks, first.log_append_time_ms)
        last.when_durable(lambda: whole.settle(last.error))
        return whole

    def _put(self, data: bytes | bytearray | memoryview, at: int, batch: Batch, acks: int, now_ms: int) -> Appending:
        """Gives the batch its place and hands it to the writer."""
        config = self.topic.config
        stamp_ms = -1
        if config.stamps or config.codec is not None:
            data, at = self._reworked(memoryview(data)[at : at + batch.size_bytes], batch, now_ms), 0
            batch = parse(data)
            if config.stamps:
                stamp_ms = now_ms
        size, max_timestamp = batch.length + OVERHEAD_BYTES, batch.max_timestamp
        base_offset = self.end
        stored = placed(data, at, batch, base_offset, self.leader_epoch)
        segment = self._active(size, batch.last_delta, max_timestamp)
        position = segment.add(batch, base_offset, size, max_timestamp, config.index_interval_bytes)
        self.end = next_offset = base_offset + batch.last_delta + 1
        self.around.tails.add(self, base_offset, stored)
        appending = Appending(
            self, base_offset, next_offset, acks, stamp_ms, data=stored, segment=segment, position=position
        )
        self.writer.queued_bytes += size
        self.writer.put(appending)
        return appending

    def _reworked(self, data: memoryview, batch: Batch, now_ms: int) -> bytes:
        """The batch with the topic's own codec and clock, where it has them."""
        config, whole = self.topic.config, bytes(data)
        if config.codec is not None and config.codec is not batch.codec and not batch.control:
            records = [(read.timestamp_ms, read.key, read.value, read.headers) for read in records_in(whole)]
            whole = build(
                records,
                producer_id=batch.producer_id,
                epoch=batch.producer_epoch,
                sequence=batch.base_sequence,
                transactional=batch.transactional,
                codec=config.codec,
                level=config.codec_level,
            )
        return stamped(whole, now_ms) if config.stamps else whole

    def _append_marker(
        self,
        data: bytes | bytearray | memoryview,
        batch: Batch,
        acks: int,
        coordinator_epoch: int,
        bumped_epoch: bool,
        now_ms: int,
    ) -> Appending:
        says = marker_in(data, 0, batch)
        if says is None:
            return self._put(data, 0, batch, acks, now_ms)
        control, epoch = says
        if self.producer_states is None:
            self.producer_states = Producers()
        states = self.producer_states
        states.check_marker(batch, max(epoch, coordinator_epoch), bumped=bumped_epoch)
        appending = self._put(data, 0, batch, acks, now_ms)
        offset = appending.base_offset
        aborted = states.end(batch, offset, control, max(epoch, coordinator_epoch), now_ms)
        if aborted is not None:
            active = self.segments[-1]
            assert active.aborted is not None
            active.aborted.append(aborted)
        return appending

    def _repeated(self, kept: Kept, acks: int) -> Appending:
        """The answer that the batch's first sending got, as durable as that one is."""
        appending = Appending(self, kept.first_offset, kept.last_offset + 1, acks)
        appending.repeated = True
        if self.topic.config.stamps:
            appending.log_append_time_ms = kept.timestamp_ms
        if kept.last_offset < self.high_watermark:
            appending.settle()
            return appending

        def progressed() -> None:
            if self.failure is not None or kept.last_offset < self.high_watermark:
                end()
                appending.settle(self.failure)

        end = self.on_progress(progressed)
        return appending

    # Segments

    def _active(self, size: int, last_delta: int, max_timestamp: int) -> Segment:
        """The segment that takes a batch of `size` bytes, a new one where the last is full or old."""
        if not self.segments:
            self.segments.append(Segment.fresh(self.folder, self.end))
        active = self.segments[-1]
        self._load(active)
        config = self.topic.config
        if active.size and (
            active.size + size > config.segment_bytes
            or self.end + last_delta - active.base > RELATIVE_OFFSET_MAX
            or (active.first_timestamp >= 0 and max_timestamp - active.first_timestamp > config.segment_ms)
        ):
            active = self.roll()
        return active

    def roll(self) -> Segment:
        """Closes the active segment and begins the next at the end."""
        closed = self.segments[-1]
        self._load(closed)
        left = closed.index_files()
        if len(self.segments) == 1:
            left += first_files(self.folder, self.topic.id, self.epochs)
        aborted = closed.aborted
        if self.producer_states is not None:
            left.append((f"{self.folder}/{self.end:020}{SNAPSHOT}", self.producer_states.to_snapshot()))
        if closed.index is not None and closed.times is not None:
            # For who reads on before the files are there.
            self.around.indexes.keep(closed, (closed.index, closed.times))
        closed.drop_indexes()
        closed.aborted = aborted
        self.writer.tell(self.writer.write_index_files, self, left)
        active = Segment.fresh(self.folder, self.end)
        self.segments.append(active)
        return active

    def _load(self, segment: Segment) -> None:
        """Makes sure that the indexes can grow."""
        if segment.index is None:
            reading.indexes(self, segment)
            segment.load(self.around.opened.files)

    # What the writer says

    def advance(self, end: int) -> None:
        """Everything below `end` is durable."""
        self.high_watermark = end
        if self.producer_states is not None:
            self.producer_states.advance(end)
        self.notify()

    def fail(self, error: LogError) -> None:
        """Takes no appends from now on; what is below the high watermark can be read."""
        if self.failure is None:
            self.failure = error
            self.around.tails.drop(self)
            self.notify()

    def end_with(self, error: LogError) -> None:
        """As `fail`, for good and whatever came before."""
        self.failure = None
        self.fail(error)

    def notify(self) -> None:
        for callback in tuple(self._listeners or ()):
            call(callback)

    def on_progress(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` on the loop whenever the high watermark or the last stable offset may have moved, or the
        partition failed or was deleted; gives what ends it."""
        if self._listeners is None:
            self._listeners = []
        listeners = self._listeners
        listeners.append(callback)

        def end() -> None:
            if callback in listeners:
                listeners.remove(callback)

        return end

    # Reads

    def read(self, offset: int, bytes_max: int, *, committed: bool = False, at_least_one: bool = True) -> Fetched:
        """Whole batches from the one that holds `offset`, up to the high watermark (`committed`: the last stable offset).

        The first batch comes whatever its size, unless not `at_least_one`. Raises `OffsetOutOfRange`.
        """
        return reading.read(self, offset, bytes_max, committed=committed, at_least_one=at_least_one)

    def cold(self, offset: int, bytes_max: int) -> reading.Piece | None:
        """Bytes of a file that a read would wait for while everybody else does; None where it would not."""
        return reading.cold(self, offset, bytes_max)

    async def warm(self, offset: int, bytes_max: int) -> None:
        """Waits, and nobody else does, until a read from `offset` need not wait for the disk. Raises `OSError`."""
        await reading.warm(self, offset, bytes_max)

    async def find(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record at or after the time, below the high watermark."""
        return await reading.find(self, timestamp_ms)

    async def max_timestamp(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record with the greatest time."""
        return await reading.find_greatest(self)

    async def delete_records(self, before: int) -> int:
        """Records before this offset are gone for good; -1 for the high watermark. Gives the log start.

        Raises `OffsetOutOfRange` and `StorageFailed`.
        """
        return await self.around.delete_records(self, before)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """(the greatest epoch up to `epoch`, where it ends); (-1, -1) where there is none."""
        found = -1
        for at, (known, _) in enumerate(self.epochs):
            if known <= epoch:
                found = at
        if found < 0:
            return -1, -1
        if found + 1 < len(self.epochs):
            return self.epochs[found][0], self.epochs[found + 1][1]
        return self.epochs[found][0], self.end
