"""Groups as the clients that people have use them."""

import asyncio
import threading

import pytest

from mainspring.storage.log.groups.settings import GroupSettings
from tests.waiting import until

from .door import WAIT_S, open_door

QUICK = GroupSettings(consumer_heartbeat_interval_ms=250)

confluent = pytest.importorskip("confluent_kafka")


def consume(address: str, group: str, topic: str, count: int, seen: list, lock: threading.Lock, **config) -> None:
    """A consumer that reads until all of them together have `count` records, and commits what it got."""
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        | config
    )
    consumer.subscribe([topic])
    try:
        while len(seen) < count:
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue
            with lock:
                seen.append((message.partition(), message.offset(), message.value()))
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def produce(address: str, topic: str, values: range) -> None:
    producer = confluent.Producer({"bootstrap.servers": address, "linger.ms": 1})
    for value in values:
        producer.produce(topic, str(value).encode(), key=str(value).encode())
    assert producer.flush(WAIT_S) == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_two_confluent_consumers_share_the_partitions_and_go_on_where_the_group_was(tmp_path, protocol):
    config = {"group.protocol": protocol} | ({"session.timeout.ms": 30000} if protocol == "classic" else {})
    async with open_door(tmp_path, QUICK) as door:
        await door.engine.create_topic("orders", 4)
        await asyncio.to_thread(produce, door.address, "orders", range(100))
        seen, lock = [], threading.Lock()
        async with asyncio.timeout(2 * WAIT_S):
            await asyncio.gather(
                *(asyncio.to_thread(consume, door.address, "g", "orders", 100, seen, lock, **config) for _ in range(2))
            )
        assert sorted(int(value) for _, _, value in set(seen)) == list(range(100))
        committed = await door.groups.committed("g")
        assert sum(committed.values()) == 100
        await asyncio.to_thread(produce, door.address, "orders", range(100, 110))
        again = []
        async with asyncio.timeout(2 * WAIT_S):
            await asyncio.to_thread(consume, door.address, "g", "orders", 10, again, lock, **config)
        assert sorted(int(value) for _, _, value in again) == list(range(100, 110))


async def test_a_cooperative_group_keeps_what_stays_where_it_is_when_a_member_joins(tmp_path):
    moved: list[tuple[str, str, int]] = []
    stop = threading.Event()
    assigned: dict[str, set[int]] = {"first": set(), "second": set()}

    def run(name: str) -> None:
        consumer = confluent.Consumer(
            {
                "bootstrap.servers": door.address,
                "group.id": "g",
                "client.id": name,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 30000,
                "heartbeat.interval.ms": 200,
            }
        )

        def on_assign(consumer, partitions):
            assigned[name] |= {one.partition for one in partitions}

        def on_revoke(consumer, partitions):
            moved.extend((name, "revoked", one.partition) for one in partitions if not stop.is_set())
            assigned[name] -= {one.partition for one in partitions}

        consumer.subscribe(["orders"], on_assign=on_assign, on_revoke=on_revoke)
        try:
            while not stop.is_set():
                consumer.poll(0.05)
        finally:
            consumer.close()

    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(3 * WAIT_S):
        await door.engine.create_topic("orders", 4)
        first = asyncio.ensure_future(asyncio.to_thread(run, "first"))
        second = None
        try:
            await until(lambda: assigned["first"] == {0, 1, 2, 3})
            second = asyncio.ensure_future(asyncio.to_thread(run, "second"))
            await until(lambda: len(assigned["first"]) == len(assigned["second"]) == 2)
            assert len(moved) == 2
            assert assigned["first"].isdisjoint(assigned["second"])
        finally:
            stop.set()
            await asyncio.gather(*[one for one in (first, second) if one is not None])


async def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(tmp_path):
    def run() -> list[int]:
        consumer = confluent.Consumer(
            {
                "bootstrap.servers": door.address,
                "group.id": "g",
                "group.instance.id": "one",
                "session.timeout.ms": 30000,
            }
        )
        got: list[int] = []
        consumer.subscribe(["orders"], on_assign=lambda _, partitions: got.extend(one.partition for one in partitions))
        while not got:
            consumer.poll(0.05)
        consumer.close()
        return got

    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(2 * WAIT_S):
        await door.engine.create_topic("orders", 2)
        first = await asyncio.to_thread(run)
        generation = door.groups.find("g").generation
        assert await asyncio.to_thread(run) == first
        assert door.groups.find("g").generation == generation


async def test_a_classic_group_is_upgraded_by_a_member_of_the_new_protocol_and_downgraded_when_it_leaves(tmp_path):
    stops = {"classic": threading.Event(), "consumer": threading.Event()}
    assigned: dict[str, set[int]] = {"classic": set(), "consumer": set()}

    def run(protocol: str) -> None:
        config = {"session.timeout.ms": 30000, "heartbeat.interval.ms": 200} if protocol == "classic" else {}
        consumer = confluent.Consumer(
            {"bootstrap.servers": door.address, "group.id": "g", "group.protocol": protocol} | config
        )

        def on_assign(consumer, partitions):
            assigned[protocol] |= {one.partition for one in partitions}

        def on_revoke(consumer, partitions):
            assigned[protocol] -= {one.partition for one in partitions}

        consumer.subscribe(["orders"], on_assign=on_assign, on_revoke=on_revoke)
        try:
            while not stops[protocol].is_set():
                consumer.poll(0.05)
        finally:
            consumer.close()

    async def settled(classic: int, consumer: int, kind: str) -> None:
        await until(
            lambda: (
                (len(assigned["classic"]), len(assigned["consumer"])) == (classic, consumer)
                and door.groups.find("g").kind == kind
            )
        )

    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(3 * WAIT_S):
        await door.engine.create_topic("orders", 4)
        running = [asyncio.ensure_future(asyncio.to_thread(run, "classic"))]
        try:
            await settled(4, 0, "classic")
            running.append(asyncio.ensure_future(asyncio.to_thread(run, "consumer")))
            await settled(2, 2, "consumer")
            assert assigned["classic"] | assigned["consumer"] == {0, 1, 2, 3}
            stops["consumer"].set()
            await running[1]
            await settled(4, 0, "classic")
        finally:
            for stop in stops.values():
                stop.set()
            await asyncio.gather(*running)


async def test_aiokafka_members_share_a_topic_and_commit(tmp_path):
    aiokafka = pytest.importorskip("aiokafka")
    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(3 * WAIT_S):
        await door.engine.create_topic("orders", 2)
        await asyncio.to_thread(produce, door.address, "orders", range(20))
        consumers = [
            aiokafka.AIOKafkaConsumer(
                "orders",
                bootstrap_servers=door.address,
                group_id="g",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=200,
            )
            for _ in range(2)
        ]
        for one in consumers:
            await one.start()
        try:
            values: set[bytes] = set()
            while len(values) < 20:
                for one in consumers:
                    for messages in (await one.getmany(timeout_ms=100)).values():
                        values |= {message.value for message in messages}
            while any(len(one.assignment()) != 1 for one in consumers):
                for one in consumers:
                    await one.getmany(timeout_ms=50)
            for one in consumers:
                for partition in one.assignment():
                    await one.commit({partition: await one.position(partition)})
            assert sum((await door.groups.committed("g")).values()) == 20
        finally:
            for one in consumers:
                await one.stop()


async def test_kafka_python_reads_commits_and_lists_its_group(tmp_path):
    kafka = pytest.importorskip("kafka")

    def run() -> tuple[int, list]:
        consumer = kafka.KafkaConsumer(
            "orders",
            bootstrap_servers=door.address,
            group_id="g",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        count = 0
        while count < 20:
            count += sum(len(messages) for messages in consumer.poll(timeout_ms=200).values())
        consumer.commit()
        admin = kafka.KafkaAdminClient(bootstrap_servers=door.address)
        listed = admin.list_groups() if hasattr(admin, "list_groups") else admin.list_consumer_groups()
        admin.close()
        consumer.close()
        return count, listed

    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(3 * WAIT_S):
        await door.engine.create_topic("orders", 2)
        await asyncio.to_thread(produce, door.address, "orders", range(20))
        count, listed = await asyncio.to_thread(run)
        assert count == 20
        assert "g" in str(listed)
        assert sum((await door.groups.committed("g")).values()) == 20


async def test_administrators_describe_alter_and_delete_a_group(tmp_path):
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    def administer() -> tuple[list[str], int, str]:
        admin = AdminClient({"bootstrap.servers": door.address})
        listed = [one.group_id for one in admin.list_consumer_groups().result(WAIT_S).valid]
        described = admin.describe_consumer_groups(["g"])["g"].result(WAIT_S)
        wanted = ConsumerGroupTopicPartitions("g", [TopicPartition("orders", 0, 3)])
        admin.alter_consumer_group_offsets([wanted])["g"].result(WAIT_S)
        offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")])["g"].result(WAIT_S)
        admin.delete_consumer_groups(["g"])["g"].result(WAIT_S)
        left = [one.group_id for one in admin.list_consumer_groups().result(WAIT_S).valid]
        assert left == []
        return listed, offsets.topic_partitions[0].offset, described.state.name

    async with open_door(tmp_path, QUICK) as door, asyncio.timeout(3 * WAIT_S):
        await door.engine.create_topic("orders")
        await asyncio.to_thread(produce, door.address, "orders", range(10))
        await asyncio.to_thread(consume, door.address, "g", "orders", 10, [], threading.Lock())
        assert await asyncio.to_thread(administer) == (["g"], 3, "EMPTY")
        assert await door.groups.committed("g") == {}
