"""Exactly once as Java does it, while one side is killed: the broker under Kafka's own copier, or a Streams application."""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_java import TOOLS, JavaProgram, JavaTools
from tests.fixtures_kafka import KafkaBroker, OurBroker
from tests.needs import need_module

from .undying import UndyingBroker

need_module("confluent_kafka")
pytestmark = pytest.mark.peer

WAIT_S = 60.0
COUNT = 200
LINES = 200
STEPS = [f"log.transaction.{step}" for step in ("prepared", "marking", "marked", "completed")]
CHAIN = [f"{step}:{time}" for time in (1, 2, 4) for step in [*STEPS, "log.append.written", "log.append.synced"]]
LONG = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., UndyingBroker]]:
    made: list[UndyingBroker] = []

    def make(crashes: list[str]) -> UndyingBroker:
        made.append(UndyingBroker(tmp_path, crashes))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def make_topics(address: str, **partitions: int) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": address})
    topics = [NewTopic(name, count, 1) for name, count in partitions.items()]
    for future in admin.create_topics(topics, operation_timeout=WAIT_S).values():
        future.result(WAIT_S)


def produce(address: str, topic: str, values: list[str], partitions: int = 1) -> None:
    """Sends these, in turn to each partition."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for n, value in enumerate(values):
        producer.produce(topic, value, partition=n % partitions)
    assert producer.flush(WAIT_S) == 0


class Reader:
    """Of one partition every committed record, from the first on."""

    def __init__(self, address: str, topic: str) -> None:
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        self._end = KafkaError._PARTITION_EOF
        settings = {"bootstrap.servers": address, "group.id": "reader", "isolation.level": "read_committed"}
        self._consumer = Consumer(settings | {"enable.partition.eof": True, "reconnect.backoff.max.ms": 200})
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def read(self, enough: Callable[[Any], bool]) -> None:
        """Hands records to `enough` until it says so."""
        for message in iter(lambda: self._consumer.poll(WAIT_S), None):
            if message.error() is None and enough(message):
                return
        raise AssertionError(f"nothing more came for {WAIT_S} s")

    def rest(self) -> list[Any]:
        """What comes up to the end."""
        found = []
        for message in iter(lambda: self._consumer.poll(WAIT_S), None):
            if message.error() is None:
                found.append(message)
            elif message.error().code() == self._end:
                return found
        raise AssertionError(f"no end came for {WAIT_S} s")

    def close(self) -> None:
        self._consumer.close()


@pytest.mark.parametrize("crashes", [[f"{step}:3" for step in STEPS[::2]], pytest.param(CHAIN, marks=LONG)], ids=len)
def test_kafkas_copier_copies_each_record_once_though_the_broker_is_killed_in_commits(
    make_broker: Callable[..., UndyingBroker], java_tools: JavaTools, crashes: list[str]
) -> None:
    broker = make_broker(crashes)
    make_topics(broker.address, **{"in": 1, "out": 1})
    produce(broker.address, "in", [str(n) for n in range(COUNT)])
    said = java_tools.run(
        *(f"{TOOLS}.TransactionalMessageCopier", "--broker-list", broker.address, "--transactional-id", "copier"),
        *("--input-topic", "in", "--input-partition", "0", "--output-topic", "out", "--consumer-group", "copier"),
        *("--transaction-size", "5", "--use-group-metadata", "--enable-random-aborts"),
    )
    assert "ShutdownComplete" in said and broker.deaths == len(crashes)
    reader = Reader(broker.address, "out")
    try:
        assert [int(message.value()) for message in reader.rest()] == list(range(COUNT))
    finally:
        reader.close()


@pytest.mark.parametrize("of", ["ours", pytest.param("kafka", marks=LONG)])
def test_a_streams_application_that_is_killed_counts_each_word_once(
    request: pytest.FixtureRequest, java_classpath: str, tmp_path: Path, of: str
) -> None:
    broker: KafkaBroker | OurBroker = request.getfixturevalue(of)
    make_topics(broker.address, lines=2, counts=1)
    words = [[f"five{n % 5}", f"three{n % 3}", "all"] for n in range(2 * LINES)]
    lines = [" ".join(line) for line in words]
    produce(broker.address, "lines", lines[:LINES], 2)
    arguments = (broker.address, "word-count", "lines", "counts", str(tmp_path / "state"))
    application = JavaProgram(java_classpath, tmp_path / "streams.log", "WordCount", *arguments)
    reader = Reader(broker.address, "counts")
    counted: dict[str, list[int]] = defaultdict(list)

    def count(message: Any) -> int:
        counted[message.key().decode()].append(struct.unpack(">q", message.value())[0])
        return sum(map(len, counted.values()))

    try:
        application.start()
        reader.read(lambda message: count(message) > 0)
        application.kill()
        produce(broker.address, "lines", lines[LINES:], 2)
        application.start()
        reader.read(lambda message: count(message) == 3 * len(lines))
    except AssertionError as error:
        raise AssertionError(application.log()[-3000:]) from error
    finally:
        application.kill()
        reader.close()
    expected = {word: sum(line.count(word) for line in words) for line in words for word in line}
    assert counted == {word: list(range(1, count + 1)) for word, count in expected.items()}
