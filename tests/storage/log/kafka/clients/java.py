"""What Kafka's own command-line tools, of the same release as the real broker, print."""

import re
import subprocess
from typing import Any

from tests.fixtures_kafka import kafka_classpath

Seen = list[tuple[str, Any]]
PATIENCE_S = 240
QUICK = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m")
TOOLS = "org.apache.kafka.tools"


def tool(main: str, *words: str, given: str = "") -> str:
    """Runs a tool to its end; gives what it printed."""
    done = subprocess.run(
        ["java", *QUICK, "-cp", kafka_classpath(), main, *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{main} {words}: {done.stdout} {done.stderr}"
    return done.stdout


def run(address: str, name: str) -> Seen:
    at = ("--bootstrap-server", address)
    created = tool(
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
    described = tool(f"{TOOLS}.TopicCommand", *at, "--describe", "--topic", name)
    lines = "".join(f"k{number}:v{number}\n" for number in range(50))
    keyed = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    tool(f"{TOOLS}.ConsoleProducer", *at, "--topic", name, *keyed, given=lines)
    performance = tool(
        f"{TOOLS}.ProducerPerformance",
        *("--topic", name, "--num-records", "200", "--record-size", "100", "--throughput", "-1"),
        *("--producer-props", f"bootstrap.servers={address}", "acks=all", "compression.type=lz4"),
    )
    consumed = tool(
        f"{TOOLS}.consumer.ConsoleConsumer",
        *at,
        *("--topic", name, "--from-beginning", "--max-messages", "250", "--group", f"{name}-group"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.partition=true"),
    )
    group = tool(f"{TOOLS}.consumer.group.ConsumerGroupCommand", *at, "--describe", "--group", f"{name}-group")
    settings = tool("kafka.admin.ConfigCommand", *at, "--describe", "--entity-type", "topics", "--entity-name", name)
    mine = sorted(line for line in consumed.splitlines() if "\tk" in line)
    return [
        ("created", created.strip()),
        ("described", sorted(_plain(described))),
        ("performance", performance.strip().startswith("200 records sent")),
        ("consumed", mine),
        ("count", len(consumed.splitlines())),
        ("group", _sums(group, name)),
        ("settings", sorted(line.strip() for line in settings.splitlines() if "retention.ms" in line)),
    ]


def _plain(described: str) -> list[str]:
    """Lines without ids, which differ, and without what the cluster's defaults add."""
    text = re.sub(r"TopicId: \S+", "", described)
    text = re.sub(r"min\.insync\.replicas=1,?|segment\.bytes=\d+,?", "", text).replace(",\n", "\n")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _sums(group: str, name: str) -> tuple[int, int, int]:
    """Partitions, and the sums of positions and ends: where a record without a key goes is the producer's whim."""
    rows = [line.split() for line in group.splitlines() if line.split()[1:2] == [name]]
    return len(rows), sum(int(row[3]) for row in rows), sum(int(row[4]) for row in rows)
