"""What the port `Log` promises: one suite that every adapter passes, whatever stands behind it.

A test module gives an adapter's `World` by a fixture named `world`, and inherits the tests:

```python
class TestOutbox(LogContract): ...
class TestEngine(LogContract, PartitionedLogContract): ...
```
`PartitionedLogContract` adds what only a log with partitions has: keys, hand-over, transactions.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mainspring.core.database import Bytes, Int64, Metadata
from mainspring.core.ports import Connection, Record
from mainspring.storage.log.errors import LogError
from tests.waiting import until

PATIENCE_S = 60.0

tables = Metadata("effects")
effect = tables.table(
    "effects_effect", sa.Column("id", Int64, primary_key=True), sa.Column("value", Bytes, nullable=False)
)
INSERT = sa.insert(effect)
VALUES = sa.select(effect.c.value).order_by(effect.c.id)
COUNT = sa.select(sa.func.count()).select_from(effect)


class World:
    """An adapter under test. `log` is running; `restart()` ends it without warning and opens what it left."""

    def __init__(
        self,
        log: Any,
        database: Any,
        restart: Callable[[], Awaitable[Any]],
        create_topic: Callable[[str, int], Awaitable[object]] | None = None,
    ) -> None:
        self.log, self.database = log, database
        self._restart, self._create_topic = restart, create_topic
        self.topic = f"topic-{uuid4().hex[:12]}"
        self.group = f"group-{uuid4().hex[:12]}"

    async def restart(self) -> None:
        self.log = await self._restart()

    async def split(self, partitions: int) -> None:
        """Makes this world's topic with several partitions."""
        assert self._create_topic is not None
        await self._create_topic(self.topic, partitions)

    def consumer(self, **options: Any) -> Any:
        return self.log.consumer(self.group, [self.topic], **options)


def fold(connection: Connection, batch: list[Record], consumer: Any) -> bool:
    """The effect of a batch: its values, numbered in the order in which they take effect."""
    if not consumer.commit_in(connection):
        return False
    first = connection.execute(COUNT).scalar()
    connection.execute_many(INSERT, [{"id": first + n, "value": one.value} for n, one in enumerate(batch)])
    return True


def effects(connection: Connection) -> list[bytes]:
    return [value for (value,) in connection.execute(VALUES)]


def values(batch: Sequence[Record]) -> list[bytes]:
    return [record.value for record in batch]


async def next_batch(consumer: Any) -> list[Record]:
    async with asyncio.timeout(PATIENCE_S):
        batch: list[Record] = await anext(consumer)
        return batch


async def read(consumer: Any, count: int) -> list[Record]:
    """The next `count` records, each batch committed."""
    found: list[Record] = []
    while len(found) < count:
        found += await next_batch(consumer)
        await consumer.commit()
    assert len(found) == count, values(found)
    return found


@asynccontextmanager
async def reading(consumer: Any) -> AsyncIterator[Any]:
    try:
        yield consumer
    finally:
        await consumer.close()


class LogContract:
    """Every log."""

    async def test_a_record_comes_back_as_it_was_appended(self, world: World) -> None:
        position = await world.log.append(world.topic, b"\x00value", b"key", [("name", b"\xff"), ("name", b"")])
        async with reading(world.consumer()) as consumer:
            [record] = await next_batch(consumer)
        assert (record.topic, record.partition, record.offset) == (
            position.topic,
            position.partition,
            position.offset,
        )
        assert (record.value, record.key) == (b"\x00value", b"key")
        assert record.headers == (("name", b"\xff"), ("name", b""))
        assert abs(record.at_us / 1e6 - time.time()) < 600

    async def test_positions_rise_and_are_those_that_are_read(self, world: World) -> None:
        first = await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(50)])
        second = await world.log.append_many(world.topic, [(None, b"last")])
        assert await world.log.append_many(world.topic, []) == []
        async with reading(world.consumer()) as consumer:
            records = await read(consumer, 51)
        assert [record.offset for record in records] == [position.offset for position in first + second]
        assert values(records) == [b"%d" % n for n in range(50)] + [b"last"]
        assert sorted({record.offset for record in records}) == [record.offset for record in records]

    async def test_a_batch_comes_again_until_it_is_committed(self, world: World) -> None:
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(4)])
        async with reading(world.consumer(batch_records_max=2)) as consumer:
            assert values(await next_batch(consumer)) == values(await next_batch(consumer)) == [b"0", b"1"]
            await consumer.commit()
            await consumer.commit()
            assert values(await next_batch(consumer)) == [b"2", b"3"]
        async with reading(world.consumer()) as consumer:
            assert values(await next_batch(consumer)) == [b"2", b"3"]

    async def test_each_group_gets_everything(self, world: World) -> None:
        await world.log.append(world.topic, b"1")
        for name in ("a", "b"):
            async with reading(world.log.consumer(world.group + name, [world.topic])) as consumer:
                assert values(await read(consumer, 1)) == [b"1"]

    async def test_a_waiting_consumer_gets_what_is_appended_later(self, world: World) -> None:
        async with reading(world.consumer()) as consumer:
            waiting = asyncio.ensure_future(next_batch(consumer))
            await asyncio.sleep(0)
            await world.log.append(world.topic, b"1")
            assert values(await waiting) == [b"1"]

    async def test_several_topics_are_read_by_one_consumer(self, world: World) -> None:
        other = world.topic + "-other"
        await world.log.append(world.topic, b"1")
        await world.log.append(other, b"2")
        async with reading(world.log.consumer(world.group, [world.topic, other])) as consumer:
            assert sorted(values(await read(consumer, 2))) == [b"1", b"2"]

    async def test_closing_ends_the_iteration(self, world: World) -> None:
        consumer = world.consumer()
        waiting = asyncio.ensure_future(anext(consumer, None))
        await asyncio.sleep(0)
        await consumer.close()
        async with asyncio.timeout(PATIENCE_S):
            assert await waiting is None
            assert [batch async for batch in consumer] == []

    async def test_after_a_crash_a_group_goes_on_where_it_had_committed(self, world: World) -> None:
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(6)])
        consumer = world.consumer(batch_records_max=2)
        await read(consumer, 2)
        assert values(await next_batch(consumer)) == [b"2", b"3"]
        await world.restart()
        await world.log.append(world.topic, b"6")
        async with reading(world.consumer()) as consumer:
            assert values(await read(consumer, 5)) == [b"2", b"3", b"4", b"5", b"6"]

    async def test_effect_and_position_are_one(self, world: World) -> None:
        def fails_late(connection: Connection, batch: list[Record], consumer: Any) -> None:
            fold(connection, batch, consumer)
            raise LookupError

        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(3)])
        async with reading(world.consumer(batch_records_max=2)) as consumer:
            batch = await next_batch(consumer)
            with pytest.raises(LookupError):
                await world.database.write(fails_late, batch, consumer)
            assert await next_batch(consumer) == batch
            assert await world.database.write(fold, batch, consumer)
            assert not await world.database.write(fold, batch, consumer), "it was passed already"
            assert await world.database.write(fold, await next_batch(consumer), consumer)
        assert await world.database.read(effects) == [b"0", b"1", b"2"]

    async def test_a_position_in_the_database_outlives_a_crash(self, world: World) -> None:
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(4)])
        consumer = world.consumer(batch_records_max=3)
        assert await world.database.write(fold, await next_batch(consumer), consumer)
        await world.restart()
        async with reading(world.consumer()) as consumer:
            assert await world.database.write(fold, await next_batch(consumer), consumer)
            await world.log.append(world.topic, b"4")
            assert await world.database.write(fold, await next_batch(consumer), consumer)
            await world.log.append(world.topic, b"5")
            await next_batch(consumer)
            await consumer.commit()
        assert await world.database.read(effects) == [b"%d" % n for n in range(5)]
        async with reading(world.consumer()) as consumer:
            await world.log.append(world.topic, b"6")
            assert values(await next_batch(consumer)) == [b"6"], "commit moves the same position"

    async def test_racing_members_make_each_effect_happen_once_and_in_order(self, world: World) -> None:
        total = 40
        finished = asyncio.Event()

        async def work(member: Any) -> None:
            async for batch in member:
                await world.database.write(fold, batch, member)
                if len(await world.database.read(effects)) >= total:
                    finished.set()

        members = [world.consumer(batch_records_max=7) for _ in range(3)]
        tasks = [asyncio.ensure_future(work(member)) for member in members]
        for n in range(total):
            await world.log.append(world.topic, b"%d" % n)
        async with asyncio.timeout(PATIENCE_S):
            await finished.wait()
            for member in members:
                await member.close()
            await asyncio.gather(*tasks)
        assert await world.database.read(effects) == [b"%d" % n for n in range(total)]


class PartitionedLogContract:
    """Logs whose topics have partitions."""

    async def test_records_of_one_key_stay_in_order_in_the_partition_that_java_would_choose(self, world: World) -> None:
        await world.split(4)
        sent = [(b"key-%d" % (n % 5), b"%d" % n) for n in range(60)]
        positions = await world.log.append_many(world.topic, sent)
        # As org.apache.kafka.common.utils.Utils.murmur2 has them, of four partitions.
        expected = {b"key-0": 1, b"key-1": 0, b"key-2": 2, b"key-3": 3, b"key-4": 1}
        assert {key: position.partition for (key, _), position in zip(sent, positions, strict=True)} == expected
        async with reading(world.consumer()) as consumer:
            records = await read(consumer, 60)
        by_key: dict[bytes | None, list[bytes]] = defaultdict(list)
        for record in records:
            by_key[record.key].append(record.value)
        assert by_key == {key: [value for other, value in sent if other == key] for key, _ in sent}

    async def test_a_partition_has_one_owner_and_is_handed_over_after_its_callbacks(self, world: World) -> None:
        await world.split(4)
        owned: dict[str, set[int]] = {"one": set(), "two": set()}
        happened = asyncio.Condition()

        def callbacks(name: str) -> dict[str, Any]:
            async def assigned(partitions: Collection[tuple[str, int]]) -> None:
                for _, partition in partitions:
                    assert all(partition not in held for held in owned.values()), "two owners"
                    owned[name].add(partition)
                async with happened:
                    happened.notify_all()

            async def revoked(partitions: Collection[tuple[str, int]]) -> None:
                for _, partition in partitions:
                    owned[name].discard(partition)
                async with happened:
                    happened.notify_all()

            return {"on_assigned": assigned, "on_revoked": revoked}

        async def consume(member: Any) -> None:
            async for _ in member:
                await member.commit()

        async def owned_are(sizes: tuple[int, int]) -> None:
            async with asyncio.timeout(PATIENCE_S), happened:
                await happened.wait_for(lambda: (len(owned["one"]), len(owned["two"])) == sizes)

        one = world.consumer(**callbacks("one"))
        tasks = [asyncio.ensure_future(consume(one))]
        await owned_are((4, 0))
        two = world.consumer(**callbacks("two"))
        tasks.append(asyncio.ensure_future(consume(two)))
        await owned_are((2, 2))
        await one.close()
        await owned_are((0, 4))
        await until(lambda: len(two.assignment) == 4)
        await two.close()
        await asyncio.gather(*tasks)
        assert owned == {"one": set(), "two": set()}

    async def test_a_batch_in_hand_is_not_pulled_away(self, world: World) -> None:
        await world.split(2)
        for partition in range(2):
            await world.log.append(world.topic, b"%d" % partition, partition=partition)
        one = world.consumer(batch_records_max=1)
        held = (await next_batch(one))[0].partition
        async with reading(world.consumer(batch_records_max=1)) as two:
            waiting = asyncio.ensure_future(next_batch(two))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not waiting.done() or (await waiting)[0].partition != held
            await one.commit()
            await one.close()
            assert (await waiting)[0].partition != held
            await two.commit()

    async def test_a_consumer_seeks_where_its_owner_wants_it(self, world: World) -> None:
        await world.split(1)
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(5)])
        async with reading(world.consumer()) as consumer:
            await next_batch(consumer)
            consumer.seek(world.topic, 0, 3)
            assert values(await next_batch(consumer)) == [b"3", b"4"]


class TransactionalLogContract:
    """Logs with transactions through their Python face."""

    async def test_a_transaction_is_all_or_nothing(self, world: World) -> None:
        await world.split(3)

        async def fails() -> None:
            async with world.log.transaction(world.group) as transaction:
                for partition in range(3):
                    await transaction.append(world.topic, b"never", partition=partition)
                raise LookupError

        with pytest.raises(LookupError):
            await fails()
        async with world.log.transaction(world.group) as transaction:
            for partition in range(3):
                await transaction.append(world.topic, b"once", partition=partition)
            async with reading(world.consumer()) as early:
                looking = asyncio.ensure_future(anext(early, None))
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not looking.done(), "nobody sees what has not committed"
        async with reading(world.consumer()) as consumer:
            assert values(await read(consumer, 3)) == [b"once"] * 3
        async with reading(
            world.log.consumer(world.group + "-dirty", [world.topic], isolation="read_uncommitted")
        ) as consumer:
            assert sorted(values(await read(consumer, 6))) == [b"never"] * 3 + [b"once"] * 3

    async def test_a_copy_with_its_offsets_is_exact_though_it_is_cut_short(self, world: World) -> None:
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(10)])
        target = world.topic + "-copy"

        async def copy(fails_after: int | None) -> None:
            async with reading(world.consumer(batch_records_max=3)) as consumer:
                done = 0
                while done < 10:
                    batch = await next_batch(consumer)
                    async with world.log.transaction(world.group) as transaction:
                        await transaction.append_many(target, [(None, value) for value in values(batch)])
                        await transaction.commit_offsets(consumer)
                        if fails_after is not None and done >= fails_after:
                            raise LookupError
                    done += len(batch)
                    if batch[-1].value == b"9":
                        return

        with pytest.raises(LookupError):
            await copy(3)
        await copy(None)
        async with reading(world.log.consumer(world.group + "-check", [target])) as consumer:
            assert values(await read(consumer, 10)) == [b"%d" % n for n in range(10)]

    async def test_whoever_takes_an_id_fences_its_last_holder(self, world: World) -> None:
        await world.log.append(world.topic, b"before")

        async def is_fenced() -> None:
            async with world.log.transaction(world.group) as old:
                await old.append(world.topic, b"old")
                async with world.log.transaction(world.group) as new:
                    await new.append(world.topic, b"new")
                await old.append(world.topic, b"late")

        with pytest.raises(LogError):
            await is_fenced()
        async with reading(world.consumer()) as consumer:
            assert values(await read(consumer, 2)) == [b"before", b"new"]


class ReadingLogContract:
    """Logs of which a partition can be read without a group."""

    async def test_a_reader_begins_where_it_is_told_and_waits_at_the_end(self, world: World) -> None:
        await world.split(2)
        for n in range(5):
            await world.log.append(world.topic, b"%d" % n, b"key", [("name", b"x")], partition=1)
        reader = world.log.reader(world.topic, 1, 2, batch_records_max=2)
        try:
            batch = await next_batch(reader)
            assert values(batch) == [b"2", b"3"] and reader.offset == 4
            assert [(one.partition, one.key, one.headers) for one in batch] == [(1, b"key", (("name", b"x"),))] * 2
            assert values(await next_batch(reader)) == [b"4"]
            waiting = asyncio.ensure_future(next_batch(reader))
            await asyncio.sleep(0)
            await world.log.append(world.topic, b"5", partition=1)
            assert values(await waiting) == [b"5"]
        finally:
            reader.close()
        assert [batch async for batch in reader] == []

    async def test_a_reader_beyond_the_end_waits_for_the_record_that_it_asked_for(self, world: World) -> None:
        await world.split(1)
        await world.log.append(world.topic, b"0")
        reader = world.log.reader(world.topic, 0, 3)
        waiting = asyncio.ensure_future(next_batch(reader))
        try:
            for n in range(1, 5):
                await world.log.append(world.topic, b"%d" % n)
            assert (await waiting)[0].value == b"3"
        finally:
            reader.close()

    async def test_a_reader_sees_nothing_of_a_transaction_until_it_commits(self, world: World) -> None:
        await world.split(1)
        async with world.log.transaction(world.group) as transaction:
            await transaction.append(world.topic, b"never")
            await transaction.abort()
        dirty = world.log.reader(world.topic, isolation="read_uncommitted")
        clean = world.log.reader(world.topic)
        try:
            assert values(await next_batch(dirty)) == [b"never"]
            waiting = asyncio.ensure_future(next_batch(clean))
            async with world.log.transaction(world.group) as transaction:
                await transaction.append(world.topic, b"once")
                assert values(await next_batch(dirty)) == [b"once"]
                assert not waiting.done()
            assert values(await waiting) == [b"once"]
        finally:
            dirty.close()
            clean.close()


class SharingLogContract:
    """Logs that are queues as well."""

    async def test_each_record_goes_to_one_member_until_it_is_accepted(self, world: World) -> None:
        await world.split(1)
        await world.log.append_many(world.topic, [(None, b"%d" % n) for n in range(6)])
        done: list[bytes] = []
        async with reading(world.log.share(world.group, [world.topic], batch_records_max=4)) as member:
            batch = await next_batch(member)
            assert [one.record.value for one in batch] == [b"0", b"1", b"2", b"3"]
            assert [one.deliveries for one in batch] == [1] * 4
            await member.accept(batch[0], batch[1])
            await member.reject(batch[2])
            await member.release(batch[3])
            done += [b"0", b"1"]
            while len(done) < 5:
                for one in await next_batch(member):
                    if one.deliveries == 1 and one.record.value == b"5":
                        continue  # nothing is said of it, so it comes again
                    assert one.deliveries == (2 if one.record.value in (b"3", b"5") else 1)
                    await member.accept(one)
                    done.append(one.record.value)
        assert sorted(done) == [b"0", b"1", b"3", b"4", b"5"], "each once, and what was rejected never again"

    async def test_what_a_member_holds_when_it_leaves_goes_to_the_next(self, world: World) -> None:
        await world.split(1)
        await world.log.append(world.topic, b"job")
        for deliveries in (1, 2):
            async with reading(world.log.share(world.group, [world.topic])) as member:
                [one] = await next_batch(member)
                assert (one.record.value, one.deliveries) == (b"job", deliveries)
