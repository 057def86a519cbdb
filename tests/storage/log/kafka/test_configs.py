"""Settings that Kafka's tools change: what is stored acts at once and after a restart, all else is refused."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.core.config import Config
from mainspring.core.telemetry import Metrics
from mainspring.storage.log import assembly
from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.records import build
from tests.storage.log.kafka.wire import Wire

BROKER, GROUP = 4, 32
NODE, EVERY = "1", ""
DELETE = object()
INVALID_CONFIG, INVALID_REQUEST, MESSAGE_TOO_LARGE = 40, 42, 10

REFUSED: list[tuple[int, str, str, str]] = [
    (GROUP, "g", "consumer.session.timeout.ms", "1000"),
    (GROUP, "g", "consumer.session.timeout.ms", "70000"),
    (GROUP, "g", "consumer.session.timeout.ms", "x"),
    (GROUP, "g", "consumer.heartbeat.interval.ms", "1000"),
    (GROUP, "g", "consumer.heartbeat.interval.ms", "16000"),
    (GROUP, "g", "share.session.timeout.ms", "61000"),
    (GROUP, "g", "share.heartbeat.interval.ms", "1"),
    (GROUP, "g", "share.record.lock.duration.ms", "500"),
    (GROUP, "g", "share.record.lock.duration.ms", "1000"),
    (GROUP, "g", "share.auto.offset.reset", "none"),
    (GROUP, "g", "share.auto.offset.reset", "EARLIEST"),
    (GROUP, "g", "share.auto.offset.reset", "by_duration:-PT1H"),
    (GROUP, "g", "share.isolation.level", "x"),
    (GROUP, "g", "share.delivery.count.limit", "3"),
    (GROUP, "", "consumer.session.timeout.ms", "50000"),
    (BROKER, NODE, "num.partitions", "3"),
    (BROKER, EVERY, "auto.create.topics.enable", "false"),
    (BROKER, NODE, "group.consumer.session.timeout.ms", "50000"),
    (BROKER, EVERY, "transaction.max.timeout.ms", "5"),
    (BROKER, NODE, "node.id", "5"),
    (BROKER, NODE, "log.segment.bytes", "5"),
    (BROKER, EVERY, "message.max.bytes", "x"),
]
"""Kind, name of the resource, setting, value."""


def alter(wire: Wire, kind: int, resource: str, name: str, value: Any) -> tuple[int, str | None]:
    change = {"name": name, "config_operation": int(value is DELETE), "value": None if value is DELETE else value}
    resources = [{"resource_type": kind, "resource_name": resource, "configs": [change]}]
    answer = wire.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=resources, validate_only=False).responses[0]
    return int(answer.error_code), answer.error_message


def described(wire: Wire, kind: int, resource: str) -> dict[str, tuple[str | None, int, bool]]:
    resources = [{"resource_type": kind, "resource_name": resource, "configuration_keys": None}]
    answer = wire.call(
        ApiKey.DESCRIBE_CONFIGS, 4, resources=resources, include_synonyms=False, include_documentation=False
    )
    return {one.name: (one.value, int(one.config_source), one.read_only) for one in answer.results[0].configs}


@pytest.mark.peer
def test_what_kafka_refuses_is_refused_in_its_words(kafka: Any, ours: Any) -> None:
    said = []
    for broker in (kafka, ours):
        with Wire(broker.port) as wire:
            said.append([alter(wire, *one) for one in REFUSED])
    assert said[1] == said[0]
    assert all(code in (INVALID_CONFIG, INVALID_REQUEST) for code, _ in said[1])


def test_what_cannot_act_here_is_refused_and_not_stored(ours: Any) -> None:
    with Wire(ours.port) as wire:
        before = described(wire, BROKER, NODE)
        assert alter(wire, BROKER, NODE, "nonsense", "1")[0] == INVALID_CONFIG
        assert alter(wire, BROKER, EVERY, "log.cleaner.threads", "2")[0] == INVALID_REQUEST
        assert alter(wire, GROUP, "g", "streams.session.timeout.ms", "50000")[0] == INVALID_CONFIG
        assert alter(wire, BROKER, EVERY, "log.cleaner.max.compaction.lag.ms", "5") == (0, None)
        assert alter(wire, BROKER, NODE, "log.cleaner.min.compaction.lag.ms", "6")[0] == INVALID_CONFIG
        assert alter(wire, BROKER, EVERY, "log.cleaner.max.compaction.lag.ms", DELETE) == (0, None)
        assert described(wire, BROKER, NODE) == before
        assert not any(source == 8 for _, source, _ in described(wire, GROUP, "g").values())


def produce(wire: Wire, size: int) -> int:
    partition = {"index": 0, "records": build([(0, b"k", bytes(size), ())])}
    answer = wire.call(
        ApiKey.PRODUCE,
        11,
        transactional_id=None,
        acks=-1,
        timeout_ms=30_000,
        topic_data=[{"name": "t", "partition_data": [partition]}],
    )
    return int(answer.responses[0].partition_responses[0].error_code)


def test_a_default_of_topics_acts_at_once_the_nodes_own_before_that_of_all_and_a_topics_before_both(
    make_ours: Callable[..., Any],
) -> None:
    ours = make_ours()
    ours.call(lambda: ours.log.create_topic("t"))
    with Wire(ours.port) as wire:
        assert produce(wire, 2_000) == 0
        assert alter(wire, BROKER, EVERY, "message.max.bytes", "1000") == (0, None)
        assert produce(wire, 2_000) == MESSAGE_TOO_LARGE
        assert described(wire, 2, "t")["max.message.bytes"] == ("1000", 3, False)
        assert alter(wire, BROKER, NODE, "message.max.bytes", "3000") == (0, None)
        assert produce(wire, 2_000) == 0
        assert described(wire, BROKER, NODE)["message.max.bytes"] == ("3000", 2, False)
        assert alter(wire, 2, "t", "max.message.bytes", "500") == (0, None)
        assert produce(wire, 2_000) == MESSAGE_TOO_LARGE
        assert alter(wire, 2, "t", "max.message.bytes", DELETE) == (0, None)
        assert alter(wire, BROKER, NODE, "message.max.bytes", DELETE) == (0, None)
        assert produce(wire, 2_000) == MESSAGE_TOO_LARGE
        assert alter(wire, BROKER, EVERY, "message.max.bytes", DELETE) == (0, None)
        assert produce(wire, 2_000) == 0


def test_a_limit_of_connections_acts_on_the_next_one(ours: Any) -> None:
    with Wire(ours.port) as wire:
        assert alter(wire, BROKER, NODE, "max.connections", "1") == (0, None)
        with Wire(ours.port) as other, pytest.raises((EOFError, ConnectionError)):
            described(other, BROKER, NODE)
        assert alter(wire, BROKER, NODE, "max.connections", DELETE) == (0, None)
        with Wire(ours.port) as other:
            described(other, BROKER, NODE)


def test_a_groups_own_times_act_from_its_next_heartbeat_on(ours: Any) -> None:
    ours.call(lambda: ours.log.create_topic("t"))
    with Wire(ours.port) as wire:

        def beat(epoch: int) -> Any:
            return wire.call(
                ApiKey.CONSUMER_GROUP_HEARTBEAT,
                1,
                group_id="g",
                member_id="a",
                member_epoch=epoch,
                instance_id=None,
                rack_id=None,
                rebalance_timeout_ms=30_000 if epoch == 0 else -1,
                subscribed_topic_names=("t",) if epoch == 0 else None,
                subscribed_topic_regex=None,
                server_assignor=None,
                topic_partitions=() if epoch == 0 else None,
            )

        wire.call(ApiKey.FIND_COORDINATOR, 3, key="g", key_type=0)
        first = beat(0)
        assert first.heartbeat_interval.total_seconds() == 5
        assert alter(wire, GROUP, "g", "consumer.heartbeat.interval.ms", "9000") == (0, None)
        assert alter(wire, GROUP, "g", "consumer.session.timeout.ms", "50000") == (0, None)
        assert described(wire, GROUP, "g")["consumer.session.timeout.ms"] == ("50000", 8, False)
        assert beat(first.member_epoch).heartbeat_interval.total_seconds() == 9
        group = ours.log.groups.find("g")
        left_ms = group.members["a"].session_ms - ours.log.clock.mono_ns() // 1_000_000
        assert left_ms <= 50_000
        assert group.settings.consumer_session_timeout_ms == 50_000
        assert alter(wire, GROUP, "g", "consumer.heartbeat.interval.ms", DELETE) == (0, None)
        assert beat(first.member_epoch).heartbeat_interval.total_seconds() == 5


async def test_what_is_stored_holds_from_the_next_start_on_before_a_kafka_client_comes(tmp_path: Path) -> None:
    config, settings = Config(data=str(tmp_path)), assembly.LogSection()
    folder = assembly.folders(config, settings)[0]
    folder.mkdir(parents=True)
    (folder / assembly.STATE_FILE).write_text(
        '{"broker_configs": {"": {"log.retention.ms": "1000", "log.cleaner.threads": "3"}},'
        ' "group_configs": {"g": {"share.record.lock.duration.ms": "16000"}, "h": {"share.session.timeout.ms": "1"}}}'
    )

    class NoDatabase:
        dialect = "postgresql"

    log = assembly.opened(config, NoDatabase(), VirtualClock(), settings, Metrics())  # type: ignore[arg-type]
    await log.start()
    topic = await log.create_topic("t")
    assert topic.config["retention.ms"] == 1000
    assert log.groups.settings_of("g").share_record_lock_ms == 16_000
    assert log.groups.settings_of("h") is log.groups.settings
    await asyncio.sleep(0)
    await log.stop()
