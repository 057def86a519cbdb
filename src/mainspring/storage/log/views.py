"""What the JSON API of the log shows: its shapes, and how the engine's things become them.

Bytes are shown as text where they are UTF-8, else in the field of the same name with `_base64`. Offsets and times are numbers;
ids of producers, which may have 64 bits, are texts.
"""

from base64 import b64encode
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mainspring.storage.log.partition import Partition
from mainspring.storage.log.records import Read
from mainspring.storage.log.settings import SETTINGS
from mainspring.storage.log.topics import Topic
from mainspring.storage.log.transaction_machine import Transaction

PARTITIONS_SHOWN = 1_000


class TopicRow(msgspec.Struct):
    """`records` counts offsets, those of markers and of what compaction has taken included."""

    name: str
    internal: bool
    partitions: int
    records: int
    size_bytes: int
    cleanup_policy: str


class PartitionView(msgspec.Struct):
    """`high_watermark` is the end of what readers may see, `last_stable` of what readers of committed records may."""

    partition: int
    leader: int
    leader_epoch: int
    log_start: int
    high_watermark: int
    last_stable: int
    size_bytes: int
    segments: int
    open_transactions: int
    failure: str | None


class SettingView(msgspec.Struct):
    """A setting in force; `given` where it was set for this topic alone."""

    name: str
    value: str
    given: bool
    kind: str
    help: str


class TopicView(msgspec.Struct):
    """`partitions` are at most a thousand of the `partition_count` that there are."""

    name: str
    id: str
    internal: bool
    partition_count: int
    records: int
    size_bytes: int
    partitions: list[PartitionView]
    settings: list[SettingView]


class HeaderView(msgspec.Struct, omit_defaults=True):
    name: str
    value: str | None
    value_base64: str | UnsetType = UNSET


class RecordView(msgspec.Struct, omit_defaults=True):
    """A record; a value that is null, with no `value_base64`, is a tombstone. `cut_bytes` of it are not shown: a tail
    shows the first 64 KiB of a value."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: str | None
    headers: list[HeaderView]
    key_base64: str | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET
    cut_bytes: int | UnsetType = UNSET


class RecordsPage(msgspec.Struct):
    """`scanned` records were looked at; with `next` there are more to look at, though perhaps none that fits."""

    items: list[RecordView]
    scanned: int
    next: str | None


class PlaceView(msgspec.Struct):
    partition: int
    offset: int


class Produced(msgspec.Struct):
    """Where each record is, in the order of the request."""

    positions: list[PlaceView]


class SegmentView(msgspec.Struct):
    """A file of a partition; the newest is the one that is written to. `max_timestamp_ms` is -1 of an empty one."""

    file: str
    base_offset: int
    size_bytes: int
    max_timestamp_ms: int
    active: bool


class SlotView(msgspec.Struct):
    topic: str
    partition: int


class TransactionView(msgspec.Struct):
    """A transactional id and its transaction, the one that is open or the last; `started_at_ms` is -1 before the first."""

    id: str
    state: str
    producer_id: str
    epoch: int
    timeout_ms: int
    started_at_ms: int
    updated_at_ms: int
    partitions: list[SlotView]


class BrokerView(msgspec.Struct):
    id: int
    controller: bool


class ClusterView(msgspec.Struct):
    cluster_id: str
    brokers: list[BrokerView]
    topics: int
    partitions: int
    size_bytes: int
    flush_policy: str
    failed_partitions: list[str]


def text_and_base64(data: bytes | None) -> tuple[str | None, str | UnsetType]:
    if data is None:
        return None, UNSET
    try:
        return data.decode(), UNSET
    except UnicodeDecodeError:
        return None, b64encode(data).decode()


def cut_view(partition: int, read: Read, value_bytes_max: int) -> RecordView:
    """A record with at most so many bytes of its value, without half a letter at the end."""
    cut_bytes = len(read.value or b"") - value_bytes_max
    if cut_bytes <= 0 or read.value is None:
        return record_view(partition, read)
    start = read.value[:value_bytes_max]
    for letter_bytes in range(1, 4):
        # A letter of UTF-8 begins at most three bytes before the cut.
        if start[-letter_bytes] >= 0xC0:
            cut_bytes, start = cut_bytes + letter_bytes, start[:-letter_bytes]
            break
    view = record_view(partition, read._replace(value=start))
    view.cut_bytes = cut_bytes
    return view


def record_view(partition: int, read: Read) -> RecordView:
    key, key_base64 = text_and_base64(read.key)
    value, value_base64 = text_and_base64(read.value)
    headers = [HeaderView(name, *text_and_base64(data)) for name, data in read.headers]
    return RecordView(partition, read.offset, read.timestamp_ms, key, value, headers, key_base64, value_base64)


def topic_row(topic: Topic) -> TopicRow:
    return TopicRow(
        topic.name,
        topic.internal,
        len(topic.partitions),
        sum(one.high_watermark - one.log_start for one in topic.partitions),
        sum(one.size_bytes for one in topic.partitions),
        ",".join(sorted(topic.config.cleanup_policy)),
    )


def topic_view(topic: Topic, node_id: int, first: int = 0) -> TopicView:
    given = topic.config.given
    settings = [
        SettingView(name, given.get(name) or _as_written(topic.config[name]), name in given, setting.kind, setting.help)
        for name, setting in SETTINGS.items()
    ]
    row = topic_row(topic)
    shown = [partition_view(one, node_id) for one in topic.partitions[first : first + PARTITIONS_SHOWN]]
    return TopicView(
        row.name, str(topic.id), row.internal, row.partitions, row.records, row.size_bytes, shown, settings
    )


def partition_view(one: Partition, node_id: int) -> PartitionView:
    return PartitionView(
        one.index,
        node_id,
        one.leader_epoch,
        one.log_start,
        one.high_watermark,
        one.last_stable,
        one.size_bytes,
        len(one.segments),
        len(one.open_transactions),
        None if one.failure is None else one.failure.detail,
    )


def transaction_view(one: Transaction) -> TransactionView:
    return TransactionView(
        one.id,
        one.state.title,
        str(one.producer_id),
        one.epoch,
        one.timeout_ms,
        one.started_ms,
        one.updated_ms,
        [SlotView(topic, index) for topic, index in sorted(one.slots)],
    )


def segment_views(partition: Partition) -> list[SegmentView]:
    last = len(partition.segments) - 1
    return [
        SegmentView(f"{one.base:020}.log", one.base, one.size, one.max_timestamp, active=at == last)
        for at, one in enumerate(partition.segments)
    ]


def _as_written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(sorted(value)) if isinstance(value, frozenset) else str(value)
