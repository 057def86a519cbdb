"""Appending once for an idempotency key, however often the request comes and wherever it was cut off.

The log recognises a producer's repeated batch and gives it the first one's offsets. So each key is a producer of its own: its
id is the key's hash, in a range that no coordinator hands out, and its first batches in each partition are the request's. What
must be the same the second time and is not in the request, the partitions that its records go to, is kept with the key in the
database before anything is appended. A crash between the two leaves a plan; the next try carries it out.

The log remembers a producer for `producer.id.expiration.ms`, by default as long as the database remembers a key: 24 hours.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random

import msgspec

from mainspring.core.crash import crash_point
from mainspring.core.once import Once, write
from mainspring.core.ports import Connection, Database, Position
from mainspring.storage.log.appending import check_partition, spread
from mainspring.storage.log.errors import InvalidRecord, InvalidTimestamp, MessageTooLarge
from mainspring.storage.log.packing import HEADER_BYTES_AROUND, RECORD_BYTES_AROUND, New
from mainspring.storage.log.producers import BATCHES_KEPT
from mainspring.storage.log.records import HEADER_BYTES, build
from mainspring.storage.log.service import Log
from mainspring.storage.log.topics import Topic

PRODUCER_IDS_FROM = 1 << 62


class Plan(msgspec.Struct, frozen=True):
    """The partition of each record, in the order of the request."""

    partitions: list[int]


async def append(log: Log, database: Database, once: Once, topic: Topic, records: Sequence[New]) -> list[Position]:
    """Appends all, in order by partition. Raises `LogError` and `KeyReused`."""
    now_ms = log.clock.wall_ns() // 1_000_000
    check(topic, records, now_ms)
    planned = spread(topic, records, Random(once.digest))
    plan = await write(database, once, Plan, _kept, planned)
    crash_point("log.once.planned")
    await log.may_append()
    producer_id = PRODUCER_IDS_FROM | int.from_bytes(blake2b(once.key.encode(), digest_size=8).digest()) >> 2
    shares: dict[int, list[int]] = {}
    for at, index in enumerate(plan.partitions):
        shares.setdefault(index, []).append(at)
    batches = [
        (index, places, _batch(records, places, now_ms, producer_id, sequence))
        for index, share in shares.items()
        for sequence, places in _batches(topic, records, share)
    ]
    appended = [
        (index, places, log.engine.partition(topic.name, index).append(batch)) for index, places, batch in batches
    ]
    positions: list[Position | None] = [None] * len(records)
    crash_point("log.once.appending")
    for index, places, appending in appended:
        await appending.durable()
        for n, at in enumerate(places):
            positions[at] = Position(topic.name, index, appending.base_offset + n)
    crash_point("log.once.appended")
    once.replayed = all(appending.repeated for _, _, appending in appended)
    return [position for position in positions if position is not None]


def check(topic: Topic, records: Sequence[New], now_ms: int) -> None:
    """What would be refused of one partition's records, before another's are appended.

    Raises `UnknownPartition`, `InvalidRecord`, `InvalidTimestamp` or `MessageTooLarge`.
    """
    config = topic.config
    for new in records:
        if new.partition is not None:
            check_partition(topic, new.partition)
        if config.is_compacted and new.key is None:
            raise InvalidRecord("a compacted topic accepts no record without a key")
        at_ms = now_ms if new.timestamp_ms is None else new.timestamp_ms
        if not config.stamps and at_ms > now_ms + config.message_timestamp_after_max_ms:
            raise InvalidTimestamp(f"{at_ms} is too far ahead of {now_ms}")
        if not config.stamps and at_ms < now_ms - config.message_timestamp_before_max_ms:
            raise InvalidTimestamp(f"{at_ms} is too long before {now_ms}")
        if HEADER_BYTES + record_bytes(new) > config.max_message_bytes:
            raise MessageTooLarge(f"{topic.name} accepts {config.max_message_bytes} bytes")


def _batches(topic: Topic, records: Sequence[New], share: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """(first sequence, records) of as few batches as the topic's largest allows: the same ones at every try.

    Raises `MessageTooLarge` where they are more than the log remembers of a producer.
    """
    bytes_max = topic.config.max_message_bytes
    found: list[tuple[int, list[int]]] = []
    size_bytes = bytes_max + 1
    for n, at in enumerate(share):
        more_bytes = record_bytes(records[at])
        if size_bytes + more_bytes > bytes_max:
            found.append((n, []))
            size_bytes = HEADER_BYTES
        found[-1][1].append(at)
        size_bytes += more_bytes
    if len(found) > BATCHES_KEPT:
        raise MessageTooLarge(f"with an Idempotency-Key at most {BATCHES_KEPT} batches of {bytes_max} bytes")
    yield from found


def _batch(records: Sequence[New], places: Sequence[int], now_ms: int, producer_id: int, sequence: int) -> bytes:
    chosen = [records[at] for at in places]
    return build(
        [(now_ms if new.timestamp_ms is None else new.timestamp_ms, new.key, new.value, new.headers) for new in chosen],
        producer_id=producer_id,
        epoch=0,
        sequence=sequence,
    )


def record_bytes(new: New) -> int:
    """At most so many bytes of a batch are this record's."""
    size_bytes = RECORD_BYTES_AROUND + len(new.key or b"") + len(new.value or b"")
    return size_bytes + sum(HEADER_BYTES_AROUND + 4 * len(name) + len(value or b"") for name, value in new.headers)


def _kept(connection: Connection, partitions: list[int]) -> Plan:
    return Plan(partitions)
