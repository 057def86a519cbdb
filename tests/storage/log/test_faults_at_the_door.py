"""Faults as clients of the wire meet them: a full disk, clocks that jump, floods of connections."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.listener import Listener
from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.records import Record, build, records_in
from mainspring.storage.log.service import Log
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import end_offset, fetched, make_topic, parts, produce
from tests.storage.log.kafka.wire import Wire
from tests.storage.log.test_faults import FailingFiles
from tests.waiting import until

STORAGE_FAILED, FENCED_INSTANCE, ILLEGAL_GENERATION, UNKNOWN_MEMBER = 56, 82, 22, 25
HOUR_NS = 3_600_000_000_000


def now_batch(value: bytes) -> bytes:
    return build([Record(time.time_ns() // 1_000_000, None, value)])


def values_of(wire: Wire, index: int) -> list[bytes | None]:
    """All of a partition of `t` that one answer holds."""
    part = parts(fetched(wire, {index: 0}))[index]
    assert part.error_code == 0
    data = memoryview(part.records or b"")
    found = []
    while data:
        size = 12 + int.from_bytes(data[8:12], "big")
        found += [read.value for read in records_in(data[:size])]
        data = data[size:]
    return found


async def test_a_full_disk_is_a_storage_error_of_its_partition_until_there_is_room(tmp_path: Path) -> None:
    files = FailingFiles()
    clock = SystemClock()
    engine = Engine([tmp_path / "log"], clock, files=files)
    await engine.start()
    groups = Groups(engine, clock)
    await groups.start()
    broker = Broker(engine, clock, tmp_path / "door.json", groups=groups)
    server = await asyncio.get_running_loop().create_server(Listener(broker), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def fill(wire: Wire) -> None:
        assert make_topic(wire, "t", 2) == 0
        assert produce(wire, now_batch(b"before")) == 0
        files.full, files.no_room = {"t-0"}, True
        for _ in range(3):
            assert produce(wire, now_batch(b"never")) == STORAGE_FAILED
        assert values_of(wire, 0) == [b"before"], "it is read all the same"
        assert produce(wire, now_batch(b"live"), index=1) == 0 and values_of(wire, 1) == [b"live"]
        files.full, files.no_room = set(), False

    def go_on(wire: Wire) -> None:
        assert produce(wire, now_batch(b"after")) == 0
        assert values_of(wire, 0) == [b"before", b"after"]

    try:
        with Wire(port) as wire:
            await asyncio.to_thread(fill, wire)
            await until(lambda: engine.partition("t", 0).failure is None)
            await asyncio.to_thread(go_on, wire)
    finally:
        server.close()
        await groups.stop()
        await engine.stop()


class JumpingClock(SystemClock):
    """The machine's clocks, the wall clock of which somebody sets."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def wall_ns(self) -> int:  # type: ignore[override]  # there it is the machine's own function
        return time.time_ns() + self.ahead_ns


@pytest.mark.parametrize(("jump_ns", "found_first"), [(HOUR_NS, 2), (-HOUR_NS, 0)])
async def test_a_clock_that_jumps_an_hour_ends_no_session_and_no_transaction_and_loses_nothing(
    tmp_path: Path, jump_ns: int, found_first: int
) -> None:
    clock = JumpingClock()
    log = Log(tmp_path, clock)
    await log.start()
    consumer = log.consumer("group", ["t"])
    try:
        await log.append("t", b"0")
        first = await anext(consumer)
        async with log.transaction("copier") as transaction:
            await transaction.append("t", b"1")
            clock.ahead_ns = jump_ns
            # Both hear of the hour, if anybody does: timers of a coordinator go off within its next ticks.
            for timers in (log.groups._timers, log.transactions._timers):
                passed = asyncio.Event()
                timers.call_after(50, passed.set)
                await passed.wait()
            await transaction.append("t", b"2")
            await transaction.commit_offsets(consumer)
        assert consumer.assignment == {("t", 0)} and [one.value for one in first] == [b"0"]
        await log.engine.upkeep.retain()
        assert [one.value for one in await anext(consumer)] == [b"1", b"2"]
        await consumer.commit()
        await log.append("t", b"3")
        assert [one.value for one in await anext(consumer)] == [b"3"]
        partition = log.engine.partition("t", 0)
        found = await partition.find(clock.wall_ns() // 1_000_000 - 60_000)
        assert found is not None and found[0] == found_first, "the first record that is not older"
    finally:
        await consumer.close()
        await log.stop()
    clock.ahead_ns = 0
    again = Log(tmp_path, clock)
    await again.start()
    assert [one.value for one in await again.fetch("t", 0, 0)] == [b"0", b"1", b"2", b"3"]
    assert await again.append("t", b"4")
    await again.stop()


def test_a_flood_of_connections_is_refused_and_costs_those_who_are_in_nothing(
    make_ours: Callable[..., OurBroker],
) -> None:
    broker = make_ours(settings=KafkaSettings(connections_max_per_ip=20))
    with Wire(broker.port) as inside:
        assert make_topic(inside) == 0
        for wave in range(3):
            flood = [socket.create_connection(("127.0.0.1", broker.port), timeout=60) for _ in range(100)]
            refused = 0
            for one in flood[19:]:
                refused += one.recv(1) == b""
            assert refused == 81, "there is room for twenty, and one is in"
            assert produce(inside, now_batch(b"%d" % wave)) == 0
            for one in flood:
                one.close()
            asyncio.run(until(lambda: len(broker.listener._open) == 1))
            with Wire(broker.port) as room:
                assert room.call(ApiKey.API_VERSIONS, 0).error_code == 0
        assert end_offset(inside) == 3


def test_members_that_are_not_of_the_generation_are_told_which_of_the_three_they_are(ours: OurBroker) -> None:
    def commit(wire: Wire, **who: Any) -> int:
        partition = {
            "partition_index": 0,
            "committed_offset": 1,
            "committed_leader_epoch": -1,
            "committed_metadata": "",
        }
        answer = wire.call(
            ApiKey.OFFSET_COMMIT, 8, group_id="g", topics=[{"name": "t", "partitions": [partition]}], **who
        )
        return int(answer.topics[0].partitions[0].error_code)

    with Wire(ours.port) as wire:
        assert make_topic(wire) == 0
        asked: dict[str, Any] = {"group_id": "g", "session_timeout_ms": 30_000, "rebalance_timeout_ms": 30_000}
        asked |= {"protocol_type": "consumer", "protocols": [{"name": "range", "metadata": b""}], "reason": ""}
        joined = wire.call(ApiKey.JOIN_GROUP, 9, member_id="", group_instance_id="i", **asked)
        share = [{"member_id": joined.member_id, "assignment": b""}]
        generation = {"generation_id": joined.generation_id, "member_id": joined.member_id}
        names = {"protocol_type": "consumer", "protocol_name": "range"}
        synced = wire.call(
            ApiKey.SYNC_GROUP, 5, group_id="g", group_instance_id="i", assignments=share, **generation, **names
        )
        assert (joined.error_code, synced.error_code) == (0, 0)
        mine = {"generation_id_or_member_epoch": joined.generation_id, "member_id": joined.member_id}
        assert commit(wire, **mine, group_instance_id="i") == 0
        old = {**mine, "generation_id_or_member_epoch": joined.generation_id - 1}
        assert commit(wire, **old, group_instance_id="i") == ILLEGAL_GENERATION
        assert commit(wire, **{**mine, "member_id": "nobody"}, group_instance_id=None) == UNKNOWN_MEMBER
        assert commit(wire, **{**mine, "member_id": "nobody"}, group_instance_id="i") == FENCED_INSTANCE
