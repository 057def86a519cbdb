"""A broker that is restarted, killed, paused or cut off while clients write and read: nothing is lost, doubled or out of order.

The histories are checked partition by partition: what the producer was told, what lies in the log, and what a group saw.
"""

import itertools
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need_module

from .line import Line
from .undying import UndyingBroker

need_module("confluent_kafka")
pytestmark = pytest.mark.peer

PATIENCE_S = 60.0
PARTITIONS = 3
MEMBERS = 2
OPEN_MAX, AHEAD_MAX = 100, 1_000
"""How many records are on their way at most, and how many has nobody seen yet."""
STEP = 60
"""How many more records have to be acknowledged, and seen, before the next fault."""
SESSION_MS = 2_000
CLIENT = {
    "log_level": 0,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 50,
    "socket.timeout.ms": SESSION_MS,
}


def wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.005)


class Writer(threading.Thread):
    """Numbers, one after the other, in turn to each partition, until it is told to stop."""

    def __init__(self, address: str, members: list["Member"]) -> None:
        from confluent_kafka import Producer

        super().__init__(name="writer")
        self._members = members
        self.acknowledged: dict[int, dict[int, int]] = defaultdict(dict)
        """Of each partition, offsets and the numbers that were said to lie there."""
        self.failures: list[Any] = []
        self.errors = 0
        self.sent = 0
        self.stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "linger.ms": 1,
                "error_cb": self._count_error,
                **CLIENT,
            }
        )

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def run(self) -> None:
        for number in itertools.count():
            if self.stop.is_set() or self.failures:
                break
            self._producer.produce(
                "load", str(number), partition=number % PARTITIONS, on_delivery=lambda *told: self._told(*told)
            )
            self.sent += 1
            self._producer.poll(0)
            while len(self._producer) > OPEN_MAX or (self._is_ahead() and not self.stop.is_set()):
                self._producer.poll(0.01)
        self._producer.flush(PATIENCE_S)

    def _is_ahead(self) -> bool:
        return self.sent - sum(len(one.seen) for one in self._members) > AHEAD_MAX

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failures.append(error)
        else:
            self.acknowledged[message.partition()][message.offset()] = int(message.value())

    def _count_error(self, _: Any) -> None:
        self.errors += 1


class Member(threading.Thread):
    """Reads what its group gives it, and commits; what it may not commit, it has read in vain."""

    def __init__(self, address: str) -> None:
        super().__init__(name="member")
        self.seen: set[tuple[int, int, int]] = set()
        """Partition, offset, number."""
        self.disorder: list[str] = []
        self.stop = threading.Event()
        self._address = address
        self._next: dict[int, int] = {}

    def run(self) -> None:
        from confluent_kafka import Consumer, KafkaException

        consumer = Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": "readers",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 4,
                **CLIENT,
            }
        )
        consumer.subscribe(["load"], on_assign=lambda *_: self._next.clear())
        while not self.stop.is_set():
            messages = [one for one in consumer.consume(20, 0.1) if one.error() is None]
            for one in messages:
                expected = self._next.get(one.partition(), one.offset())
                if one.offset() != expected:
                    self.disorder.append(f"{one.partition()}: {one.offset()} and not {expected}")
                self._next[one.partition()] = one.offset() + 1
                self.seen.add((one.partition(), one.offset(), int(one.value())))
            if messages:
                try:
                    consumer.commit(asynchronous=False)
                except KafkaException:
                    continue  # the broker is away, or the partitions are another's: somebody reads it again
        consumer.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
def broker(tmp_path: Path, line: Line) -> Iterator[UndyingBroker]:
    made = UndyingBroker(tmp_path, line=line)
    yield made
    made.stop()


def everything(address: str) -> tuple[dict[int, list[tuple[int, int]]], dict[int, int]]:
    """Offsets and numbers of each partition, and where the group stands."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    settings = {"bootstrap.servers": address, "group.id": "readers", "enable.partition.eof": True, **CLIENT}
    consumer = Consumer(settings | {"enable.auto.commit": False})
    partitions = [TopicPartition("load", index, 0) for index in range(PARTITIONS)]
    committed = {one.partition: one.offset for one in consumer.committed(partitions, PATIENCE_S)}
    consumer.assign(partitions)
    found: dict[int, list[tuple[int, int]]] = {index: [] for index in range(PARTITIONS)}
    ended: set[int] = set()
    while len(ended) < PARTITIONS:
        message = consumer.poll(PATIENCE_S)
        assert message is not None
        if message.error() is None:
            found[message.partition()].append((message.offset(), int(message.value())))
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
    consumer.close()
    return found, committed


def restart(broker: UndyingBroker, writer: Writer, line: Line) -> None:
    ended = broker.deaths
    broker.send(signal.SIGTERM)
    wait_for(lambda: broker.deaths > ended, "the broker does not end")
    assert broker.exits[-1] == 0


def kill(broker: UndyingBroker, writer: Writer, line: Line) -> None:
    ended = broker.deaths
    broker.send(signal.SIGKILL)
    wait_for(lambda: broker.deaths > ended, "the broker is not dead")


def pause(broker: UndyingBroker, writer: Writer, line: Line) -> None:
    """For longer than a session lasts: until the producer has lost its patience, which is as long."""
    broker.send(signal.SIGSTOP)
    errors = writer.errors
    wait_for(lambda: writer.errors > errors, "the producer does not notice")
    broker.send(signal.SIGCONT)


def cut_answers(broker: UndyingBroker, writer: Writer, line: Line) -> None:
    """The broker does what it is asked, and nobody hears of it: everything is asked again, on new connections too."""
    cut(line.to_clients, writer)


def cut_requests(broker: UndyingBroker, writer: Writer, line: Line) -> None:
    """What was asked arrives when those who asked have long gone, after they have asked again."""
    cut(line.to_broker, writer)


def cut(direction: threading.Event, writer: Writer) -> None:
    errors = writer.errors
    direction.clear()
    wait_for(lambda: writer.errors > errors, "the producer does not notice")
    direction.set()


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (restart, 2),
        (pause, 1),
        (cut_answers, 1),
        pytest.param(cut_requests, 1, marks=pytest.mark.slow),
        pytest.param(cut_answers, 5, marks=pytest.mark.slow),
        pytest.param(cut_requests, 5, marks=pytest.mark.slow),
        pytest.param(kill, 5, marks=pytest.mark.slow),
        pytest.param(pause, 5, marks=pytest.mark.slow),
        pytest.param(restart, 10, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost_doubled_or_reordered_while_a_broker_under_load_meets_a(
    broker: UndyingBroker, line: Line, fault: Callable[[UndyingBroker, Writer, Line], None], times: int
) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic("load", PARTITIONS, 1)])["load"].result(PATIENCE_S)
    members = [Member(broker.address) for _ in range(MEMBERS)]
    writer = Writer(broker.address, members)
    threads = [writer, *members]
    for one in threads:
        one.start()

    def seen() -> set[tuple[int, int, int]]:
        return set().union(*(tuple(one.seen) for one in members))

    try:
        for _ in range(times):
            for count in (lambda: writer.count, lambda: len(seen())):
                enough = count() + STEP
                wait_for(lambda count=count, enough=enough: count() >= enough, "nothing goes on")
            fault(broker, writer, line)
        for count in (lambda: writer.count, lambda: len(seen())):
            enough = count() + STEP
            wait_for(lambda count=count, enough=enough: count() >= enough, "nothing goes on after the last fault")
        writer.stop.set()
        writer.join(PATIENCE_S)
        wait_for(lambda: len(seen()) >= writer.sent, "the group does not see everything")
    finally:
        for one in threads:
            one.stop.set()
        for one in threads:
            one.join(PATIENCE_S)
    assert not writer.failures and not any(one.is_alive() for one in threads)
    found, committed = everything(broker.address)
    for index, records in found.items():
        assert [number for _, number in records] == list(range(index, writer.sent, PARTITIONS)), "each once, in order"
        assert dict(records) == writer.acknowledged[index], "each where its producer was told that it is"
        assert {(index, *record) for record in records} == {one for one in seen() if one[0] == index}
        assert 0 <= committed[index] <= len(records)
    assert not [line for one in members for line in one.disorder]
