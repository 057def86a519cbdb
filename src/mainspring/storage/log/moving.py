"""Moving a log to Apache Kafka: topics with their settings, every committed record, and where every group stands.

Records keep their partition, order, key, headers and time; offsets begin at 0 over there, so positions are counted anew: a
group goes on with the same record. Everything is read back and compared before any position is written, so a move that was cut
short has changed nothing here, and begins anew with topics that are empty.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mainspring.core.outbox.steps import commits
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Problem
from mainspring.storage.log.apache_client import ANSWER_S, settings_of
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.positions import Owned
from mainspring.storage.log.reader import READ_BYTES, read_some
from mainspring.storage.log.records import Read
from mainspring.storage.log.service import Log

READ_RECORDS = 1_000
COMMIT_TRIES, COMMIT_AGAIN_S = 60, 0.5
COORDINATOR_MOVES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._WAIT_COORD,
)
NOT_KAFKAS = ("compression.gzip.level", "compression.lz4.level", "compression.zstd.level")

Progress = Callable[[str, int], None]
"""Called with `copied` or `verified` and how many records of all have been."""


class CannotMove(Problem):
    status, type, title = 409, "log/cannot-move", "The log cannot be moved there"


class Moved(msgspec.Struct):
    """What is there now."""

    topics: int = 0
    records: int = 0
    groups: int = 0


class _Share:
    """One partition's records, as they go and as they come back, and the positions in it that are asked for."""

    def __init__(self, partition: Partition, positions: set[int]) -> None:
        self.partition = partition
        self.where: Owned = (partition.topic.name, partition.index)
        self.count = 0
        self.digest = hashlib.sha256()
        self.translated: dict[int, int] = {}
        self._asked = sorted(positions)

    def pass_on(self, read: Read) -> None:
        """A record goes there: every position up to its own is the number of records before it."""
        while self._asked and self._asked[0] <= read.offset:
            self.translated[self._asked.pop(0)] = self.count
        self.count += 1
        _take_in(self.digest, read.timestamp_ms, read.key, read.value, read.headers)

    def finish(self) -> None:
        for position in self._asked:
            self.translated[position] = self.count
        self._asked = []


async def move_to_kafka(log: Log, database: Database, address: str, progress: Progress) -> Moved:
    """Copies, verifies, and then moves the positions. Nobody may use the log meanwhile.

    Raises `CannotMove` where a topic over there has records, cannot be made, or does not come back as it was sent.
    """
    settings = settings_of(address)
    stored = await database.read(_stored)
    coordinator = await log.groups.opened()
    committed = {name: await log.groups.committed(name) for name in tuple(coordinator.groups)}
    asked: dict[Owned, set[int]] = {}
    everything: list[Mapping[Owned, int | None]] = [*stored.values(), *committed.values()]
    for positions in everything:
        for where, position in positions.items():
            if position is not None:
                asked.setdefault(where, set()).add(position)
    topics = [topic for topic in log.engine.topics.values() if not topic.internal]
    shares = [
        _Share(partition, asked.get((topic.name, partition.index), set()))
        for topic in topics
        for partition in topic.partitions
    ]
    moved = Moved(topics=len(topics))
    try:
        await asyncio.to_thread(_make_topics, settings, [_described(topic) for topic in topics])
        await _copy(settings, shares, progress)
        moved.records = sum(share.count for share in shares)
        await asyncio.to_thread(_verify, settings, shares, progress)
        translated = {share.where: share.translated for share in shares}
        for name, positions in committed.items():
            if ends := _there(positions, translated):
                await _commit(log, settings, name, ends)
                moved.groups += 1
    except KafkaException as error:
        raise CannotMove(f"Kafka: {error.args[0].str()}") from error
    await database.write(_store, {name: _there(positions, translated) for name, positions in stored.items()})
    return moved


def record_count(log: Log) -> int:
    """About how many records there are to move: what has been compacted away counts as well."""
    return sum(
        partition.high_watermark - partition.log_start
        for topic in log.engine.topics.values()
        if not topic.internal
        for partition in topic.partitions
    )


def _described(topic: Any) -> NewTopic:
    given = {name: value for name, value in topic.config.given.items() if name not in NOT_KAFKAS}
    return NewTopic(topic.name, len(topic.partitions), -1, config=given)


def _make_topics(settings: dict[str, Any], wanted: list[NewTopic]) -> None:
    """Makes what is missing. What is there must have as many partitions and be empty."""
    admin = AdminClient(settings)
    there = admin.list_topics(timeout=ANSWER_S).topics
    missing = [topic for topic in wanted if topic.topic not in there]
    for future in (admin.create_topics(missing, operation_timeout=ANSWER_S) if missing else {}).values():
        future.result(2 * ANSWER_S)
    consumer = Consumer(settings | {"group.id": "mainspring-move", "enable.auto.commit": False})
    try:
        for topic in wanted:
            if topic.topic not in there:
                continue
            if len(there[topic.topic].partitions) != topic.num_partitions:
                raise CannotMove(f"{topic.topic} is there with another number of partitions")
            for index in range(topic.num_partitions):
                _, end = consumer.get_watermark_offsets(KafkaPartition(topic.topic, index), timeout=ANSWER_S)
                if end:
                    raise CannotMove(
                        f"{topic.topic}-{index} has records there: delete that topic, or name another Kafka"
                    )
    finally:
        consumer.close()


async def _copy(settings: dict[str, Any], shares: list[_Share], progress: Progress) -> None:
    producer = Producer(settings | {"enable.idempotence": True, "acks": "all", "linger.ms": 20})
    failures: list[KafkaError] = []
    done = 0

    def answered(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            failures.append(error)

    def send(where: Owned, records: list[Read]) -> None:
        for read in records:
            _send(producer, where, read, answered)
        if failures:
            raise KafkaException(failures[0])

    for share in shares:
        partition, offset = share.partition, share.partition.log_start
        while offset < partition.last_stable:
            await partition.warm(offset, READ_BYTES)
            seen = read_some(partition, offset, "read_committed", READ_RECORDS)
            for read in seen.records:
                share.pass_on(read)
            await asyncio.to_thread(send, share.where, seen.records)
            offset = seen.next_offset
            done += len(seen.records)
            progress("copied", done)
        share.finish()
    left = await asyncio.to_thread(producer.flush, 4 * ANSWER_S)
    if failures:
        raise KafkaException(failures[0])
    if left:
        raise CannotMove("Kafka does not take the records in time")


def _send(producer: Producer, where: Owned, read: Read, answered: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(
                where[0],
                read.value,
                read.key,
                partition=where[1],
                headers=list(read.headers),
                timestamp=read.timestamp_ms,
                on_delivery=answered,
            )
        except BufferError:
            producer.poll(1)
        else:
            producer.poll(0)
            return


def _verify(settings: dict[str, Any], shares: list[_Share], progress: Progress) -> None:
    """Reads everything back. Raises `CannotMove` where it is not what was sent."""
    done = 0
    consumer = Consumer(
        settings | {"group.id": "mainspring-move", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    try:
        for share in shares:
            digest = hashlib.sha256()
            consumer.assign([KafkaPartition(*share.where, 0)] if share.count else [])
            for offset in range(share.count):
                message = consumer.poll(ANSWER_S)
                if message is None:
                    raise CannotMove(f"{share.where[0]}-{share.where[1]} ends at {offset} there, not at {share.count}")
                if message.error() is not None:
                    raise KafkaException(message.error())
                if message.offset() != offset:
                    raise CannotMove(
                        f"{share.where[0]}-{share.where[1]} has {message.offset()} there in place of {offset}"
                    )
                _take_in(digest, message.timestamp()[1], message.key(), message.value(), message.headers() or [])
                done += 1
                if done % READ_RECORDS == 0:
                    progress("verified", done)
            if digest.digest() != share.digest.digest():
                raise CannotMove(f"{share.where[0]}-{share.where[1]} did not arrive as it was sent")
    finally:
        consumer.close()
    progress("verified", done)


async def _commit(log: Log, settings: dict[str, Any], group: str, ends: dict[Owned, int]) -> None:
    """A group that is new there has its coordinator found first, which may take a few tries."""
    wanted = [KafkaPartition(topic, partition, end) for (topic, partition), end in ends.items()]
    admin = AdminClient(settings)
    for _ in range(COMMIT_TRIES):
        future = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])[group]
        try:
            errors = [one.error for one in (await asyncio.wrap_future(future)).topic_partitions if one.error]
        except KafkaException as error:
            errors = [error.args[0]]
        if not errors:
            return
        if errors[0].code() not in COORDINATOR_MOVES:
            raise KafkaException(errors[0])
        await log.clock.sleep(COMMIT_AGAIN_S)
    raise CannotMove(f"Kafka finds no coordinator for the group {group}")


def _take_in(digest: Any, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
    digest.update(msgspec.msgpack.encode((timestamp_ms, key, value, [(name, given) for name, given in headers])))


def _there(positions: Any, translated: dict[Owned, dict[int, int]]) -> dict[Owned, int]:
    return {
        where: translated[where][position]
        for where, position in positions.items()
        if position is not None and where in translated
    }


def _stored(connection: Connection) -> dict[str, dict[Owned, int]]:
    return {group: commits.all_positions(connection, group) for group in commits.groups(connection)}


def _store(connection: Connection, positions: dict[str, dict[Owned, int]]) -> None:
    for group, ends in positions.items():
        commits.put(connection, group, ends)
