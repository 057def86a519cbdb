"""How the records of this process reach their partitions: which one is chosen, in which batches, and what their caller hears.

Records that come one by one, from many callers in one turn of the event loop, go as one batch: each pays for a place in it
and for being woken. Where the log refuses such a batch each record is tried by itself, so that nobody is refused for
another's record.

Offsets follow the order of the calls, and what was appended is durable when its caller goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TypeVar, overload

from mainspring.core.clock import Clock
from mainspring.core.ports import Position
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import UnknownPartition
from mainspring.storage.log.model import Appending
from mainspring.storage.log.packing import New, Pair, batches_of_pairs, batches_of_records, batches_of_values
from mainspring.storage.log.partitioner import partition_of, partitions_of
from mainspring.storage.log.topics import Topic

T = TypeVar("T")


class Positions(Sequence[Position]):
    """Where the records of one call are, in the order of the call. A `Position` is made when it is looked at."""

    __slots__ = ("_offsets", "_partitions", "topic")

    def __init__(self, topic: str, partitions: Sequence[int], offsets: Sequence[int]) -> None:
        self.topic = topic
        self._partitions = partitions
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, at: int) -> Position: ...

    @overload
    def __getitem__(self, at: slice) -> "Positions": ...

    def __getitem__(self, at: int | slice) -> "Position | Positions":
        if isinstance(at, slice):
            return Positions(self.topic, self._partitions[at], self._offsets[at])
        return Position(self.topic, self._partitions[at], self._offsets[at])

    def __add__(self, other: Iterable[Position]) -> list[Position]:
        return [*self, *other]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self))


class Appender:
    """Appends to `engine`'s topics; `make_topic` gives the topic of a name that is missing."""

    def __init__(
        self, engine: Engine, clock: Clock, random: Random, make_topic: Callable[[str], Awaitable[Topic]]
    ) -> None:
        self._engine, self._clock, self._random, self._make_topic = engine, clock, random, make_topic
        self._turns: dict[Topic, _Turn] = {}

    async def append(self, topic: str, record: New) -> Position:
        """Raises `LogError`."""
        found = self._engine.topics.get(topic) or await self._make_topic(topic)
        turn = self._turns.get(found)
        if turn is None:
            turn = self._turns[found] = _Turn(self._random.randrange(len(found.partitions)))
            asyncio.get_running_loop().call_soon(self._end_turn, found)
        index = record.partition
        if index is None:
            index = turn.anywhere if record.key is None else partition_of(record.key, len(found.partitions))
        else:
            check_partition(found, index)
        return Position(topic, index, await turn.add(index, record))

    async def append_pairs(self, topic: str, pairs: Sequence[Pair]) -> Sequence[Position]:
        """Raises as `append_records` does."""
        if not pairs:
            return []
        found = self._engine.topics.get(topic) or await self._make_topic(topic)
        now_ms, count = self._now_ms(), len(found.partitions)
        anywhere = self._random.randrange(count)
        values = [value for key, value in pairs if key is None]
        if len(values) == len(pairs):
            data = batches_of_values(found, values, now_ms)
            return await self._append(found, [anywhere] * len(values), {anywhere: data})
        chosen = partitions_of([key for key, _ in pairs], count, anywhere)
        shares = split(chosen, pairs)
        return await self._append(
            found, chosen, {index: batches_of_pairs(found, share, now_ms) for index, share in shares.items()}
        )

    async def append_records(self, topic: str, records: Sequence[New]) -> Sequence[Position]:
        """Appends in order. Those that go to one partition are appended together: all or none.

        Raises `MessageTooLarge`, having appended nothing, where one record alone is larger than the topic accepts, and
        what the partition raises.
        """
        if not records:
            return []
        found = self._engine.topics.get(topic) or await self._make_topic(topic)
        now_ms = self._now_ms()
        chosen = spread(found, records, self._random)
        shares = split(chosen, records)
        return await self._append(
            found, chosen, {index: batches_of_records(found, share, now_ms) for index, share in shares.items()}
        )

    async def _append(self, topic: Topic, chosen: Sequence[int], shares: Mapping[int, bytes | bytearray]) -> Positions:
        """`shares` are the batches of each partition; `chosen` says which record is in which."""
        self._end_turn(topic)
        appended = {index: topic.partitions[index].append(data) for index, data in shares.items()}
        for appending in appended.values():
            await appending.durable()
        if len(appended) == 1:
            (only,) = appended.values()
            return Positions(topic.name, chosen, range(only.base_offset, only.next_offset))
        offsets = {index: iter(range(one.base_offset, one.next_offset)) for index, one in appended.items()}
        return Positions(topic.name, chosen, [next(offsets[index]) for index in chosen])

    def _end_turn(self, topic: Topic) -> None:
        """Appends what has come one by one."""
        turn = self._turns.pop(topic, None)
        if turn is None:
            return
        for index, share in turn.shares.items():
            self._append_share(topic, index, share)

    def _append_share(self, topic: Topic, index: int, share: "_Share") -> None:
        try:
            appending = topic.partitions[index].append(batches_of_records(topic, share.records, self._now_ms()))
        except Exception as error:
            # Whatever it is, a value that is no bytes included: somebody waits for it.
            if len(share.records) == 1:
                share.fail(error)
                return
            for record, waiting in zip(share.records, share.waiting, strict=True):
                self._append_share(topic, index, _Share([record], [waiting]))
        else:
            appending.when_durable(lambda: share.settle(appending))

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000


class _Share:
    """Records for one partition, and who waits for their offsets."""

    __slots__ = ("records", "waiting")

    def __init__(self, records: list[New], waiting: list[asyncio.Future[int]]) -> None:
        self.records, self.waiting = records, waiting

    def settle(self, appending: Appending) -> None:
        if appending.error is not None:
            self.fail(appending.error)
            return
        for offset, waiting in enumerate(self.waiting, appending.base_offset):
            if not waiting.done():
                waiting.set_result(offset)

    def fail(self, error: Exception) -> None:
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_exception(error)


class _Turn:
    """What came one by one for a topic since the loop's last turn; what may go anywhere goes to one partition."""

    __slots__ = ("_create_future", "anywhere", "shares")

    def __init__(self, anywhere: int) -> None:
        self.anywhere = anywhere
        self.shares: dict[int, _Share] = {}
        self._create_future: Callable[[], asyncio.Future[int]] = asyncio.get_running_loop().create_future

    def add(self, index: int, record: New) -> asyncio.Future[int]:
        share = self.shares.get(index)
        if share is None:
            share = self.shares[index] = _Share([], [])
        waiting = self._create_future()
        share.records.append(record)
        share.waiting.append(waiting)
        return waiting


def spread(topic: Topic, records: Sequence[New], random: Random) -> list[int]:
    """The partition of each record: the one it names, that of its key, or one for all the others.

    Raises `UnknownPartition`.
    """
    count = len(topic.partitions)
    chosen = partitions_of([record.key for record in records], count, random.randrange(count))
    for at, record in enumerate(records):
        if record.partition is not None:
            check_partition(topic, record.partition)
            chosen[at] = record.partition
    return chosen


def check_partition(topic: Topic, index: int) -> None:
    """Raises `UnknownPartition`."""
    if not 0 <= index < len(topic.partitions):
        raise UnknownPartition(f"{topic.name} has partitions 0 to {len(topic.partitions) - 1}, not {index}")


def split(chosen: Sequence[int], records: Sequence[T]) -> dict[int, list[T]]:
    """The records of each partition, in their order."""
    shares: dict[int, list[T]] = {}
    for index, record in zip(chosen, records, strict=True):
        shares.setdefault(index, []).append(record)
    return shares
