"""Topics made, filled and measured over the bare protocol."""

import time
from typing import Any

from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.records import Record, build
from tests.storage.log.kafka.wire import Wire

NOW_MS = time.time_ns() // 1_000_000
BATCH = build([Record(NOW_MS, b"k", b"v"), Record(NOW_MS, None, b"w")])


def make_topic(wire: Wire, name: str = "t", partitions: int = 1, **config: str) -> int:
    configs = [{"name": key.replace("_", "."), "value": value} for key, value in config.items()]
    asked = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": configs}
    (topic,) = wire.call(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000).topics
    return int(topic.error_code)


def produce(wire: Wire, records: bytes | None, topic: str = "t", index: int = 0, acks: int = -1) -> int:
    partition = {"index": index, "records": records}
    answer = wire.call(
        ApiKey.PRODUCE, 9, acks=acks, timeout_ms=30_000, topic_data=[{"name": topic, "partition_data": [partition]}]
    )
    return int(answer.responses[0].partition_responses[0].error_code)


def end_offset(wire: Wire, topic: str = "t") -> int:
    asked = [{"name": topic, "partitions": [{"partition_index": 0, "timestamp": -1}]}]
    return int(wire.call(ApiKey.LIST_OFFSETS, 5, topics=asked).topics[0].partitions[0].offset)


def fetched(
    wire: Wire,
    wanted: dict[int, int],
    topic: str = "t",
    *,
    bytes_max: int = 1 << 20,
    partition_bytes_max: int = 1 << 20,
    max_wait_ms: int = 0,
    **fields: Any,
) -> Any:
    """A Fetch in version 11: partitions to their offsets."""
    partitions = [
        {"partition": index, "fetch_offset": offset, "partition_max_bytes": partition_bytes_max, "log_start_offset": -1}
        for index, offset in wanted.items()
    ]
    asked = {"session_id": 0, "session_epoch": -1, "min_bytes": 1, "rack_id": ""} | fields
    topics = [{"topic": topic, "partitions": partitions}] if partitions else []
    return wire.call(ApiKey.FETCH, 11, max_wait_ms=max_wait_ms, max_bytes=bytes_max, topics=topics, **asked)


def parts(answer: Any) -> dict[int, Any]:
    """The partitions of an answer of one topic."""
    return {one.partition_index: one for topic in answer.responses for one in topic.partitions}
