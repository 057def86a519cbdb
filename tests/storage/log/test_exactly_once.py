"""Consume, transform, produce, exactly once, while the broker is killed between any two steps of a commit."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mainspring.core.crash import VARIABLE

confluent = pytest.importorskip("confluent_kafka")

WAIT_S = 60.0
COUNT = 80
CRASHES = [
    "log.transaction.prepared:2",
    "log.transaction.marking:3",
    "log.transaction.marked:2",
    "log.transaction.completed:2",
]
PATIENT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50}


class Broker:
    """One after the other at the same address, the next as soon as one has died."""

    def __init__(self, folder: Path, crashes: list[str]) -> None:
        self._folder = folder
        self._crashes = list(crashes)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.deaths = 0
        self._stopping = False
        self._child = self._start()
        self._watch = threading.Thread(target=self._follow)
        self._watch.start()

    def _start(self) -> subprocess.Popen:
        environment = dict(os.environ)
        if self._crashes:
            environment[VARIABLE] = self._crashes.pop(0)
        handle = self._socket.fileno()
        command = [sys.executable, "-m", "tests.storage.log.broker_child", str(self._folder), str(handle)]
        return subprocess.Popen(command, env=environment, pass_fds=[handle])

    def _follow(self) -> None:
        while True:
            self._child.wait()
            if self._stopping:
                return
            self.deaths += 1
            self._child = self._start()

    def stop(self) -> None:
        self._stopping = True
        self._child.kill()
        self._watch.join()
        self._socket.close()


@pytest.fixture
def broker(tmp_path):
    made = Broker(tmp_path, CRASHES)
    yield made
    made.stop()


def make_producer(address: str):
    producer = confluent.Producer(
        {"bootstrap.servers": address, "transactional.id": "copier", "linger.ms": 0, "transaction.timeout.ms": 30_000}
        | PATIENT
    )
    producer.init_transactions(WAIT_S)
    return producer


def rewind(consumer) -> int:
    """Back to what the group has committed; gives that of the one partition."""
    assignment = consumer.assignment()
    if not assignment:
        return 0
    (committed,) = consumer.committed(assignment, WAIT_S)
    offset = max(0, committed.offset)
    consumer.seek(confluent.TopicPartition("in", committed.partition, offset))
    return offset


def copy(address: str) -> None:
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "copier",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
        | PATIENT
    )
    consumer.subscribe(["in"])
    done = 0
    while done < COUNT:
        messages = [one for one in consumer.consume(10, 0.2) if not one.error()]
        if not messages:
            continue
        # A producer for each: librdkafka's goes half a minute without sending positions after its group's node was away.
        producer = make_producer(address)
        try:
            producer.begin_transaction()
            for message in messages:
                producer.produce("out", b"copy of " + message.value())
            positions = consumer.position(consumer.assignment())
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), WAIT_S)
            producer.commit_transaction(WAIT_S)
            done = messages[-1].offset() + 1
        except confluent.KafkaException:
            # Whether it was committed nobody has said: the next producer ends it, and the positions tell.
            make_producer(address)
            done = rewind(consumer)
    consumer.close()


def read_committed(address: str) -> list[bytes]:
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        | PATIENT
    )
    consumer.assign([confluent.TopicPartition("out", 0, 0)])
    values: list[bytes] = []
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error() is None:
            values.append(message.value())
        elif message.error().code() == confluent.KafkaError._PARTITION_EOF:
            consumer.close()
            return values


def test_every_record_is_copied_once_though_the_broker_is_killed_at_each_step_of_a_commit(broker):
    producer = confluent.Producer({"bootstrap.servers": broker.address, "enable.idempotence": True} | PATIENT)
    for value in range(COUNT):
        producer.produce("in", str(value).encode())
    assert producer.flush(WAIT_S) == 0
    copy(broker.address)
    assert broker.deaths == len(CRASHES)
    assert read_committed(broker.address) == [b"copy of %d" % value for value in range(COUNT)]
