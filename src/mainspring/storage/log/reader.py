"""Reading a partition in process: batches become records, without what a reader must not see.

A reader of committed records gets nothing of a transaction that was aborted: the partition says which transactions among the
bytes were (producer and first offset), and each ends at its producer's next marker. Markers are never records.
"""

import asyncio
from collections.abc import Iterator
from heapq import heapify, heappop
from typing import Literal, NamedTuple

from mainspring.core.ports import Record
from mainspring.storage.log.errors import OffsetOutOfRange
from mainspring.storage.log.model import Fetched
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.records import Batch, Read, batches_in, records_in

Isolation = Literal["read_committed", "read_uncommitted"]

READ_BYTES = 1 << 20


class Seen(NamedTuple):
    """Records from an offset on, and the offset after all that was looked at."""

    records: list[Read]
    next_offset: int


def visible(fetched: Fetched, offset: int, records_max: int) -> Seen:
    """The first records from `offset` on that a reader may see."""
    waiting = [(first, producer) for producer, first in fetched.aborted]
    heapify(waiting)
    aborted: set[int] = set()
    found: list[Read] = []
    for batch, data in _batches(fetched):
        while waiting and waiting[0][0] <= batch.last_offset:
            aborted.add(heappop(waiting)[1])
        if batch.control:
            aborted.discard(batch.producer_id)
        elif not (batch.transactional and batch.producer_id in aborted):
            for record in records_in(data):
                if record.offset < offset:
                    continue
                if len(found) == records_max:
                    return Seen(found, record.offset)
                found.append(record)
        offset = max(offset, batch.next_offset)
    return Seen(found, offset)


def read_some(partition: Partition, offset: int, isolation: Isolation, records_max: int) -> Seen:
    """What can be read now from `offset`, which may lie below the log start. Raises `OffsetOutOfRange` beyond the end."""
    committed = isolation == "read_committed"
    fetched = partition.read(max(offset, partition.log_start), READ_BYTES, committed=committed)
    return visible(fetched, max(offset, partition.log_start), records_max)


def as_record(partition: Partition, read: Read) -> Record:
    """A record as the port has it; a tombstone is one with an empty value."""
    headers = tuple((name, value or b"") for name, value in read.headers)
    return Record(
        partition.topic.name,
        partition.index,
        read.offset,
        read.key,
        read.value or b"",
        headers,
        read.timestamp_ms * 1000,
    )


class Reader:
    """An iterator over the records of one partition from an offset on, with no group, that waits for news at the end.

    It ends when it is closed, or when the partition fails or is deleted. Below the oldest record kept it begins there.
    """

    def __init__(self, partition: Partition, offset: int, isolation: Isolation, records_max: int) -> None:
        self.offset = offset
        self._partition, self._isolation, self._records_max = partition, isolation, records_max
        self._news = asyncio.Event()
        self._closed = False
        self._stop_listening = partition.on_progress(self._news.set)

    def __aiter__(self) -> "Reader":
        return self

    async def __anext__(self) -> list[Record]:
        while not self._closed:
            self._news.clear()
            await self._partition.warm(self.offset, READ_BYTES)
            try:
                seen = read_some(self._partition, self.offset, self._isolation, self._records_max)
            except OffsetOutOfRange:
                seen = Seen([], self.offset)
            moved = seen.next_offset > self.offset
            self.offset = seen.next_offset
            if seen.records:
                return [as_record(self._partition, read) for read in seen.records]
            if moved:
                await asyncio.sleep(0)
            elif self._partition.failure is not None:
                break
            else:
                await self._news.wait()
        self.close()
        raise StopAsyncIteration

    def close(self) -> None:
        self._closed = True
        self._stop_listening()
        self._news.set()


def _batches(fetched: Fetched) -> Iterator[tuple[Batch, memoryview]]:
    for buffer in fetched.buffers:
        view = memoryview(buffer)
        for at, batch in batches_in(view):
            yield batch, view[at : at + batch.size_bytes]
