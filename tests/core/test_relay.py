"""The relay takes every committed event to the log exactly once, in commit order, wherever it is interrupted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from mainspring.core.clock import Clock, SystemClock, VirtualClock
from mainspring.core.outbox import OutboxLog, Retention, idle, transactions
from mainspring.core.outbox.relay import HEADER, RECORDS_AT_ONCE, Item, Relay
from mainspring.core.ports import Connection, Record
from mainspring.core.problems import Unavailable
from tests.waiting import until


class Shelf:
    """A log that is a list for each partition; `fails` is asked before and after each append."""

    def __init__(self, partitions: int = 1) -> None:
        self.lists: dict[tuple[str, int], list[Record]] = {}
        self.takeovers = 0
        self.fails: Callable[[str], bool] = lambda when: False
        self._partitions = partitions

    async def take_over(self, history: int) -> None:
        self.takeovers += 1

    def unfit(self, topic: str, records: Sequence[Record]) -> Mapping[int, str]:
        return dict.fromkeys((record.offset for record in records), "its name") if " " in topic else {}

    async def relay(self, items: Mapping[str, Sequence[Item]]) -> Mapping[tuple[str, int], int]:
        ends = {}
        for topic, some in items.items():
            for at_ms, key, value, headers in some:
                if self.fails("append"):
                    raise Unavailable
                at = (topic, (key or b"\0")[0] % self._partitions)
                there = self.lists.setdefault(at, [])
                there.append(Record(topic, at[1], len(there), key, value, tuple(headers), at_ms * 1000))
                ends[at] = len(there)
        if self.fails("answer"):
            raise Unavailable
        return ends

    async def partitions(self, topic: str) -> int:
        return self._partitions if any(name == topic for name, _ in self.lists) else 0

    async def fetch(self, topic: str, partition: int, offset: int) -> list[Record]:
        return self.lists.get((topic, partition), [])[offset : offset + 3]

    def values(self, topic: str, partition: int = 0) -> list[bytes]:
        return [record.value for record in self.lists.get((topic, partition), [])]

    @property
    def size(self) -> int:
        return sum(map(len, self.lists.values()))


@asynccontextmanager
async def relaying(
    database: Any, shelf: Shelf, clock: Clock | None = None, **options: Any
) -> AsyncIterator[tuple[Relay, OutboxLog]]:
    clock = clock or SystemClock()
    outbox = OutboxLog(database, clock, random=Random(1), **options)
    relay = Relay(database, outbox, shelf, clock, random=Random(2))
    await relay.start()
    try:
        yield relay, outbox
    finally:
        await relay.stop()
        await outbox.stop()


def emit(connection: Connection, topic: str, *values: bytes, key: bytes | None = None) -> None:
    for value in values:
        connection.emit(topic, value, key, [("kind", b"test")])


async def all_relayed(database: Any) -> bool:
    return not await database.read(idle.is_unrelayed)


async def test_every_event_is_in_the_log_once_and_in_order(database: Any) -> None:
    shelf = Shelf()
    total = RECORDS_AT_ONCE + 5
    await database.write(emit, "a", *(b"%d" % n for n in range(total)))
    async with relaying(database, shelf):
        for n in range(5):
            await database.write(emit, "b", b"%d" % n, key=b"k")
        await until(lambda: all_relayed(database))
    assert shelf.values("a") == [b"%d" % n for n in range(total)]
    assert shelf.values("b") == [b"%d" % n for n in range(5)]
    record = shelf.lists["b", 0][0]
    assert record.key == b"k" and record.headers[0] == ("kind", b"test") and record.headers[1][0] == HEADER
    assert abs(record.at_us - SystemClock().wall_ns() // 1000) < 600e6


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_and_however_often_each_event_arrives_once(database: Any, seed: int) -> None:
    random = Random(seed)
    shelf = Shelf(partitions=2)
    clock = VirtualClock(wall_ns=SystemClock().wall_ns())
    shelf.fails = lambda when: random.random() < (0.05 if when == "append" else 0.3)
    sent: dict[bytes, list[bytes]] = {b"\0": [], b"\1": []}
    for round in range(4):
        async with relaying(database, shelf, clock):
            for n in range(random.randrange(1, 12)):
                key = bytes([random.randrange(2)])
                value = b"%d.%d" % (round, n)
                await database.write(emit, random.choice(["t", "t", "refused name"]), value, key=key)
                sent[key].append(value)
            if round == 3:
                shelf.fails = lambda when: False
            for _ in range(random.randrange(30)):
                await clock.advance(0.3)
                await asyncio.sleep(0)
            if round == 3:
                async with asyncio.timeout(60):
                    while not await all_relayed(database):
                        await clock.advance(1)
                        await asyncio.sleep(0.001)
    for key, values in sent.items():
        found = shelf.values("t", key[0])
        assert len(set(found)) == len(found), "each once"
        assert found == [value for value in values if value in set(found)], "in order"
    assert shelf.size + sum(1 for _ in await database.read(refused)) == sum(map(len, sent.values()))


def refused(connection: Connection) -> list[Record]:
    return transactions.records_after(connection, {"refused name": 0}, 1000)


async def test_an_event_that_the_log_cannot_hold_does_not_hold_up_the_others(database: Any) -> None:
    shelf = Shelf()
    async with relaying(database, shelf) as (relay, _):
        await database.write(emit, "no such name", b"1")
        await database.write(emit, "t", b"2")
        await until(lambda: shelf.values("t") == [b"2"])
        await until(lambda: all_relayed(database))
        assert relay.unfit == 1


async def test_what_groups_of_the_outbox_itself_have_read_is_not_relayed_again(database: Any) -> None:
    shelf = Shelf()
    before = OutboxLog(database, SystemClock(), random=Random(1))
    await before.append_many("t", [(None, b"%d" % n) for n in range(4)])
    consumer = before.consumer("g", ["t"], batch_records_max=3)
    await anext(consumer)
    await consumer.commit()
    await before.stop()
    async with relaying(database, shelf):
        await until(lambda: all_relayed(database))
    assert shelf.values("t") == [b"3"]


async def test_at_rest_nothing_is_relayed(database: Any) -> None:
    shelf = Shelf()
    async with relaying(database, shelf) as (relay, _):
        async with relay.at_rest():
            await database.write(emit, "t", b"1")
            for _ in range(20):
                await asyncio.sleep(0)
            assert not shelf.size
        await until(lambda: shelf.values("t") == [b"1"])


async def test_only_what_was_relayed_is_pruned(database: Any) -> None:
    shelf = Shelf()
    clock = VirtualClock(wall_ns=SystemClock().wall_ns())
    retention = Retention(kept_s=60, kept_records=1)
    async with relaying(database, shelf, clock, retention=retention) as (_, outbox):
        shelf.fails = lambda when: True
        await database.write(emit, "t", b"1", b"2", b"3")
        clock.set_wall(clock.wall_ns() + 3600 * 10**9)
        assert await outbox.prune() == 0
        shelf.fails = lambda when: False
        async with asyncio.timeout(60):
            while not await all_relayed(database):
                await clock.advance(1)
                await asyncio.sleep(0.001)
        assert await outbox.prune() == 3
        assert outbox.lost == 0
