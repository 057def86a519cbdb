"""The log beside the real Kafka in the same run: through librdkafka, both unsynced and both synced, and what they cost.

The brokers take turns on one core, the client has the other. `async` is acknowledged from the page cache, as Kafka does;
`commit` is synced before it is acknowledged, Kafka's `flush.messages=1`. Every figure of a turn is of a topic of its own.

Last, what a program gets that has the log in its own process, beside what it gets through librdkafka: two cores each.
"""

import asyncio
import os
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.comparison import Comparison
from bench.load import CLIENT_CPU, pinned_to
from bench.storage.log_brokers import Kafka, Ours, resident_mb
from mainspring.core.clock import SystemClock
from mainspring.storage.log import Log
from mainspring.storage.log.settings import FlushPolicy, LogSettings

PATIENCE_S = 60.0
ROUNDS = 3
PEER = "Kafka 4.2"
RATE_PER_S = 5_000
PARTITIONS = 1_000
Broker = Ours | Kafka


def run(seconds: float) -> list[Comparison]:
    """`seconds` is how long one side of one figure takes, over all its rounds."""
    turn_s = max(seconds / ROUNDS, 0.5)
    found: list[Comparison] = []
    ours, peer = Ours("async"), Kafka("async")
    started = _started(ours, peer)
    try:
        for name, measure, target in (
            ("produce 100 B, linger 5 ms, async", _produce(100), 1.0),
            ("produce 1 KiB, linger 5 ms, async", _produce(1024), 1.0),
            ("produce 100 B lz4, linger 5 ms, async", _produce(100, "lz4"), 1.0),
            ("one record per request, async", _produce_singly(20_000), 1.5),
            ("consume 100 B from cache", _consume, 1.0),
        ):
            found.append(_compared(name, measure, ours, peer, turn_s, "msg/s", target))
        found.append(
            _latency(f"end to end p99 at {RATE_PER_S:,} msg/s", _p99_ms(1, RATE_PER_S), ours, peer, turn_s, 2.0)
        )
        memory = [resident_mb(ours.pid)], [resident_mb(peer.pid)]
        found.append(Comparison("resident after the run", memory[0], PEER, memory[1], "MB", False, 4.0))
        found.append(Comparison("start to first answer", [started[0]], PEER, [started[1]], "s", False, 10.0))
        spread = _p99_ms(PARTITIONS, 10 * PARTITIONS)
        found.append(_latency(f"end to end p99 at 10 msg/s in each of {PARTITIONS:,}", spread, ours, peer, turn_s, 1.0))
        wire, singly = found[0].ours, found[3].ours
    finally:
        ours.stop()
        peer.stop()
    for name, work, wire_name, figures in (
        ("in process, 100 B, 4 callers of 5,000, async", _appending_many, "librdkafka to us, linger 5 ms", wire),
        (
            "in process, 100 B one by one, 512 callers, async",
            _appending_one,
            "librdkafka to us, one per request",
            singly,
        ),
    ):
        found.append(Comparison(name, _in_process(work, turn_s), wire_name, figures, "msg/s", target=5.0))
    ours, peer = Ours("commit"), Kafka("commit")
    _started(ours, peer)
    try:
        for name, measure in (
            ("produce 100 B, linger 5 ms, synced", _produce(100)),
            ("one record per request, synced", _produce_singly(1_000)),
        ):
            found.append(_compared(name, measure, ours, peer, turn_s, "msg/s", 5.0))
    finally:
        ours.stop()
        peer.stop()
    return found


def _started(ours: Ours, peer: Kafka) -> tuple[float, float]:
    """Starts both; seconds until each gave its first answer."""
    ours.start()
    peer.start()
    return ours.start_s, peer.start_s


def _compared(
    name: str,
    measure: Callable[[Broker, float], float],
    ours: Ours,
    peer: Kafka,
    turn_s: float,
    unit: str,
    target: float,
) -> Comparison:
    figures: tuple[list[float], list[float]] = ([], [])
    brokers: tuple[Broker, Broker] = (ours, peer)
    with pinned_to(CLIENT_CPU):
        for broker in brokers:
            measure(broker, 0.5)  # What is compiled, opened and allocated once is not counted.
        for _ in range(ROUNDS):
            for side, broker in enumerate(brokers):
                figures[side].append(measure(broker, turn_s))
    return Comparison(name, figures[0], PEER, figures[1], unit, target=target)


def _latency(
    name: str, measure: Callable[[Broker, float], float], ours: Ours, peer: Kafka, turn_s: float, target: float
) -> Comparison:
    latency = _compared(name, measure, ours, peer, turn_s, "ms", target)
    latency.higher_is_better = False
    return latency


def _topic(broker: Broker, partitions: int = 1) -> tuple[dict[str, Any], str]:
    base: dict[str, Any] = {"bootstrap.servers": f"127.0.0.1:{broker.port}", "log_level": 0}
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin = AdminClient(base)
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(PATIENCE_S)
    return base, name


def _send(producer: Producer, name: str, value: bytes, seconds: float) -> float:
    """Records a second, counted when they are acknowledged; the first ones, which meet cold caches, are not."""
    producer.produce(name, value)
    producer.flush(PATIENCE_S)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in range(1000):
            try:
                producer.produce(name, value)
            except BufferError:
                producer.poll(0.001)
                continue
            count += 1
        producer.poll(0)
    if producer.flush(PATIENCE_S):
        raise RuntimeError("records were left behind")
    return count / (time.perf_counter() - begun)


def _produce(size: int, codec: str = "none") -> Callable[[Broker, float], float]:
    value = (b"the quick brown fox jumps over the lazy dog; " * 40)[:size]

    def measure(broker: Broker, seconds: float) -> float:
        base, name = _topic(broker)
        batching = {"linger.ms": 5, "batch.size": 1_000_000, "compression.type": codec, "acks": "all"}
        producer = Producer(base | batching | {"queue.buffering.max.messages": 500_000})
        return _send(producer, name, value, seconds)

    return measure


def _produce_singly(waiting_max: int) -> Callable[[Broker, float], float]:
    """One record per request; `waiting_max` is how many may wait, which must be sent before a turn is over."""

    def measure(broker: Broker, seconds: float) -> float:
        base, name = _topic(broker)
        singly = {"linger.ms": 0, "batch.num.messages": 1, "max.in.flight": 1000}
        return _send(Producer(base | singly | {"queue.buffering.max.messages": waiting_max}), name, bytes(100), seconds)

    return measure


def _consume(broker: Broker, seconds: float) -> float:
    """Reads what was just written, again and again from the start."""
    base, name = _topic(broker)
    producer = Producer(base | {"linger.ms": 5, "batch.size": 1_000_000, "queue.buffering.max.messages": 500_000})
    total = 300_000
    for _ in range(total):
        producer.produce(name, bytes(100))
    producer.flush(PATIENCE_S)
    consumer = Consumer(base | {"group.id": name, "enable.auto.commit": False, "queued.min.messages": 1_000_000})
    rates = []
    begun = time.perf_counter()
    while not rates or time.perf_counter() - begun < seconds:
        consumer.assign([TopicPartition(name, 0, 0)])
        while not consumer.consume(1, 1.0):
            pass
        count, since = 1, time.perf_counter()
        while count < total:
            count += len(consumer.consume(10_000, 1.0))
        rates.append((total - 1) / (time.perf_counter() - since))
        consumer.unassign()
    consumer.close()
    return statistics.median(rates)


def _p99_ms(partitions: int, rate_per_s: int) -> Callable[[Broker, float], float]:
    """From `produce` to the consumer that waits for it, at a steady rate; half of the time is the client's own."""

    def measure(broker: Broker, seconds: float) -> float:
        base, name = _topic(broker, partitions)
        producer = Producer(base | {"linger.ms": 0, "acks": "all"})
        consumer = Consumer(base | {"group.id": name, "enable.auto.commit": False, "fetch.wait.max.ms": 100})
        consumer.assign([TopicPartition(name, partition, 0) for partition in range(partitions)])
        for partition in range(partitions):
            producer.produce(name, b"0", partition=partition)
        producer.flush(PATIENCE_S)
        begun, seen = time.perf_counter(), 0
        while seen < partitions:
            seen += len(consumer.consume(partitions, 1.0))
            if time.perf_counter() - begun > PATIENCE_S:
                raise RuntimeError("records did not come")
        waits: list[float] = []
        begun, sent = time.perf_counter(), 0
        wanted = int(rate_per_s * max(seconds, 1.0))
        while len(waits) < wanted:
            due = min(wanted, int((time.perf_counter() - begun) * rate_per_s))
            while sent < due:
                producer.produce(name, repr(time.perf_counter()).encode(), partition=sent % partitions)
                sent += 1
            producer.poll(0)
            for message in consumer.consume(500, 0.0005):
                waits.append(time.perf_counter() - float(message.value()))
        consumer.close()
        return statistics.quantiles(waits, n=100)[98] * 1000

    return measure


def _in_process(work: Callable[[Log, float], Awaitable[float]], seconds: float) -> list[float]:
    """Records a second in this process, acknowledged as Kafka does: when they are written, not synced."""

    async def measure() -> float:
        with TemporaryDirectory() as folder:
            log = Log(Path(folder), SystemClock(), settings=LogSettings(flush_policy=FlushPolicy.ASYNC))
            await log.start()
            await log.create_topic("bench")
            try:
                await work(log, min(seconds, 0.2))  # As on the other side: cold caches are not counted.
                return await work(log, seconds)
            finally:
                await log.stop()

    return [uvloop.run(measure()) for _ in range(ROUNDS)]


async def _appending_many(log: Log, seconds: float) -> float:
    """Each call is as much as librdkafka gathers in its five milliseconds; its answer is where each record is."""
    batch = [(None, os.urandom(100)) for _ in range(5_000)]

    async def call() -> int:
        positions = await log.append_many("bench", batch)
        return positions[-1].offset - positions[0].offset + 1

    return await _counted(call, callers=4, seconds=seconds)


async def _appending_one(log: Log, seconds: float) -> float:
    value = os.urandom(100)

    async def call() -> int:
        await log.append("bench", value)
        return 1

    return await _counted(call, callers=512, seconds=seconds)


async def _counted(call: Callable[[], Awaitable[int]], callers: int, seconds: float) -> float:
    """What callers who each wait for their answer get done in a second."""
    begun = time.perf_counter()

    async def caller() -> int:
        count = 0
        while time.perf_counter() - begun < seconds:
            count += await call()
        return count

    counts = await asyncio.gather(*(caller() for _ in range(callers)))
    return sum(counts) / (time.perf_counter() - begun)
