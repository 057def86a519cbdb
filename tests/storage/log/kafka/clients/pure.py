"""What a user of kafka-python, which is all Python, does and sees."""

import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import KafkaError

Seen = list[tuple[str, Any]]
PATIENCE_S = 60.0


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except KafkaError as error:
        return type(error).__name__


def run(address: str, name: str) -> Seen:
    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        seen: Seen = [
            ("created", outcome(lambda: admin.create_topics([NewTopic(name, 3, 1)]) and None)),
            ("created again", outcome(lambda: admin.create_topics([NewTopic(name, 3, 1)]) and None)),
            ("bad name", outcome(lambda: admin.create_topics([NewTopic("bad name", 1, 1)]) and None)),
            ("shrunk", outcome(lambda: admin.create_partitions({name: NewPartitions(1)}) and None)),
        ]
        seen += _records(address, name)
        (described,) = admin.describe_topics([name])
        seen.append(
            ("described", (described["name"], sorted(one["partition_index"] for one in described["partitions"])))
        )
        seen.append(("deleted", outcome(lambda: admin.delete_topics([name]) and None)))
        seen.append(("deleted again", outcome(lambda: admin.delete_topics([f"{name}-missing"]) and None)))
    finally:
        admin.close()
    return seen


def _records(address: str, name: str) -> Seen:
    placed = []
    # Its other codecs need packages of their own.
    for codec in (None, "gzip"):
        producer = KafkaProducer(bootstrap_servers=address, compression_type=codec, linger_ms=5)
        try:
            sent = [
                producer.send(
                    name, b"%d %s" % (number, str(codec).encode()) * 9, key=b"%d" % number, headers=[("n", b"x")]
                )
                for number in range(20)
            ]
            placed += [(one.partition, one.offset) for one in (future.get(PATIENCE_S) for future in sent)]
        finally:
            producer.close()
    consumer = KafkaConsumer(
        bootstrap_servers=address, group_id=f"{name}-group", auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        parts = [TopicPartition(name, index) for index in range(3)]
        consumer.assign(parts)
        read = _read_and_committed(consumer, len(placed))
        ends, begins = consumer.end_offsets(parts), consumer.beginning_offsets(parts)
        committed = [consumer.committed(one) for one in parts]
        first = min(one.timestamp for one in read.values())
        times = consumer.offsets_for_times(dict.fromkeys(parts, first))
        found = [times[one].offset if times[one] else None for one in parts]
    finally:
        consumer.close()
    return [
        ("placed", sorted(placed)),
        ("read", sorted((*place, one.key, one.value, list(one.headers)) for place, one in read.items())),
        ("ends", [ends[one] for one in parts]),
        ("begins", [begins[one] for one in parts]),
        ("committed", committed),
        ("at the first time", min(one for one in found if one is not None)),
    ]


def _read_and_committed(consumer: KafkaConsumer, count: int) -> dict[tuple[int, int], Any]:
    """Records by their place, their positions committed. It is no member of its group: under load this client joins again
    and again, on every broker."""
    read: dict[tuple[int, int], Any] = {}
    deadline_s = time.monotonic() + PATIENCE_S
    while len(read) < count and time.monotonic() < deadline_s:
        for batch in consumer.poll(200).values():
            read |= {(one.partition, one.offset): one for one in batch}
    assert len(read) == count, f"only {len(read)} of {count} records"
    consumer.commit()
    return read
