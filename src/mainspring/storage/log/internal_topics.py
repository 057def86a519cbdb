"""The topics that hold the coordinators' state: what is written there is true, what is in memory is read from there.

A key (a group's name, a transactional id) belongs to one partition, chosen as Kafka chooses it: Java's string hash, so that
Kafka's tools look in the right place. A turn's records are one batch, so a crash keeps all of them or none.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mainspring.storage.log.errors import TopicExists
from mainspring.storage.log.model import Appending
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.record_schemas import Record, Schema, decode, encode_key, encode_value
from mainspring.storage.log.records import Control, batches_in, build, marker_in, records_in

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine

CONSUMER_OFFSETS = "__consumer_offsets"
TRANSACTION_STATE = "__transaction_state"
SHARE_GROUP_STATE = "__share_group_state"

BATCH_BYTES_MAX = 64 << 20
READ_BYTES_MAX = 1 << 20


def java_hash(text: str) -> int:
    """Java's `String.hashCode`: over UTF-16 units, as a signed 32-bit number."""
    units = text.encode("utf-16-be", "surrogatepass")
    hashed = 0
    for at in range(0, len(units), 2):
        hashed = (31 * hashed + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return hashed - (1 << 32) if hashed >> 31 else hashed


def slot(key: str, partitions: int) -> int:
    """The partition that a key belongs to."""
    hashed = java_hash(key)
    return (0 if hashed == -(1 << 31) else abs(hashed)) % partitions


class InternalTopic:
    """One of them. `open` before all else; `index` says where a key belongs."""

    def __init__(self, engine: "Engine", name: str, schemas: tuple[Schema, ...], partitions: int) -> None:
        self.name = name
        self._engine = engine
        self._schemas = schemas
        self._partitions = partitions

    def exists(self) -> bool:
        return self.name in self._engine.topics

    async def open(self, cleanup_policy: str = "compact") -> None:
        """Creates the topic where it is missing; one that exists keeps its number of partitions."""
        if not self.exists():
            config = {
                "cleanup.policy": cleanup_policy,
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "max.message.bytes": str(BATCH_BYTES_MAX),
                "segment.bytes": str(BATCH_BYTES_MAX + (40 << 20)),
            }
            try:
                await self._engine.create_topic(self.name, self._partitions, config)
            except TopicExists:
                return
        else:
            self._partitions = len(self._engine.topics[self.name].partitions)

    @property
    def partitions(self) -> int:
        return self._partitions

    def index(self, key: str) -> int:
        return slot(key, self._partitions)

    def write(
        self, index: int, records: Iterable[Record], wall_ms: int, *, producer_id: int = -1, epoch: int = -1
    ) -> Appending:
        """Appends the records as one batch, as part of a producer's transaction where there is one."""
        batch = build(
            (
                (
                    wall_ms,
                    encode_key(one.schema, one.key),
                    None if one.value is None else encode_value(one.schema, one.value),
                    (),
                )
                for one in records
            ),
            producer_id=producer_id,
            epoch=epoch,
            transactional=producer_id >= 0,
        )
        return self._engine.partition(self.name, index).append(batch, origin=Origin.COORDINATOR)

    async def replay(
        self,
        index: int,
        take: Callable[[Record, int], None],
        ended: Callable[[int, bool], None] = lambda producer_id, commit: None,
    ) -> None:
        """Gives every record in order, with its transaction's producer or -1, and every transaction's end."""
        partition = self._engine.partition(self.name, index)
        offset = partition.log_start
        while offset < partition.high_watermark:
            await partition.warm(offset, READ_BYTES_MAX)
            before, fetched = offset, partition.read(offset, READ_BYTES_MAX)
            for buffer in fetched.buffers:
                for at, batch in batches_in(buffer):
                    offset = batch.next_offset
                    if batch.control:
                        said = marker_in(buffer, at, batch)
                        if said is not None:
                            ended(batch.producer_id, said[0] is Control.COMMIT)
                        continue
                    producer_id = batch.producer_id if batch.transactional else -1
                    for one in records_in(memoryview(buffer)[at : at + batch.size_bytes]):
                        record = None if one.key is None else decode(self._schemas, one.key, one.value)
                        if record is not None:
                            take(record, producer_id)
            if offset == before:
                return  # what is left was compacted away
            await asyncio.sleep(0)
