"""What every client of an Apache Kafka shares here: settings from an address, a thread of its own, errors by their meaning.

librdkafka's clients block; each is used in one thread, and what waits for it is awaited on the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException

from mainspring.core.ports import Record
from mainspring.core.problems import Problem, Unavailable
from mainspring.storage.log.errors import InvalidTopic, MessageTooLarge, UnknownPartition
from mainspring.storage.log.groups.errors import IllegalGeneration
from mainspring.storage.log.transaction_errors import ProducerFenced

T = TypeVar("T")

ANSWER_S = 30.0
"""How long a broker may take: then what was asked raises `Unavailable`."""

BATCH_BYTES_MAX = 1_000_000

LOST_ITS_GENERATION = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
)
FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
NO_PARTITION = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class Worker:
    """The one thread in which a client is used."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls something that waits for the brokers. Raises a `Problem` that says what a caller can do about it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except KafkaException as error:
            raise meaning(error) from error
        except BufferError as error:
            raise Unavailable("more waits for Kafka than may wait") from error

    def end(self, function: Callable[[], object] | None = None) -> "Future[object] | None":
        """Calls this last, and does not wait for it."""
        last = None if function is None else self._thread.submit(function)
        self._thread.shutdown(wait=False)
        return last


def reach_kafka(address: str, timeout_s: float) -> None:
    """Returns once a broker of an Apache Kafka has answered. Raises `KafkaException`, and `ValueError` for no address."""
    from confluent_kafka.admin import AdminClient

    AdminClient({**settings_of(address), "log_level": 0}).list_topics(timeout=timeout_s)


def settings_of(address: str) -> dict[str, Any]:
    """librdkafka's settings for `kafka://[user:password@]host:port[,…][?setting=value&…]`. Raises `ValueError`."""
    parts = urlsplit(address)
    login, _, servers = parts.netloc.rpartition("@")
    if parts.scheme != "kafka" or not servers:
        raise ValueError("the address of a Kafka is written kafka://host:port")
    settings: dict[str, Any] = {"bootstrap.servers": servers, "client.id": "mainspring", "log_level": 2}
    if login:
        user, _, password = login.partition(":")
        settings |= {"sasl.username": unquote(user), "sasl.password": unquote(password), "sasl.mechanism": "PLAIN"}
        settings["security.protocol"] = "SASL_PLAINTEXT"
    return settings | dict(parse_qsl(parts.query))


def meaning(error: KafkaException) -> Problem:
    """What a caller can do about it."""
    found = error.args[0]
    text = found.str() if isinstance(found, KafkaError) else str(found)
    code = found.code() if isinstance(found, KafkaError) else None
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return MessageTooLarge(text)
    if code == KafkaError.TOPIC_EXCEPTION:
        return InvalidTopic(text)
    if code in NO_PARTITION:
        return UnknownPartition(text)
    if code in LOST_ITS_GENERATION:
        return IllegalGeneration(text)
    if code in FENCED:
        return ProducerFenced(text)
    return Unavailable(f"Kafka: {text}")


def as_record(message: Any) -> Record:
    """A message as the port has it; a tombstone is a record with an empty value."""
    kind, at_ms = message.timestamp()
    headers = tuple((name, value or b"") for name, value in message.headers() or ())
    at_us = 0 if kind == TIMESTAMP_NOT_AVAILABLE else at_ms * 1000
    value = message.value() or b""
    return Record(message.topic(), message.partition(), message.offset(), message.key(), value, headers, at_us)
