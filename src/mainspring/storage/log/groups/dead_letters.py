"""Where records go that a share group has given out in vain as often as it may: to the topic `<topic>.dead`.

The record is copied, with where it came from in its headers, before the group's state says that it is done with: after a
crash in between it is copied again rather than lost.
"""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainspring.storage.log.errors import InvalidTopic, OffsetOutOfRange, TopicExists
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import Read, batches_in, build, records_in

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine
    from mainspring.storage.log.partition import Partition

SUFFIX = ".dead"
log = logging.getLogger(__name__)


async def bury(engine: "Engine", partition: "Partition", offsets: Iterable[int], group: str) -> None:
    """Copies the records at `offsets`, durably. Raises `StorageFailed` and the like where that cannot be."""
    name = f"{partition.topic.name}{SUFFIX}"
    for offset in offsets:
        record = _record(partition, offset)
        if record is None:
            continue
        if name not in engine.topics:
            try:
                await engine.create_topic(name)
            except TopicExists:
                log.debug("%s was made meanwhile", name)
            except InvalidTopic as error:
                log.warning("no dead letters for %s: %s", partition.topic.name, error)
                return
        headers = [
            *record.headers,
            ("mainspring-dead-topic", partition.topic.name.encode()),
            ("mainspring-dead-partition", b"%d" % partition.index),
            ("mainspring-dead-offset", b"%d" % offset),
            ("mainspring-dead-group", group.encode()),
        ]
        batch = build([(record.timestamp_ms, record.key, record.value, headers)])
        await engine.partition(name, 0).append(batch, origin=Origin.COORDINATOR).durable()


def _record(partition: "Partition", offset: int) -> Read | None:
    """None where the log no longer holds it, or holds none."""
    try:
        buffers = partition.read(offset, 1).buffers
    except OffsetOutOfRange:
        return None
    for buffer in buffers:
        for at, batch in batches_in(buffer):
            if not batch.control and batch.base_offset <= offset <= batch.last_offset:
                records = records_in(memoryview(buffer)[at : at + batch.size_bytes])
                return next((one for one in records if one.offset == offset), None)
    return None
