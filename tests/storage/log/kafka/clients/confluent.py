"""What a user of confluent-kafka (librdkafka) does and sees, as a list that must be the same on every broker."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

PATIENCE_S = 60.0
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
AT_MS = time.time_ns() // 1_000_000 - 3_600_000
"""Young enough for every retention, and the same on both brokers."""
Seen = list[tuple[str, Any]]


def outcome(work: Callable[[], Any]) -> Any:
    """What a call gave, or the name of its error."""
    try:
        return work()
    except KafkaException as error:
        return error.args[0].name()


def settled(futures: dict[Any, "Future[Any]"]) -> dict[str, Any]:
    """The outcome of each future; most give nothing."""
    return {str(key): outcome(lambda one=one: one.result(PATIENCE_S)) for key, one in futures.items()}


def run(address: str, name: str) -> Seen:
    """`name` begins the name of every topic, group and user."""
    base = {"bootstrap.servers": address}
    admin = AdminClient(base)
    return [
        *topics(admin, name),
        *records(base, admin, name),
        *offsets(base, admin, name),
        *errors(base, name),
        *configs(admin, name),
        *users(admin, name),
        *ending(admin, name),
    ]


def topics(admin: AdminClient, name: str) -> Seen:
    def create(topic: str, partitions: int = 1, replicas: int = 1, **config: str) -> Any:
        new = NewTopic(
            topic, partitions, replicas, config={key.replace("_", "."): value for key, value in config.items()}
        )
        return settled(admin.create_topics([new]))[topic]

    seen: Seen = [
        ("create", create(name, 3)),
        ("create again", create(name, 3)),
        ("bad name", create("bad name")),
        ("no partitions", create(f"{name}-none", 0)),
        ("two replicas", create(f"{name}-two", 1, 2)),
        ("bad config", create(f"{name}-config", cleanup_policy="burn")),
        ("unknown config", create(f"{name}-config", no_such="1")),
        ("dry run", settled(admin.create_topics([NewTopic(f"{name}-dry", 2, 1)], validate_only=True))),
        ("compacted", create(f"{name}-compact", 1, 1, cleanup_policy="compact", retention_ms="1000")),
        ("grow", settled(admin.create_partitions([NewPartitions(f"{name}-compact", 2)]))),
        ("shrink", settled(admin.create_partitions([NewPartitions(f"{name}-compact", 1)]))),
        ("grow nothing", settled(admin.create_partitions([NewPartitions(f"{name}-missing", 4)]))),
    ]
    listed = grown(admin, f"{name}-compact", 2)
    mine = {one.topic: sorted(one.partitions) for one in listed.topics.values() if one.topic.startswith(name)}
    described = admin.describe_topics(TopicCollection([name, f"{name}-missing"]))

    def shape(future: "Future[Any]") -> Any:
        one = future.result(PATIENCE_S)
        return (one.name, one.is_internal, [(p.id, p.leader.id, [node.id for node in p.isr]) for p in one.partitions])

    return [
        *seen,
        ("topics", mine),
        ("brokers", len(listed.brokers)),
        ("described", {key: outcome(lambda one=one: shape(one)) for key, one in described.items()}),
        ("nodes", [node.id for node in admin.describe_cluster().result(PATIENCE_S).nodes]),
    ]


def grown(admin: AdminClient, topic: str, partitions: int) -> Any:
    """The topics once this one has as many partitions: a broker's own view may trail what was answered."""
    for _ in range(600):
        listed = admin.list_topics(timeout=PATIENCE_S)
        if topic in listed.topics and len(listed.topics[topic].partitions) == partitions:
            return listed
        time.sleep(0.05)
    raise AssertionError(f"{topic} never had {partitions} partitions")


def records(base: dict[str, Any], admin: AdminClient, name: str) -> Seen:
    placed: list[tuple[int, int, int]] = []

    def delivered(error: KafkaError | None, message: Any) -> None:
        assert error is None, error
        placed.append((message.partition(), message.offset(), message.timestamp()[1]))

    for number, codec in enumerate(CODECS):
        producer = Producer(base | {"compression.type": codec, "linger.ms": 20, "enable.idempotence": number % 2 == 0})
        for one in range(40):
            producer.produce(
                name,
                b"value of %s %d" % (codec.encode(), one) * 5,
                key=b"key %d" % one,
                headers=[("codec", codec.encode()), ("empty", None)],
                timestamp=AT_MS + 1000 * number + one,
                on_delivery=delivered,
            )
        assert producer.flush(PATIENCE_S) == 0
    consumer = Consumer(
        base | {"group.id": f"{name}-reader", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    everywhere = [TopicPartition(name, index, 0) for index in range(3)]
    consumer.assign(everywhere)
    read = taken(consumer, len(placed))
    consumer.seek(TopicPartition(name, 1, 5))
    consumer.pause([everywhere[0], everywhere[2]])
    again = taken(consumer, 3)
    watermarks = [consumer.get_watermark_offsets(one, PATIENCE_S) for one in everywhere]
    at = [TopicPartition(name, index, AT_MS + 2000) for index in range(3)]
    late = [TopicPartition(name, index, AT_MS + 10**9) for index in range(3)]
    times = [[one.offset for one in consumer.offsets_for_times(asked, PATIENCE_S)] for asked in (at, late)]
    consumer.close()
    return [
        ("placed", sorted(placed)),
        ("read", sorted(read)),
        ("sought", again),
        ("watermarks", watermarks),
        ("times", times),
    ]


def taken(consumer: Consumer, count: int) -> list[Any]:
    """The next `count` records, as what can be compared."""
    found: list[Any] = []
    for _ in range(600):
        for message in consumer.consume(count - len(found), 0.1):
            assert message.error() is None, message.error()
            headers = message.headers() or []
            found.append(
                (message.partition(), message.offset(), message.key(), message.value(), message.timestamp(), headers)
            )
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} of {count} records")


def offsets(base: dict[str, Any], admin: AdminClient, name: str) -> Seen:
    partition = TopicPartition(name, 0)

    def at(spec: OffsetSpec) -> Any:
        found = admin.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED)
        return outcome(lambda: (lambda one: (one.offset, one.timestamp))(found[partition].result(PATIENCE_S)))

    before = [
        ("earliest", at(OffsetSpec.earliest())),
        ("latest", at(OffsetSpec.latest())),
        ("greatest time", at(OffsetSpec.max_timestamp())),
        ("at a time", at(OffsetSpec.for_timestamp(AT_MS + 1010))),
    ]
    deleted = admin.delete_records([TopicPartition(name, 0, 4), TopicPartition(name, 1, 10**6)])
    low = {
        str(key.partition): outcome(lambda one=one: one.result(PATIENCE_S).low_watermark)
        for key, one in deleted.items()
    }
    consumer = Consumer(
        base | {"group.id": f"{name}-reader", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    first = taken(consumer, 1)[0][:3]
    consumer.close()
    return [*before, ("deleted", low), ("then earliest", at(OffsetSpec.earliest())), ("first left", first)]


def errors(base: dict[str, Any], name: str) -> Seen:
    codes: list[str] = []

    def delivered(error: KafkaError | None, message: Any) -> None:
        codes.append("delivered" if error is None else error.name())

    producer = Producer(base | {"message.max.bytes": 5_000_000, "topic.metadata.propagation.max.ms": 100})
    producer.produce(name, b"x" * 2_000_000, on_delivery=delivered)
    producer.flush(PATIENCE_S)
    producer.flush(PATIENCE_S)
    nowhere = outcome(lambda: producer.produce(name, b"x", partition=77, on_delivery=delivered))
    consumer = Consumer(
        base | {"group.id": f"{name}-reader", "auto.offset.reset": "error", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(name, 0, 10**7)])
    outside = next(message.error() for message in (consumer.poll(1.0) for _ in range(60)) if message is not None)
    consumer.close()
    return [("refused", codes), ("nowhere", nowhere), ("out of range", outside.name() if outside else None)]


def configs(admin: AdminClient, name: str) -> Seen:
    wanted = ("cleanup.policy", "retention.ms", "max.message.bytes")

    def described(topic: str) -> Any:
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        return outcome(
            lambda: {
                key: (entry.value, entry.is_default, entry.is_read_only)
                for key, entry in future.result(PATIENCE_S).items()
                if key in wanted
            }
        )

    def alter(topic: str, **changes: tuple[AlterConfigOpType, str | None]) -> Any:
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=operation)
            for key, (operation, value) in changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        (future,) = admin.incremental_alter_configs([resource]).values()
        return outcome(lambda: future.result(PATIENCE_S))

    set_to, back = AlterConfigOpType.SET, AlterConfigOpType.DELETE
    return [
        ("described", described(name)),
        ("described compacted", described(f"{name}-compact")),
        ("described missing", described(f"{name}-missing")),
        ("altered", alter(name, retention_ms=(set_to, "123456"), max_message_bytes=(set_to, "2000"))),
        ("then", described(name)),
        ("given back", alter(name, max_message_bytes=(back, None))),
        ("then", described(name)),
        ("appended", alter(name, cleanup_policy=(AlterConfigOpType.APPEND, "compact"))),
        ("then", described(name)),
        ("wrong", alter(name, retention_ms=(set_to, "soon"))),
        ("unknown", alter(name, no_such=(set_to, "1"))),
        ("missing", alter(f"{name}-missing", retention_ms=(set_to, "1"))),
    ]


def users(admin: AdminClient, name: str) -> Seen:
    user = f"{name}-alice"
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192)
    few = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 100)

    def described() -> Any:
        (future,) = admin.describe_user_scram_credentials([user]).values()
        return outcome(
            lambda: [(one.mechanism.name, one.iterations) for one in future.result(PATIENCE_S).scram_credential_infos]
        )

    def alter(change: Any) -> Any:
        return settled(admin.alter_user_scram_credentials([change]))[user]

    def described_anew(before: Any) -> Any:
        """Kafka's broker trails its controller by some milliseconds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (now := described()) == before and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return now

    nobody = described()
    return [
        ("nobody", nobody),
        ("made", alter(UserScramCredentialUpsertion(user, info, b"secret", b"salt"))),
        ("then", made := described_anew(nobody)),
        ("too few iterations", alter(UserScramCredentialUpsertion(user, few, b"secret"))),
        ("unmade", alter(UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))),
        ("unmade again", alter(UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))),
        ("then", described_anew(made)),
    ]


def ending(admin: AdminClient, name: str) -> Seen:
    return [
        ("deleted", settled(admin.delete_topics([name, f"{name}-compact", f"{name}-missing"]))),
        ("gone", [topic for topic in admin.list_topics(timeout=PATIENCE_S).topics if topic.startswith(name)]),
    ]


def groups(address: str, name: str, protocol: str) -> Seen:
    """A group of two members over four partitions: positions, hand-over, descriptions."""
    base: dict[str, Any] = {"bootstrap.servers": address}
    admin = AdminClient(base)
    settled(admin.create_topics([NewTopic(name, 4, 1)]))
    producer = Producer(base)
    for number in range(80):
        producer.produce(name, b"%d" % number, partition=number % 4)
    producer.flush(PATIENCE_S)
    group = f"{name}-group"
    settings = base | {"group.id": group, "group.protocol": protocol, "auto.offset.reset": "earliest"}
    settings |= {"enable.auto.commit": False}
    if protocol == "classic":
        settings |= {"session.timeout.ms": 10_000, "partition.assignment.strategy": "cooperative-sticky"}
    first = Consumer(settings)
    first.subscribe([name])
    read = taken(first, 80)
    alone = sorted(one.partition for one in first.assignment())
    first.commit(asynchronous=False)
    second = Consumer(settings)
    second.subscribe([name])
    for _ in range(1200):
        first.poll(0.05)
        second.poll(0.05)
        if len(first.assignment()) == len(second.assignment()) == 2:
            break
    shared = sorted(one.partition for member in (first, second) for one in member.assignment())
    for number in range(80, 120):
        producer.produce(name, b"%d" % number, partition=number % 4)
    producer.flush(PATIENCE_S)
    more: set[bytes] = set()
    for _ in range(1200):
        for member in (first, second):
            message = member.poll(0.02)
            if message is not None and message.error() is None:
                more.add(message.value())
        if len(more) == 40:
            break
    (described,) = admin.describe_consumer_groups([group]).values()
    now = described.result(PATIENCE_S)
    second.commit(asynchronous=False)
    second.close()
    first.commit(asynchronous=False)
    first.close()
    (committed,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    positions = sorted((one.partition, one.offset) for one in committed.result(PATIENCE_S).topic_partitions)
    moved = [TopicPartition(name, 0, 3)]
    (altered,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, moved)]).values()
    altered.result(PATIENCE_S)
    third = Consumer(settings)
    back = [one.offset for one in third.committed([TopicPartition(name, index) for index in range(4)], PATIENCE_S)]
    third.close()
    return [
        ("read", sorted(one[:4] for one in read)),
        ("alone", alone),
        ("shared", shared),
        ("more", sorted(more)),
        ("described", (now.state.name, now.is_simple_consumer_group, len(now.members))),
        ("positions", positions),
        ("moved back", back),
        ("deleted", settled(admin.delete_consumer_groups([group, f"{group}-missing"]))),
        ("topic deleted", settled(admin.delete_topics([name]))),
    ]


def transactions(address: str, name: str) -> Seen:
    """What committed and aborted transactions leave, for readers of both kinds; positions in a transaction; fencing."""
    base: dict[str, Any] = {"bootstrap.servers": address}
    admin = AdminClient(base)
    settled(admin.create_topics([NewTopic(name, 2, 1)]))
    producer = Producer(base | {"transactional.id": f"{name}-id"})
    producer.init_transactions(PATIENCE_S)
    for number, commits in enumerate((True, False, True, False, True)):
        producer.begin_transaction()
        for one in range(6):
            producer.produce(name, b"%d-%d" % (number, one), partition=one % 2)
        if commits:
            producer.commit_transaction(PATIENCE_S)
        else:
            producer.flush(PATIENCE_S)
            producer.abort_transaction(PATIENCE_S)
    source = Consumer(
        base | {"group.id": f"{name}-copier", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    source.subscribe([name])
    copied = taken(source, 18)
    producer.begin_transaction()
    producer.produce(name, b"copied", partition=0)
    passed = [TopicPartition(name, index, 19) for index in (0, 1)]
    producer.send_offsets_to_transaction(passed, source.consumer_group_metadata(), PATIENCE_S)
    producer.commit_transaction(PATIENCE_S)
    committed = [one.offset for one in source.committed([TopicPartition(name, index) for index in (0, 1)], PATIENCE_S)]
    source.close()
    rival = Producer(base | {"transactional.id": f"{name}-id"})
    rival.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(name, b"fenced", partition=0)
    fenced = outcome(lambda: producer.commit_transaction(PATIENCE_S))
    seen: Seen = []
    for isolation, count in (("read_committed", 19), ("read_uncommitted", 31)):
        settings = {"group.id": f"{name}-{isolation}", "isolation.level": isolation, "enable.auto.commit": False}
        reader = Consumer(base | settings)
        reader.assign([TopicPartition(name, index, 0) for index in (0, 1)])
        seen.append((isolation, sorted((one[0], one[1], one[3]) for one in taken(reader, count))))
        seen.append(("watermarks", [reader.get_watermark_offsets(TopicPartition(name, index)) for index in (0, 1)]))
        reader.close()
    settled(admin.delete_topics([name]))
    return [*seen, ("copied", sorted(one[3] for one in copied)), ("committed", committed), ("fenced", fenced)]
