"""Looking into a topic without being its consumer: records from a place on, those that fit a filter, a page at a time.

A page ends when it is full, when enough was looked at, or at the end of what readers may see; all but the last give the place
where the next one begins. So a filter that hardly anything fits costs each request the same, and never the whole topic.
"""

import asyncio
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from mainspring.storage.log.model import Fetched
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.reader import Isolation, visible
from mainspring.storage.log.records import Read
from mainspring.storage.log.topics import Topic
from mainspring.storage.log.where import Filter

SCANNED_RECORDS_MAX = 20_000
SCANNED_BYTES_MAX = 16 << 20
PARTITIONS_MAX = 1_000
ANSWER_BYTES_MAX = 4 << 20
READ_BYTES = 256 << 10


class Place(msgspec.Struct, array_like=True, frozen=True):
    """The next record to look at. `offset` None: where the next partition begins."""

    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)] | None


class Start(NamedTuple):
    """Where to begin in each partition: at `offset`, counted from the end where it is negative, else at a time, else at
    the oldest record kept."""

    offset: int | None = None
    timestamp_ms: int | None = None


class Leaf(NamedTuple):
    """What was found, in order of partition and offset; how many records were looked at; where to go on, None at the end."""

    found: list[tuple[int, Read]]
    scanned: int
    next: Place | None


async def first_offset(partition: Partition, start: Start) -> int:
    """Where `start` is in this partition. An offset that is no longer kept becomes the oldest that is."""
    if start.offset is not None:
        at = start.offset if start.offset >= 0 else partition.high_watermark + start.offset
        return max(partition.log_start, at)
    if start.timestamp_ms is not None:
        found = await partition.find(start.timestamp_ms)
        return found[0] if found is not None else partition.high_watermark
    return partition.log_start


async def browse(
    topic: Topic,
    place: Place,
    last_partition: int,
    start: Start,
    records_max: int,
    where: Filter | None = None,
    isolation: Isolation = "read_committed",
) -> Leaf:
    """At most `records_max` records from `place` on, through the partitions up to `last_partition`.

    Raises `OffsetOutOfRange` beyond the end, and `UnknownPartition` where the topic goes meanwhile.
    """
    found: list[tuple[int, Read]] = []
    scanned = scanned_bytes = found_bytes = 0
    index, offset = place.partition, place.offset
    while index <= min(last_partition, len(topic.partitions) - 1):
        if index - place.partition >= PARTITIONS_MAX:
            return Leaf(found, scanned, Place(index, offset))
        await asyncio.sleep(0)
        partition = topic.partitions[index]
        if offset is None:
            offset = await first_offset(partition, start)
        offset = max(offset, partition.log_start)
        while True:
            if (
                len(found) >= records_max
                or scanned >= SCANNED_RECORDS_MAX
                or scanned_bytes >= SCANNED_BYTES_MAX
                or found_bytes >= ANSWER_BYTES_MAX
            ):
                return Leaf(found, scanned, Place(index, offset))
            await partition.warm(offset, READ_BYTES)
            fetched = partition.read(offset, READ_BYTES, committed=isolation == "read_committed")
            if not fetched.buffers:
                break
            room = Room(records_max - len(found), SCANNED_RECORDS_MAX - scanned, ANSWER_BYTES_MAX - found_bytes)
            sifted = await sift(fetched, offset, index, where, room)
            found += [(index, read) for read in sifted.taken]
            scanned += sifted.scanned
            scanned_bytes += fetched.size_bytes
            found_bytes += sifted.taken_bytes
            if sifted.next_offset <= offset:
                break
            offset = sifted.next_offset
        index, offset = index + 1, None
    return Leaf(found, scanned, None)


class Room(NamedTuple):
    """How many records may be taken and how many looked at, and the bytes of those taken after which to end."""

    records: int
    scanned: int
    bytes: int


class Sifted(NamedTuple):
    """`next_offset` is that of the first record that was not looked at."""

    taken: list[Read]
    taken_bytes: int
    scanned: int
    next_offset: int


async def sift(fetched: Fetched, offset: int, index: int, where: Filter | None, room: Room) -> Sifted:
    """The records from `offset` on that fit. In a thread: batches are expanded and values read there."""
    return await asyncio.to_thread(_sift, fetched, offset, index, where, room)


def _sift(fetched: Fetched, offset: int, index: int, where: Filter | None, room: Room) -> Sifted:
    seen = visible(fetched, offset, room.scanned if where is not None else min(room.records, room.scanned))
    taken: list[Read] = []
    size_bytes = 0
    for scanned, read in enumerate(seen.records):
        if len(taken) >= room.records or size_bytes >= room.bytes:
            return Sifted(taken, size_bytes, scanned, read.offset)
        if where is None or where(read, index):
            taken.append(read)
            size_bytes += len(read.value or b"") + len(read.key or b"")
    return Sifted(taken, size_bytes, len(seen.records), seen.next_offset)
