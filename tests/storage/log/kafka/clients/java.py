"""What Kafka's own command-line tools, of the same release as the real broker, print."""

import json
import re
from typing import Any

from tests.fixtures_java import TOOLS, JavaTools

Seen = list[tuple[str, Any]]
COUNT = 60
"""Records of the tools that check themselves."""


def run(tools: JavaTools, address: str, name: str) -> Seen:
    at = ("--bootstrap-server", address)
    created = tools.run(
        f"{TOOLS}.TopicCommand",
        *at,
        "--create",
        "--topic",
        name,
        "--partitions",
        "2",
        "--config",
        "retention.ms=7200000",
    )
    described = tools.run(f"{TOOLS}.TopicCommand", *at, "--describe", "--topic", name)
    lines = "".join(f"k{number}:v{number}\n" for number in range(50))
    keyed = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    tools.run(f"{TOOLS}.ConsoleProducer", *at, "--topic", name, *keyed, given=lines)
    performance = tools.run(
        f"{TOOLS}.ProducerPerformance",
        *("--topic", name, "--num-records", "200", "--record-size", "100", "--throughput", "-1"),
        *("--producer-props", f"bootstrap.servers={address}", "acks=all", "compression.type=lz4"),
    )
    consumed = tools.run(
        f"{TOOLS}.consumer.ConsoleConsumer",
        *at,
        *("--topic", name, "--from-beginning", "--max-messages", "250", "--group", f"{name}-group"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.partition=true"),
    )
    group = tools.run(f"{TOOLS}.consumer.group.ConsumerGroupCommand", *at, "--describe", "--group", f"{name}-group")
    settings = tools.run(
        "kafka.admin.ConfigCommand", *at, "--describe", "--entity-type", "topics", "--entity-name", name
    )
    mine = sorted(line for line in consumed.splitlines() if "\tk" in line)
    return [
        ("created", created.strip()),
        ("described", sorted(_plain(described))),
        ("performance", "200 records sent" in performance),
        ("consumed", mine),
        ("count", len(consumed.splitlines())),
        ("group", _sums(group, name)),
        ("settings", sorted(line.strip() for line in settings.splitlines() if "retention.ms" in line)),
        *_verifiable(tools, address, f"{name}-verifiable"),
    ]


def _verifiable(tools: JavaTools, address: str, name: str) -> Seen:
    """What Kafka's own system tests are made of: a producer and a consumer that say what they saw, and an exact copy."""
    at = ("--bootstrap-server", address, "--topic", name)
    tools.run(f"{TOOLS}.TopicCommand", *at, "--create")
    # The verifiable producer tries nothing twice, and a topic that was just made may have no leader yet.
    tools.run(f"{TOOLS}.ConsoleProducer", *at, given="first\n")
    produced = tools.run(
        *(f"{TOOLS}.VerifiableProducer", *at, "--max-messages", str(COUNT)),
        *("--acks", "-1", "--value-prefix", "7", "--repeating-keys", "5"),
    )
    consumer = (f"{TOOLS}.VerifiableConsumer", *at, "--max-messages", str(1 + COUNT), "--reset-policy", "earliest")
    consumed = tools.run(*consumer, "--group-id", f"{name}-group", "--verbose")
    copy = (
        *(f"{TOOLS}.TransactionalMessageCopier", "--broker-list", address, "--input-topic", name),
        *("--input-partition", "0", "--output-topic", f"{name}-copy", "--transactional-id", f"{name}-id"),
        *("--consumer-group", f"{name}-copier", "--transaction-size", "7", "--use-group-metadata"),
    )
    for some in (("--max-messages", "28"), ()):
        tools.run(*copy, *some)
    at = (
        "--bootstrap-server",
        address,
        "--topic",
        f"{name}-copy",
        "--from-beginning",
        "--max-messages",
        str(1 + COUNT),
    )
    committed = ("--command-property", "isolation.level=read_committed", "--group", f"{name}-check")
    read = tools.run(f"{TOOLS}.consumer.ConsoleConsumer", *at, *committed)
    return [
        ("produced", sorted(_told(produced, "producer_send_success", "key", "value", "partition", "offset"))),
        ("acknowledged", _told(produced, "tool_data", "sent", "acked")),
        ("consumed by itself", _told(consumed, "record_data", "key", "value", "partition", "offset")),
        ("its offsets", _told(consumed, "offsets_committed", "offsets", "success")[-1:]),
        ("the copy", read.splitlines()),
    ]


def _told(said: str, event: str, *fields: str) -> list[list[Any]]:
    """These fields of what such a tool prints of one kind of event."""
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [[one[field] for field in fields] for one in events if one["name"] == event]


def _plain(described: str) -> list[str]:
    """Lines without ids, which differ, and without what the cluster's defaults add."""
    text = re.sub(r"TopicId: \S+", "", described)
    text = re.sub(r"min\.insync\.replicas=1,?|segment\.bytes=\d+,?", "", text).replace(",\n", "\n")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _sums(group: str, name: str) -> tuple[int, int, int]:
    """Partitions, and the sums of positions and ends: where a record without a key goes is the producer's whim."""
    rows = [line.split() for line in group.splitlines() if line.split()[1:2] == [name]]
    return len(rows), sum(int(row[3]) for row in rows), sum(int(row[4]) for row in rows)
