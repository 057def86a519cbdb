"""Records as they arrive, for somebody who watches a topic over a WebSocket.

The log itself is the queue: a watcher is a place in each partition. It gets a message at most ten times a second, and never
more than it takes; one that has fallen further behind than `BEHIND_MAX` records is moved on, and the next message says how many
it did not see. So a topic of any speed can be watched, and a watcher costs no memory and holds up nobody.
"""

import asyncio
from collections.abc import Callable

import msgspec

from mainspring.core.http import Channel
from mainspring.storage.log.browsing import READ_BYTES, Room, Sifted, sift
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import OffsetOutOfRange, UnknownPartition
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.reader import Isolation
from mainspring.storage.log.service import Log
from mainspring.storage.log.topics import Topic
from mainspring.storage.log.views import RecordView, cut_view
from mainspring.storage.log.where import Filter
from mainspring.wire import websocket
from mainspring.wire.websocket import Limits, open_channel

EVERY_S = 0.1
MESSAGE_RECORDS_MAX = 200
MESSAGE_BYTES_MAX = 256 << 10
VALUE_BYTES_MAX = 64 << 10
UNSENT_BYTES_MAX = 16 << 20
"""Room for one message: the next is made when this one is sent."""
BEHIND_MAX = 2_000
LOOKED_AT_MAX = 5_000
"""Records of a partition that are held against the filter for one message."""


class TailView(msgspec.Struct):
    """What has arrived; `dropped` of the topic's records were passed over because the watcher was too slow for all.

    `next` is the next offset of each partition.
    """

    records: list[RecordView]
    dropped: int
    next: dict[str, int]


class Watchers(websocket.Watchers):
    """Those of topics."""


class Tail:
    """The places of one watcher. `partition` None: all of them, those that are added later too."""

    def __init__(self, topic: Topic, partition: int | None, where: Filter | None, isolation: Isolation) -> None:
        self._topic, self._partition, self._where, self._isolation = topic, partition, where, isolation
        self._places: dict[int, int] = {}
        self._ends: list[Callable[[], None]] = []
        self._turn = 0
        self.news = asyncio.Event()
        self._follow(from_end=True)

    def places(self) -> dict[str, int]:
        return {str(index): offset for index, offset in self._places.items()}

    async def take(self) -> TailView:
        """What there is now, the partitions in turn; `news` is set where there is more.

        Raises `UnknownPartition` once the topic is deleted.
        """
        self.news.clear()
        self._follow(from_end=False)
        records: list[RecordView] = []
        dropped = size_bytes = 0
        indexes = list(self._places)
        for step in range(len(indexes)):
            index = indexes[(self._turn + step) % len(indexes)]
            partition = self._topic.partitions[index]
            if isinstance(partition.failure, UnknownPartition):
                raise partition.failure
            if len(records) >= MESSAGE_RECORDS_MAX or size_bytes >= MESSAGE_BYTES_MAX:
                self.news.set()
                break
            dropped += self._catch_up(partition)
            room = Room(MESSAGE_RECORDS_MAX - len(records), LOOKED_AT_MAX, MESSAGE_BYTES_MAX - size_bytes)
            taken = await self._read(partition, room)
            size_bytes += taken.taken_bytes
            records += [cut_view(index, read, VALUE_BYTES_MAX) for read in taken.taken]
        self._turn += 1
        return TailView(records, dropped, self.places())

    def close(self) -> None:
        for end in self._ends:
            end()

    def _follow(self, *, from_end: bool) -> None:
        for partition in self._topic.partitions:
            if partition.index in self._places or self._partition not in (None, partition.index):
                continue
            self._places[partition.index] = self._end(partition) if from_end else partition.log_start
            self._ends.append(partition.on_progress(self.news.set))

    def _end(self, partition: Partition) -> int:
        return partition.last_stable if self._isolation == "read_committed" else partition.high_watermark

    def _catch_up(self, partition: Partition) -> int:
        """Moves a place that is too far behind to where it can keep up; gives over how many records."""
        at, end = self._places[partition.index], self._end(partition)
        to = max(partition.log_start, end - MESSAGE_RECORDS_MAX if end - at > BEHIND_MAX else at)
        self._places[partition.index] = max(at, to)
        return max(0, to - at)

    async def _read(self, partition: Partition, room: Room) -> Sifted:
        at = self._places[partition.index]
        if at >= self._end(partition):
            return Sifted([], 0, 0, at)
        await partition.warm(at, READ_BYTES)
        try:
            fetched = partition.read(at, READ_BYTES, committed=self._isolation == "read_committed")
        except OffsetOutOfRange:
            self.news.set()
            return Sifted([], 0, 0, at)
        sifted = await sift(fetched, at, partition.index, self._where, room)
        self._places[partition.index] = sifted.next_offset
        if at < sifted.next_offset < self._end(partition):
            self.news.set()
        return sifted


def topic_of(engine: Engine, name: str) -> Topic:
    """Raises `UnknownPartition`."""
    found = engine.topics.get(name)
    if found is None:
        raise UnknownPartition(f"there is no topic {name!r}")
    return found


async def watch(channel: Channel, log: Log, tail: Tail, watchers: Watchers) -> None:
    """Serves one watcher until it leaves or the topic is deleted. The first message tells where it stands."""
    try:
        async with open_channel(channel, Limits(unsent_bytes_max=UNSENT_BYTES_MAX)) as socket:
            if not await watchers.admit(socket):
                return
            try:
                socket.send_json(TailView([], 0, tail.places()))
                while True:
                    await tail.news.wait()
                    found = await tail.take()
                    if found.records or found.dropped:
                        socket.send_json(found)
                    await log.clock.sleep(EVERY_S)
                    await socket.drain()
            finally:
                watchers.leave()
    finally:
        tail.close()
