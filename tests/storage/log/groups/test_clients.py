"""Groups as the clients that people have use them."""

import asyncio
import threading

import pytest

from .door import WAIT_S, open_door

confluent = pytest.importorskip("confluent_kafka")


def consume(address: str, group: str, topic: str, count: int, seen: list, lock: threading.Lock, **config) -> None:
    """A consumer that reads until all of them together have `count` records, and commits what it got."""
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        | config
    )
    consumer.subscribe([topic])
    try:
        while len(seen) < count:
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue
            with lock:
                seen.append((message.partition(), message.offset(), message.value()))
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def produce(address: str, topic: str, values: range) -> None:
    producer = confluent.Producer({"bootstrap.servers": address, "linger.ms": 1})
    for value in values:
        producer.produce(topic, str(value).encode(), key=str(value).encode())
    assert producer.flush(WAIT_S) == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_two_confluent_consumers_share_the_partitions_and_go_on_where_the_group_was(tmp_path, protocol):
    config = {"group.protocol": protocol} | ({"session.timeout.ms": 6000} if protocol == "classic" else {})
    async with open_door(tmp_path) as door:
        await door.engine.create_topic("orders", 4)
        await asyncio.to_thread(produce, door.address, "orders", range(100))
        seen, lock = [], threading.Lock()
        async with asyncio.timeout(2 * WAIT_S):
            await asyncio.gather(
                *(asyncio.to_thread(consume, door.address, "g", "orders", 100, seen, lock, **config) for _ in range(2))
            )
        assert sorted(int(value) for _, _, value in set(seen)) == list(range(100))
        committed = await door.groups.committed("g")
        assert sum(committed.values()) == 100
        await asyncio.to_thread(produce, door.address, "orders", range(100, 110))
        again = []
        async with asyncio.timeout(2 * WAIT_S):
            await asyncio.to_thread(consume, door.address, "g", "orders", 10, again, lock, **config)
        assert sorted(int(value) for _, _, value in again) == list(range(100, 110))
