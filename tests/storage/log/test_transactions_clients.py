"""Transactions as the clients that people have use them."""

import asyncio

import pytest

from .groups.door import WAIT_S, open_door

confluent = pytest.importorskip("confluent_kafka")


def read_committed(address: str, topic: str, count: int) -> list[bytes]:
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([confluent.TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    try:
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None
            if message.error():
                if message.error().code() == confluent.KafkaError._PARTITION_EOF and len(values) >= count:
                    return values
                continue
            values.append(message.value())
    finally:
        consumer.close()


def transact(address: str) -> None:
    """Commits, aborts, commits; then a second producer of the same id fences the first."""
    first = confluent.Producer({"bootstrap.servers": address, "transactional.id": "t", "linger.ms": 0})
    first.init_transactions(WAIT_S)
    for name, commits in ((b"one", True), (b"two", False), (b"three", True)):
        first.begin_transaction()
        first.produce("out", name)
        first.flush(WAIT_S)
        if commits:
            first.commit_transaction(WAIT_S)
        else:
            first.abort_transaction(WAIT_S)
    first.begin_transaction()
    first.produce("out", b"of the fenced one")
    first.flush(WAIT_S)
    second = confluent.Producer({"bootstrap.servers": address, "transactional.id": "t", "linger.ms": 0})
    second.init_transactions(WAIT_S)
    second.begin_transaction()
    second.produce("out", b"four")
    with pytest.raises(confluent.KafkaException) as fenced:
        first.commit_transaction(WAIT_S)
    assert fenced.value.args[0].code() in (
        confluent.KafkaError._FENCED,
        confluent.KafkaError.PRODUCER_FENCED,
        confluent.KafkaError.INVALID_PRODUCER_EPOCH,
    )
    second.commit_transaction(WAIT_S)


async def test_readers_of_committed_data_see_what_confluent_commits_and_nothing_else(tmp_path):
    async with open_door(tmp_path) as door:
        await door.engine.create_topic("out")
        async with asyncio.timeout(4 * WAIT_S):
            await asyncio.to_thread(transact, door.address)
            assert await asyncio.to_thread(read_committed, door.address, "out", 3) == [b"one", b"three", b"four"]
        partition = door.engine.partition("out", 0)
        assert not partition.open_transactions
        assert partition.last_stable == partition.high_watermark


def copy(address: str, count: int) -> None:
    """Consume, transform, produce: positions go with the transaction."""
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "copier",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe(["in"])
    producer = confluent.Producer({"bootstrap.servers": address, "transactional.id": "copier", "linger.ms": 0})
    producer.init_transactions(WAIT_S)
    copied = 0
    try:
        while copied < count:
            messages = [one for one in consumer.consume(10, 0.2) if not one.error()]
            if not messages:
                continue
            producer.begin_transaction()
            for message in messages:
                producer.produce("out", b"copy of " + message.value())
            positions = consumer.position(consumer.assignment())
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), WAIT_S)
            producer.commit_transaction(WAIT_S)
            copied += len(messages)
    finally:
        consumer.close()


async def test_a_copy_commits_its_positions_with_what_it_wrote(tmp_path):
    async with open_door(tmp_path) as door:
        await door.engine.create_topic("in")
        await door.engine.create_topic("out")
        producer = confluent.Producer({"bootstrap.servers": door.address})
        for value in range(50):
            producer.produce("in", str(value).encode())
        async with asyncio.timeout(4 * WAIT_S):
            await asyncio.to_thread(producer.flush, WAIT_S)
            await asyncio.to_thread(copy, door.address, 50)
            found = await asyncio.to_thread(read_committed, door.address, "out", 50)
        assert found == [b"copy of %d" % value for value in range(50)]
        assert await door.groups.committed("copier") == {("in", 0): 50}
