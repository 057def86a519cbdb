"""Lifelike traffic for a running log, by a real Kafka client: a shop's orders, their payments, and readers that keep up or not.

`demo.orders` is keyed by customer over four partitions; the group `demo.billing` reads it and writes `demo.payments`. Another
group, `demo.reports`, takes what has gathered only now and then, so that its lag goes up and down. All of it is kept.
"""

import asyncio
import json
import time
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

ORDERS, PAYMENTS = "demo.orders", "demo.payments"
PARTITIONS = 4
REPORT_EVERY_S = 5.0
WAIT_MS = 200
GOODS = (("tea", 390), ("coffee", 850), ("bread", 420), ("cheese", 1_290), ("apples", 310), ("olive oil", 1_690))
WEIGHTS = (22, 30, 25, 8, 20, 4)
COUNTRIES = ("AT", "DE", "FR", "NL", "PL", "ES", "SE", "PT")


def run(
    _address: str,
    listeners: dict[str, str],
    _credentials: dict[str, str],
    rate: float,
    seconds: float,
    tell: Callable[[int], None],
) -> str:
    """Places about `rate` orders a second for `seconds`; `tell` gets the number of orders so far.

    Raises `RuntimeError` where the Kafka listener is off or wants a login.
    """
    if "kafka" not in listeners:
        raise RuntimeError("the Kafka listener is off; `mainspring systems` says why")
    from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

    try:
        orders, payments = asyncio.run(_trade(urlsplit(listeners["kafka"]).netloc, rate, seconds, tell))
    except KafkaError as error:
        raise RuntimeError(f"the Kafka listener refuses: {error}") from None
    return (
        f"{orders} orders, {payments} payments; see the topics {ORDERS} and {PAYMENTS}, and the groups that read them"
    )


async def _trade(broker: str, rate: float, seconds: float, tell: Callable[[int], None]) -> tuple[int, int]:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]

    await _make_topics(broker)
    reading: dict[str, Any] = {
        "bootstrap_servers": broker,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
    }
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True, client_id="demo.shop")
    billing = AIOKafkaConsumer(ORDERS, group_id="demo.billing", client_id="demo.billing", **reading)
    reports = AIOKafkaConsumer(ORDERS, group_id="demo.reports", client_id="demo.reports", **reading)
    started = []
    try:
        for client in (producer, billing, reports):
            await client.start()
            started.append(client)
        ends_s = time.monotonic() + seconds
        orders, payments, _ = await asyncio.gather(
            _order(producer, rate, ends_s, tell), _bill(billing, producer, ends_s), _report(reports, ends_s)
        )
    finally:
        for client in reversed(started):
            await client.stop()
    return orders, payments


async def _make_topics(broker: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
    from aiokafka.errors import TopicAlreadyExistsError

    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [NewTopic(one, PARTITIONS, 1) for one in (ORDERS, PAYMENTS) if one not in there]
        if missing:
            await admin.create_topics(missing)
    except TopicAlreadyExistsError:
        pass  # another demo was quicker
    finally:
        await admin.close()


async def _order(producer: Any, rate: float, ends_s: float, tell: Callable[[int], None]) -> int:
    random, began_s, placed = Random(), time.monotonic(), 0
    while time.monotonic() < ends_s:
        customer = int(random.paretovariate(1.1))
        basket = random.choices(GOODS, WEIGHTS, k=random.randint(1, 4))
        order = {
            "order": f"{random.getrandbits(48):012x}",
            "customer": customer,
            "country": COUNTRIES[customer % len(COUNTRIES)],
            "items": [{"name": name, "cents": cents} for name, cents in basket],
            "cents": sum(cents for _, cents in basket),
        }
        await producer.send(ORDERS, json.dumps(order).encode(), key=f"customer-{customer}".encode())
        placed += 1
        tell(placed)
        await asyncio.sleep(max(0.0, began_s + placed / rate - time.monotonic()))
    await producer.flush()
    return placed


async def _bill(consumer: Any, producer: Any, ends_s: float) -> int:
    """Each order becomes a payment; a few of them fail."""
    random, billed = Random(), 0
    while time.monotonic() < ends_s:
        for records in (await consumer.getmany(timeout_ms=WAIT_MS)).values():
            for record in records:
                order = json.loads(record.value)
                payment = {
                    "order": order["order"],
                    "cents": order["cents"],
                    "status": "refused" if random.random() < 0.03 else "paid",
                }
                await producer.send(PAYMENTS, json.dumps(payment).encode(), key=record.key)
                billed += 1
        await producer.flush()
        await consumer.commit()
    return billed


async def _report(consumer: Any, ends_s: float) -> None:
    while (left_s := ends_s - time.monotonic()) > 0:
        await asyncio.sleep(min(REPORT_EVERY_S, left_s))
        while await consumer.getmany(timeout_ms=WAIT_MS):
            await consumer.commit()
            if time.monotonic() > ends_s:
                return
