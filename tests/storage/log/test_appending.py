"""How this process's records reach their partitions: batches made by hand, partitions chosen many at a time, and records that
came one by one as one batch."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import SystemClock
from mainspring.core.ports import Position
from mainspring.storage.log.appending import Positions
from mainspring.storage.log.errors import InvalidRecord, MessageTooLarge, NotOpen
from mainspring.storage.log.packing import HEADS_MAX, RECORDS_MAX, pack
from mainspring.storage.log.partitioner import murmur2, murmur2_many, partition_of, partitions_of
from mainspring.storage.log.records import batches_in, build, records_in
from mainspring.storage.log.service import Log
from mainspring.storage.log.threads import HAND_OVER_BYTES

PATIENCE_S = 60.0
AT_MS = 1_700_000_000_000


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    made = Log(tmp_path / "log", SystemClock(), random=Random(1))
    await made.start()
    yield made
    await made.stop()


def packed(values: list[bytes]) -> bytearray:
    return pack(values, AT_MS, list(map(len, values)))


def built(values: list[bytes]) -> bytes:
    return build([(AT_MS, None, value, ()) for value in values])


def batch_sizes(log: Log, topic: str) -> list[int]:
    """How many records each batch of the first partition has."""
    buffers = log.engine.partition(topic, 0).read(0, 1 << 30).buffers
    return [batch.count for buffer in buffers for _, batch in batches_in(buffer)]


# Batches


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200) | st.integers(8_000, 9_000).map(bytes), min_size=1, max_size=150))
def test_a_packed_batch_is_the_c_codecs_byte_for_byte(values: list[bytes]) -> None:
    assert packed(values) == built(values)


@pytest.mark.parametrize("count", [1, 64, 65, RECORDS_MAX])
@pytest.mark.parametrize("length", [0, 57, 58, 100, 8_200])
def test_so_is_one_of_values_of_one_length(count: int, length: int) -> None:
    values = [bytes([n % 251]) * length for n in range(min(count, 1_000 if length > 1_000 else count))]
    assert packed(values) == built(values)
    assert packed(values[:3]) == built(values[:3]), "and of fewer than the table has"


def test_tables_of_more_lengths_than_are_kept_are_made_again() -> None:
    for length in (*range(HEADS_MAX + 3), 0, 1):
        assert packed([bytes(length)] * 5) == built([bytes(length)] * 5)


async def test_a_call_makes_as_few_batches_as_the_topics_largest_and_the_tables_allow(log: Log) -> None:
    await log.create_topic("t")
    await log.create_topic("small", max_message_bytes=2_000)
    await log.append_many("t", [(None, b"v")] * (2 * RECORDS_MAX + 5))
    assert batch_sizes(log, "t") == [RECORDS_MAX, RECORDS_MAX, 5]
    values = [bytes(n % 700) for n in range(0, 20_000, 37)]
    await log.append_many("small", [(None, value) for value in values])
    batches = log.engine.partition("small", 0).read(0, 1 << 30).buffers
    assert max(len(batch) for batch in batches) <= 2_000
    assert [record.value for batch in batches for record in records_in(batch)] == values


# Partitions


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40).flatmap(lambda length: st.lists(st.binary(min_size=length, max_size=length), min_size=1)))
def test_keys_hashed_side_by_side_have_the_hash_of_each(keys: list[bytes]) -> None:
    assert murmur2_many(keys) == [murmur2(key) for key in keys]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=12)), st.integers(1, 9))
def test_each_record_of_a_call_goes_where_it_would_go_alone(keys: list[bytes | None], partitions: int) -> None:
    anywhere = partitions - 1
    alone = [anywhere if key is None else partition_of(key, partitions) for key in keys]
    assert partitions_of(keys, partitions, anywhere) == alone


async def test_positions_are_those_of_each_record_in_the_order_of_the_call(log: Log) -> None:
    await log.create_topic("t", 4)
    sent = [(b"%d" % (n % 7) if n % 3 else None, b"%d" % n) for n in range(100)]
    await log.append_many("t", sent[:10])
    positions = await log.append_many("t", sent)
    for (key, value), position in zip(sent, positions, strict=True):
        found = (await log.fetch("t", position.partition, position.offset))[0]
        assert (found.offset, found.key, found.value) == (position.offset, key, value)


def test_positions_are_a_sequence_like_any_other() -> None:
    positions = Positions("t", [1, 0, 1], [7, 3, 8])
    plain = [Position("t", 1, 7), Position("t", 0, 3), Position("t", 1, 8)]
    assert positions == plain and plain == positions and list(positions) == plain
    assert positions[-1] == plain[-1] and positions[1:] == plain[1:] and positions + positions == plain * 2
    assert len(positions) == 3 and plain[1] in positions and positions != plain[:2] and positions != 3
    assert repr(positions) == repr(plain)
    with pytest.raises(IndexError):
        positions[3]


# One by one


async def test_records_that_many_callers_append_in_one_turn_are_one_batch_in_the_order_of_their_calls(log: Log) -> None:
    await log.create_topic("t")
    positions = await asyncio.gather(*(log.append("t", b"%d" % n) for n in range(100)))
    assert [position.offset for position in positions] == list(range(100))
    assert batch_sizes(log, "t") == [100]
    assert [record.value for record in await log.fetch("t", 0, 0)] == [b"%d" % n for n in range(100)]


async def test_what_comes_in_one_turn_of_the_loop_is_one_commit_and_what_is_large_does_not_wait_for_its_end(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.create_topic("t", 3)
    partitions = log.engine.topics["t"].partitions
    writer = partitions[0].writer
    before = writer.commits
    appended = [partitions[n % 3].append(built([b"%d" % n])) for n in range(300)]
    await asyncio.gather(*(one.durable() for one in appended))
    assert writer.commits == before + 1
    written, write = Event(), writer.files.write
    monkeypatch.setattr(writer.files, "write", lambda *args: (write(*args), written.set()))
    large = partitions[0].append(built([bytes(HAND_OVER_BYTES)]))
    assert written.wait(PATIENCE_S), "though the loop has not turned"
    await large.durable()


async def test_what_is_appended_together_comes_after_what_was_appended_singly_before_it(log: Log) -> None:
    await log.create_topic("t")
    one, two, three = await asyncio.gather(
        log.append("t", b"1"), log.append_many("t", [(None, b"2"), (None, b"3")]), log.append("t", b"4")
    )
    assert (one.offset, [position.offset for position in two], three.offset) == (0, [1, 2], 3)


async def test_nobody_is_refused_for_anothers_record(log: Log) -> None:
    await log.create_topic("t", max_message_bytes=1_000)
    await log.create_topic("compacted", cleanup_policy="compact")
    found = await asyncio.gather(
        log.append("t", b"1"), log.append("t", bytes(2_000)), log.append("t", b"2"), return_exceptions=True
    )
    assert isinstance(found[1], MessageTooLarge)
    assert [record.value for record in await log.fetch("t", 0, 0)] == [b"1", b"2"]
    found = await asyncio.gather(
        log.append("compacted", b"1"), log.append("compacted", b"2", key=b"k"), return_exceptions=True
    )
    assert isinstance(found[0], InvalidRecord) and found[1] == Position("compacted", 0, 0)
    text: Any = "no bytes"
    found = await asyncio.gather(log.append("t", text), log.append("t", b"3"), return_exceptions=True)
    assert isinstance(found[0], TypeError) and found[1] == Position("t", 0, 2)


async def test_a_caller_that_goes_away_keeps_nobody_waiting(log: Log) -> None:
    await log.create_topic("t")
    gone = asyncio.ensure_future(log.append("t", b"gone"))
    stays = asyncio.ensure_future(log.append("t", b"stays"))
    await asyncio.sleep(0)
    gone.cancel()
    async with asyncio.timeout(PATIENCE_S):
        position = await stays
    assert (await log.fetch("t", 0, position.offset))[0].value == b"stays"


async def test_each_caller_hears_that_the_log_has_stopped(log: Log) -> None:
    await log.create_topic("t")
    await log.stop()
    found = await asyncio.gather(*(log.append("t", b"%d" % n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(one, NotOpen) for one in found)


async def test_records_of_one_turn_go_to_the_partitions_of_their_keys(log: Log) -> None:
    await log.create_topic("t", 4)
    keys = [b"key-%d" % n for n in range(20)]
    positions = await asyncio.gather(*(log.append("t", b"v", key=key) for key in keys))
    assert [position.partition for position in positions] == [partition_of(key, 4) for key in keys]
    anywhere = await asyncio.gather(*(log.append("t", b"v") for _ in range(20)))
    assert len({position.partition for position in anywhere}) == 1
