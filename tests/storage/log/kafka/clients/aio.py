"""What a user of aiokafka does and sees; its versions of requests are older than librdkafka's."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

Seen = list[tuple[str, Any]]
PATIENCE_S = 60.0


def run(address: str, name: str) -> Seen:
    return asyncio.run(_run(address, name))


async def _run(address: str, name: str) -> Seen:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    seen: Seen = []
    try:
        answer = await admin.create_topics([NewTopic(name, 2, 1)])
        seen.append(("created", [one[1] for one in answer.topic_errors]))
        again = await admin.create_topics([NewTopic(name, 2, 1)])
        seen.append(("created again", [one[1] for one in again.topic_errors]))
        seen += await _records(address, name)
        seen += await _transaction(address, name)
        groups = await admin.list_consumer_groups()
        seen.append(("groups", sorted(group for group, _ in groups if group.startswith(name))))
        offsets = await admin.list_consumer_group_offsets(f"{name}-group")
        seen.append(("offsets", sorted((part.partition, meta.offset) for part, meta in offsets.items())))
        deleted = await admin.delete_topics([name])
        seen.append(("deleted", [one[1] for one in deleted.topic_error_codes]))
    finally:
        await admin.close()
    return seen


async def _records(address: str, name: str) -> Seen:
    placed = []
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=address, compression_type=codec, enable_idempotence=codec is None)
        await producer.start()
        try:
            for number in range(20):
                value = b"%d %s" % (number, str(codec).encode()) * 20
                sent = await producer.send_and_wait(name, value, key=b"%d" % number, headers=[("n", b"%d" % number)])
                placed.append((sent.partition, sent.offset))
        finally:
            await producer.stop()
    settings: dict[str, Any] = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(name, bootstrap_servers=address, group_id=f"{name}-group", **settings)
    await consumer.start()
    try:
        read = [await asyncio.wait_for(consumer.getone(), PATIENCE_S) for _ in placed]
        await consumer.commit()
        parts = [TopicPartition(name, 0), TopicPartition(name, 1)]
        ends = await consumer.end_offsets(parts)
        begins = await consumer.beginning_offsets(parts)
        committed = [await consumer.committed(one) for one in parts]
        consumer.seek(parts[0], 7)
        again = await asyncio.wait_for(consumer.getone(parts[0]), PATIENCE_S)
    finally:
        await consumer.stop()
    return [
        ("placed", placed),
        ("read", sorted((one.partition, one.offset, one.key, one.value, one.headers) for one in read)),
        ("ends", [ends[one] for one in parts]),
        ("begins", [begins[one] for one in parts]),
        ("committed", committed),
        ("sought", (again.partition, again.offset)),
    ]


async def _transaction(address: str, name: str) -> Seen:
    producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=f"{name}-id")
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(name, b"kept", partition=0)
        try:
            async with producer.transaction():
                await producer.send_and_wait(name, b"dropped", partition=0)
                raise KeyError
        except KeyError:
            pass
        async with producer.transaction():
            await producer.send_and_wait(name, b"kept too", partition=0)
            await producer.send_offsets_to_transaction({TopicPartition(name, 0): 12}, f"{name}-copier")
    finally:
        await producer.stop()
    seen: Seen = []
    for isolation, count in (("read_committed", 2), ("read_uncommitted", 3)):
        consumer = AIOKafkaConsumer(bootstrap_servers=address, isolation_level=isolation, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(name, 0)])
            found: list[bytes] = []
            while len(found) < count:
                one = await asyncio.wait_for(consumer.getone(), PATIENCE_S)
                if b"kept" in one.value or b"dropped" in one.value:
                    found.append(one.value)
        finally:
            await consumer.stop()
        seen.append((isolation, found))
    try:
        consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=f"{name}-copier")
        await consumer.start()
        seen.append(("copier", await consumer.committed(TopicPartition(name, 0))))
        await consumer.stop()
    except KafkaError as error:
        seen.append(("copier", type(error).__name__))
    return seen
