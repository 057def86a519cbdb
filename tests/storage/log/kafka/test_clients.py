"""One script per client, run against the real Kafka and against us: what it sees must be the same."""

import importlib
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fixtures_java import JavaTools
from tests.fixtures_kafka import KafkaBroker, OurBroker

pytestmark = pytest.mark.peer


def same(script: Callable[[str, str], list[tuple[str, Any]]], kafka: KafkaBroker, ours: OurBroker) -> None:
    """Runs it on both at once; both see the same names, which nobody else uses."""
    name = f"s{uuid.uuid4().hex[:12]}"
    with ThreadPoolExecutor(2) as threads:
        there, here = (threads.submit(script, broker.address, name) for broker in (kafka, ours))
        theirs, mine = there.result(), here.result()
    assert [step for step, _ in mine] == [step for step, _ in theirs]
    for (step, ours_saw), (_, kafka_saw) in zip(mine, theirs, strict=True):
        assert ours_saw == kafka_saw, step


def test_confluent_kafka_sees_the_same(kafka: KafkaBroker, ours: OurBroker) -> None:
    from tests.storage.log.kafka.clients import confluent

    same(confluent.run, kafka, ours)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_confluent_kafka_sees_the_same_in_a_group(kafka: KafkaBroker, ours: OurBroker, protocol: str) -> None:
    from tests.storage.log.kafka.clients import confluent

    same(lambda address, name: confluent.groups(address, name, protocol), kafka, ours)


def test_confluent_kafka_sees_the_same_of_transactions(kafka: KafkaBroker, ours: OurBroker) -> None:
    from tests.storage.log.kafka.clients import confluent

    same(confluent.transactions, kafka, ours)


@pytest.mark.parametrize("client", ["bare", "aio", "pure", "kcat", "kafkajs", "platformatic"])
def test_other_clients_see_the_same(kafka: KafkaBroker, ours: OurBroker, client: str) -> None:
    script = importlib.import_module(f"tests.storage.log.kafka.clients.{client}")
    same(script.run, kafka, ours)


def test_kafkas_own_tools_see_the_same(kafka: KafkaBroker, ours: OurBroker, java_tools: JavaTools) -> None:
    from tests.storage.log.kafka.clients import java

    same(lambda address, name: java.run(java_tools, address, name), kafka, ours)
