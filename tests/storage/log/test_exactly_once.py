"""Consume, transform, produce, exactly once, while the broker is killed between any two steps of a commit."""

import pytest

from .undying import UndyingBroker

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


@pytest.fixture
def broker(tmp_path):
    made = UndyingBroker(tmp_path, CRASHES)
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
