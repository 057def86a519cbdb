"""What the `Log` port promises, kept by the outbox on both databases."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import Clock, SystemClock, VirtualClock
from mainspring.core.database import Bytes, Int64, Metadata
from mainspring.core.database.core_tables import log_records
from mainspring.core.outbox import OutboxConsumer, OutboxLog, Retention
from mainspring.core.outbox.consumer import TAKE_OVER_S
from mainspring.core.outbox.log import APPEND_RECORDS_MAX, VALUE_BYTES_MAX
from mainspring.core.outbox.transactions import BATCH_BYTES_MAX
from mainspring.core.ports import Connection, Consumer, Record
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics
from tests.fixtures_database import PostgresServer, embedded_database, postgres_database

PATIENCE_S = 60.0
DAY_S = 86_400.0

tables = Metadata("effects")
effect = tables.table("effects_effect", sa.Column("id", Int64, primary_key=True), sa.Column("value", Bytes))
INSERT = sa.insert(effect)
VALUES = sa.select(effect.c.value).order_by(effect.c.id)
COUNT = sa.select(sa.func.count()).select_from(effect)
COUNT_RECORDS = sa.select(sa.func.count()).select_from(log_records)


def emit(connection: Connection, topic: str, *values: bytes) -> None:
    for value in values:
        connection.emit(topic, value)


def fold(connection: Connection, batch: list[Record], consumer: Consumer) -> bool:
    """The effect of a batch: its values, numbered in the order in which they take effect."""
    if not consumer.commit_in(connection):
        return False
    first = connection.execute(COUNT).scalar()
    connection.execute_many(INSERT, [{"id": first + n, "value": one.value} for n, one in enumerate(batch)])
    return True


def effects(connection: Connection) -> list[bytes]:
    return [value for (value,) in connection.execute(VALUES)]


def values(batch: list[Record]) -> list[bytes]:
    return [record.value for record in batch]


@asynccontextmanager
async def opened(database: Any, clock: Clock | None = None, **options: Any) -> AsyncIterator[OutboxLog]:
    log = OutboxLog(database, clock or SystemClock(), random=Random(1), **options)
    try:
        yield log
    finally:
        await log.stop()


@pytest.fixture
async def log(database: Any) -> AsyncIterator[OutboxLog]:
    await database.prepare("effects", tables)
    async with opened(database) as log:
        yield log


async def test_a_record_comes_back_as_it_was_appended(log: OutboxLog) -> None:
    position = await log.append("t", b"\x00value", b"key", [("name", b"\xff"), ("name", b"")])
    [record] = await anext(log.consumer("g", ["t"]))
    assert (record.topic, record.partition, record.offset) == (position.topic, position.partition, position.offset)
    assert (record.value, record.key, record.headers) == (b"\x00value", b"key", (("name", b"\xff"), ("name", b"")))
    assert abs(record.at_us - SystemClock().wall_ns() // 1000) < PATIENCE_S * 1e6


async def test_positions_of_many_appended_together_rise_and_are_those_that_are_read(log: OutboxLog) -> None:
    first = await log.append_many("t", [(b"k%d" % n, b"%d" % n) for n in range(100)])
    second = await log.append_many("t", [(None, b"last")])
    batch = await anext(log.consumer("g", ["t"]))
    assert [record.offset for record in batch] == [position.offset for position in first + second]
    assert sorted({record.offset for record in batch}) == [record.offset for record in batch]
    assert [record.key for record in batch[:2]] == [b"k0", b"k1"] and batch[-1].key is None
    assert await log.append_many("t", []) == []


async def test_an_event_is_in_the_log_exactly_if_its_transaction_committed(log: OutboxLog, database: Any) -> None:
    def fails(connection: Connection) -> None:
        emit(connection, "t", b"never")
        raise LookupError

    await database.write(emit, "t", b"1", b"2")
    with pytest.raises(LookupError):
        await database.write(fails)
    await database.write(emit, "t", b"3")
    assert values(await anext(log.consumer("g", ["t"]))) == [b"1", b"2", b"3"]


async def test_a_batch_comes_again_until_it_is_committed(log: OutboxLog) -> None:
    await log.append_many("t", [(None, b"%d" % n) for n in range(4)])
    consumer = log.consumer("g", ["t"], batch_records_max=2)
    assert values(await anext(consumer)) == values(await anext(consumer)) == [b"0", b"1"]
    await consumer.commit()
    await consumer.commit()
    assert values(await anext(consumer)) == [b"2", b"3"]
    await consumer.close()
    assert values(await anext(log.consumer("g", ["t"]))) == [b"2", b"3"]


async def test_each_group_gets_everything(log: OutboxLog) -> None:
    await log.append("t", b"1")
    for group in ("a", "b"):
        consumer = log.consumer(group, ["t"])
        assert values(await anext(consumer)) == [b"1"]
        await consumer.commit()


async def test_topics_do_not_mix_and_a_consumer_of_several_gets_them_in_commit_order(log: OutboxLog) -> None:
    for n in range(6):
        await log.append("abc"[n % 3], b"%d" % n)
    assert values(await anext(log.consumer("one", ["b"]))) == [b"1", b"4"]
    both = log.consumer("two", ["a", "b"], batch_records_max=3)
    assert values(await anext(both)) == [b"0", b"1", b"3"]
    await both.commit()
    assert values(await anext(both)) == [b"4"]


async def test_a_batch_is_bounded_by_bytes_but_never_empty(log: OutboxLog) -> None:
    half = VALUE_BYTES_MAX
    count = BATCH_BYTES_MAX // half + 3
    await log.append_many("t", [(None, bytes(half)) for _ in range(count)])
    consumer = log.consumer("g", ["t"])
    assert len(await anext(consumer)) == BATCH_BYTES_MAX // half
    await consumer.commit()
    assert len(await anext(consumer)) == 3


async def test_an_event_larger_than_a_whole_batch_is_still_delivered(log: OutboxLog, database: Any) -> None:
    await database.write(emit, "t", bytes(BATCH_BYTES_MAX + 1), b"next")
    consumer = log.consumer("g", ["t"])
    assert len(await anext(consumer)) == 1
    await consumer.commit()
    assert values(await anext(consumer)) == [b"next"]


async def test_what_is_out_of_bounds_is_refused(log: OutboxLog) -> None:
    with pytest.raises(ValueError, match="bytes"):
        await log.append("t", bytes(VALUE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="at once"):
        await log.append_many("t", [(None, b"")] * (APPEND_RECORDS_MAX + 1))
    for name in ("", "x" * 256):
        with pytest.raises(ValueError, match="named"):
            await log.append(name, b"")
        with pytest.raises(ValueError, match="named"):
            log.consumer(name, ["t"])
        with pytest.raises(ValueError, match="named"):
            log.consumer("g", [name])
    with pytest.raises(ValueError, match="topic"):
        log.consumer("g", [])


async def test_effect_and_position_are_one(log: OutboxLog, database: Any) -> None:
    def fails_late(connection: Connection, batch: list[Record], consumer: Consumer) -> None:
        fold(connection, batch, consumer)
        raise LookupError

    await log.append_many("t", [(None, b"%d" % n) for n in range(3)])
    consumer = log.consumer("g", ["t"], batch_records_max=2)
    batch = await anext(consumer)
    with pytest.raises(LookupError):
        await database.write(fails_late, batch, consumer)
    assert await anext(consumer) == batch
    assert await database.write(fold, batch, consumer)
    assert not await database.write(fold, batch, consumer), "it was passed already"
    assert await database.write(fold, await anext(consumer), consumer)
    assert await database.read(effects) == [b"0", b"1", b"2"]


async def test_a_waiting_consumer_is_woken_by_the_commit(log: OutboxLog, database: Any) -> None:
    consumer = log.consumer("g", ["t"])
    waiting = asyncio.ensure_future(anext(consumer))
    for topic in ("other", "t"):
        await database.write(emit, topic, b"1")
    assert values(await waiting) == [b"1"]


async def test_embedded_no_time_passes_between_a_commit_and_its_consumer(tmp_path: Path) -> None:
    async with embedded_database(tmp_path) as database, opened(database, VirtualClock()) as log:
        consumer = log.consumer("g", ["t"])
        for n in range(20):
            waiting = asyncio.ensure_future(anext(consumer))
            await database.write(emit, "t", b"%d" % n)
            assert values(await waiting) == [b"%d" % n]
            await consumer.commit()


async def test_closing_ends_the_iteration(log: OutboxLog) -> None:
    consumer = log.consumer("g", ["t"])
    waiting = asyncio.ensure_future(anext(consumer, None))
    await asyncio.sleep(0)
    await consumer.close()
    assert await waiting is None
    other = log.consumer("g", ["t"])
    await log.stop()
    assert [batch async for batch in other] == []


async def test_of_two_members_with_the_same_batch_one_moves_the_group(log: OutboxLog, database: Any) -> None:
    await log.append_many("t", [(None, b"%d" % n) for n in range(3)])
    members = [log.consumer("g", ["t"]) for _ in range(2)]
    batches = [await anext(member) for member in members]
    assert batches[0] == batches[1]
    won = await asyncio.gather(
        *(database.write(fold, batch, member) for batch, member in zip(batches, members, strict=True))
    )
    assert sorted(won) == [False, True]
    assert await database.read(effects) == [b"0", b"1", b"2"]


async def test_many_racing_members_make_each_effect_happen_once_and_in_order(log: OutboxLog, database: Any) -> None:
    total = 60

    async def work(member: OutboxConsumer) -> None:
        async for batch in member:
            await database.write(fold, batch, member)
            if len(await database.read(effects)) == total:
                await log.stop()

    members = [log.consumer("g", ["t"], batch_records_max=7) for _ in range(3)]
    tasks = [asyncio.ensure_future(work(member)) for member in members]
    for n in range(total):
        await database.write(emit, "t", b"%d" % n)
    await asyncio.gather(*tasks)
    assert await database.read(effects) == [b"%d" % n for n in range(total)]


async def test_who_came_too_late_stands_by_and_takes_over_when_the_other_is_gone(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with embedded_database(tmp_path) as database, opened(database, clock) as log:
        await database.prepare("effects", tables)
        one, two = log.consumer("g", ["t"]), log.consumer("g", ["t"])
        await log.append("t", b"1")
        batch = await anext(one)
        assert await anext(two) == batch
        assert await database.write(fold, batch, one)
        assert not await database.write(fold, batch, two)
        standing_by = asyncio.ensure_future(anext(two))
        for n in range(2, 12):
            # The first one gets on, so the second one leaves it alone however long it takes.
            await log.append("t", b"%d" % n)
            await pass_time(clock, TAKE_OVER_S * 0.9)
            assert not standing_by.done()
            assert await database.write(fold, await anext(one), one)
        await log.append("t", b"last")
        while not standing_by.done():
            await pass_time(clock, TAKE_OVER_S)
        assert await database.write(fold, await standing_by, two)
        assert (await database.read(effects))[-1] == b"last"


async def pass_time(clock: VirtualClock, seconds: float) -> None:
    """Lets time pass in small steps, with room for what a thread may have to answer in between."""
    for _ in range(10):
        await clock.advance(seconds / 10)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_what_waits_is_known_without_a_consumer(log: OutboxLog) -> None:
    assert not await log.pending("g", "t")
    assert await log.backlog("g", "t") == 0
    await log.append_many("t", [(None, b"")] * 3)
    assert await log.pending("g", "t")
    assert not await log.pending("g", "other")
    assert await log.backlog("g", "t") == 3
    consumer = log.consumer("g", ["t"], batch_records_max=2)
    await anext(consumer)
    await consumer.commit()
    assert await log.backlog("g", "t") == 1
    assert await log.pending("other", "t")


async def test_one_can_wait_for_work_before_building_what_does_it(log: OutboxLog, database: Any) -> None:
    waiting = asyncio.ensure_future(log.wait_pending("g", ["a", "b"]))
    await database.write(emit, "c", b"")
    await asyncio.sleep(0)
    assert not waiting.done()
    await database.write(emit, "b", b"")
    await waiting
    await log.wait_pending("g", ["b"])


class Flaky:
    """A database that is away for a while."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.dialect, self.watch = database.dialect, database.watch
        self.away = 0

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            if self.away > 0:
                self.away -= 1
                raise Unavailable
            return await getattr(self._database, name)(*args)

        return call


async def test_a_consumer_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with embedded_database(tmp_path) as database:
        flaky = Flaky(database)
        async with opened(flaky, clock) as log:
            await log.append("t", b"1")
            flaky.away = 3
            waiting = asyncio.ensure_future(anext(log.consumer("g", ["t"])))
            while not waiting.done():
                await pass_time(clock, 1)
            assert values(await waiting) == [b"1"]
            flaky.away = 2
            pending = asyncio.ensure_future(log.wait_pending("g", ["t"]))
            while not pending.done():
                await pass_time(clock, 1)
            await pending


@pytest.fixture
async def aged(database: Any) -> AsyncIterator[tuple[OutboxLog, VirtualClock]]:
    """A log that believes that days pass. The records' times are real, so it starts now."""
    clock = VirtualClock(wall_ns=SystemClock().wall_ns())
    async with opened(database, clock, retention=Retention(DAY_S, 10, 30 * DAY_S), metrics=Metrics()) as log:
        yield log, clock


async def test_what_all_groups_have_passed_is_deleted_after_its_time(
    aged: tuple[OutboxLog, VirtualClock], database: Any
) -> None:
    log, clock = aged
    await log.append_many("t", [(None, b"%d" % n) for n in range(8)])
    for group, batch_records_max in (("fast", 8), ("slow", 5)):
        consumer = log.consumer(group, ["t"], batch_records_max)
        await anext(consumer)
        await consumer.commit()
    assert await log.prune() == 0, "a view or a new group may still want them"
    clock.set_wall(clock.wall_ns() + round((DAY_S + 60) * 1e9))
    assert await log.prune() == 5
    assert values(await anext(log.consumer("slow", ["t"]))) == [b"5", b"6", b"7"]
    assert await database.read(lambda connection: connection.execute(COUNT_RECORDS).scalar()) == 3
    assert (log.pruned, log.lost) == (5, 0)


async def test_of_what_is_passed_only_so_many_are_kept_in_each_topic(aged: tuple[OutboxLog, VirtualClock]) -> None:
    log, _ = aged
    await log.append_many("seen", [(None, b"%d" % n) for n in range(25)])
    await log.append_many("few", [(None, b"")] * 10)
    await log.append_many("unseen", [(None, b"")] * 25)
    await log.register("g", ["unseen"])
    assert await log.prune() == 15
    assert await log.backlog("g", "seen") == 10
    assert values(await anext(log.consumer("late", ["seen"])))[0] == b"15"
    assert await log.backlog("g", "few") == 10
    assert await log.backlog("g", "unseen") == 25


async def test_a_group_that_nobody_runs_does_not_fill_the_disk_for_ever(
    aged: tuple[OutboxLog, VirtualClock], caplog: pytest.LogCaptureFixture
) -> None:
    log, clock = aged
    await log.register("forgotten", ["t"])
    await log.append_many("t", [(None, b"")] * 5)
    clock.set_wall(clock.wall_ns() + round((29 * DAY_S) * 1e9))
    assert await log.prune() == 0
    clock.set_wall(clock.wall_ns() + round((2 * DAY_S) * 1e9))
    assert await log.prune() == 5
    assert log.lost == 5
    assert "5 events of t are deleted" in caplog.text


async def test_pruning_goes_on_from_transaction_to_transaction(aged: tuple[OutboxLog, VirtualClock]) -> None:
    log, _ = aged
    for _ in range(5):
        await log.append_many("t", [(None, b"")] * 500)
    assert await log.prune() == 2_490


async def test_offsets_rise_even_when_all_records_were_pruned(aged: tuple[OutboxLog, VirtualClock]) -> None:
    log, clock = aged
    before = await log.append("t", b"1")
    consumer = log.consumer("g", ["t"])
    await anext(consumer)
    await consumer.commit()
    clock.set_wall(clock.wall_ns() + round(2 * DAY_S * 1e9))
    assert await log.prune() == 1
    after = await log.append("t", b"2")
    assert after.offset > before.offset
    assert values(await anext(consumer)) == [b"2"]


async def test_a_history_has_one_name(log: OutboxLog) -> None:
    assert len({await log.history() for _ in range(3)}) == 1


@pytest.mark.postgres
async def test_a_transaction_that_commits_late_is_never_skipped(postgres_server: PostgresServer) -> None:
    """The events of a slow transaction have lower offsets than those of a fast one that committed before it."""
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        connection.execute(INSERT, {"id": 1, "value": b"takes a transaction id"})
        emit(connection, "t", b"slow")
        began.set()
        assert go_on.wait(PATIENCE_S)

    async with postgres_database(postgres_server) as database, opened(database) as log:
        await database.prepare("effects", tables)
        consumer = log.consumer("g", ["t"])
        slow_one = asyncio.ensure_future(database.write(slow))
        try:
            assert await asyncio.to_thread(began.wait, PATIENCE_S)
            fast = await log.append("t", b"fast")
            assert not await log.pending("g", "t"), "what an older transaction may still precede is not given out"
            waiting = asyncio.ensure_future(anext(consumer))
        finally:
            go_on.set()
            await slow_one
        batch = await waiting
        assert values(batch) == [b"slow", b"fast"]
        assert batch[0].offset < batch[1].offset == fast.offset


@pytest.mark.postgres
async def test_nodes_on_one_server_share_a_group(postgres_server: PostgresServer) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(postgres_database(postgres_server))
        await first.prepare("effects", tables)
        second = type(first)(first_dsn(first))
        await second.start()
        stack.push_async_callback(second.stop)
        one = await stack.enter_async_context(opened(first))
        two = await stack.enter_async_context(opened(second))
        mine, theirs = one.consumer("g", ["t"]), two.consumer("g", ["t"])
        waiting = asyncio.ensure_future(anext(theirs))
        await first.write(emit, "t", b"from the other node")
        batch = await waiting
        assert values(batch) == [b"from the other node"]
        assert await anext(mine) == batch
        won = await asyncio.gather(first.write(fold, batch, mine), second.write(fold, batch, theirs))
        assert sorted(won) == [False, True]
        assert await first.read(effects) == [b"from the other node"]


def first_dsn(database: Any) -> str:
    from psycopg.conninfo import make_conninfo

    return str(make_conninfo(**database._parameters))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(1, 4)),
        st.tuples(st.just("fold"), st.integers(0, 1)),
        st.tuples(st.just("fold and fail"), st.integers(0, 1)),
        st.tuples(st.just("fetch"), st.integers(0, 1)),
        st.tuples(st.just("fold what was fetched"), st.integers(0, 1)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("prune"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
async def test_whatever_happens_each_effect_happens_exactly_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        await History(Path(folder)).play(steps)


class History:
    """Two members of a group over an embedded database that may crash: all that is left then is its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.emitted: list[bytes] = []
        self.lives = 0
        self.stack = AsyncExitStack()

    async def live(self) -> None:
        self.lives += 1
        folder = self.folder / str(self.lives)
        folder.mkdir()
        if self.lives > 1:
            # What a killed process leaves: its database file and write-ahead log as they are at this moment.
            for suffix in ("", "-wal"):
                left = self.folder / str(self.lives - 1) / f"test.db{suffix}"
                if left.exists():
                    shutil.copy(left, folder / left.name)
            await self.stack.aclose()
        self.database = await self.stack.enter_async_context(embedded_database(folder))
        await self.database.prepare("effects", tables)
        retention = Retention(kept_s=DAY_S, kept_records=2)
        self.log = await self.stack.enter_async_context(opened(self.database, VirtualClock(), retention=retention))
        # Before its first record, as the application does: nothing is kept for a group that nobody knows.
        await self.log.register("g", ["t"])
        self.members = [self.log.consumer("g", ["t"], batch_records_max=3) for _ in range(2)]
        self.fetched: list[list[Record]] = [[], []]

    async def play(self, steps: list[tuple[str, int]]) -> None:
        await self.live()
        try:
            for step, number in steps:
                await self.play_one(step, number)
                done = await self.database.read(effects)
                assert done == self.emitted[: len(done)]
            while await self.log.pending("g", "t"):
                self.members = [self.log.consumer("g", ["t"])]
                await self.play_one("fold", 0)
            assert await self.database.read(effects) == self.emitted
        finally:
            await self.stack.aclose()

    async def play_one(self, step: str, number: int) -> None:
        if step == "emit":
            new = [b"%d" % (len(self.emitted) + n) for n in range(number)]
            await self.database.write(emit, "t", *new)
            self.emitted += new
        elif step == "crash":
            await self.live()
        elif step == "prune":
            await self.log.prune()
        elif step == "fold what was fetched":
            if self.fetched[number]:
                await self.database.write(fold, self.fetched[number], self.members[number])
        elif await self.log.pending("g", "t"):
            await self.fetch(number)
            if step == "fold":
                await self.database.write(fold, self.fetched[number], self.members[number])
            elif step == "fold and fail":
                with pytest.raises(ZeroDivisionError):
                    await self.database.write(fold_and_fail, self.fetched[number], self.members[number])

    async def fetch(self, number: int) -> None:
        # Nobody waits out a stand-by here: a member that came too late is replaced by a new one.
        if self.members[number]._too_late:
            await self.members[number].close()
            self.members[number] = self.log.consumer("g", ["t"], batch_records_max=3)
        self.fetched[number] = await anext(self.members[number])


def fold_and_fail(connection: Connection, batch: list[Record], consumer: Consumer) -> None:
    fold(connection, batch, consumer)
    raise ZeroDivisionError
