"""Two nodes on one PostgreSQL and one Kafka: while one is killed, no click and no event is lost or counted twice."""

import uuid

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.apache import KafkaLog
from tests.core.log_contract import next_batch, reading
from tests.fixtures_database import PostgresServer
from tests.fixtures_kafka import KafkaBroker
from tests.fixtures_server import Server, StartServer
from tests.needs import need_module
from tests.storage.log.test_moving import follow
from tests.waiting import until
from tests.whole.test_kills import metric

need_module("confluent_kafka")
pytestmark = pytest.mark.postgres


async def test_while_a_node_is_killed_clicks_are_counted_once_and_events_arrive_once(
    start_server: StartServer, postgres_server: PostgresServer, kafka: KafkaBroker
) -> None:
    schema = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    settings = (f"database={postgres_server.dsn(schema)}", f"log=kafka://{kafka.address}")
    nodes = [start_server("links", settings=settings, data=name) for name in ("one", "two")]
    link = nodes[0].call("POST", "api/links/links", {"url": "https://example.org"})
    made = {link["code"]}

    async def visit(node: Server) -> None:
        follow(node, link["code"], 10)
        made.add(node.call("POST", "api/links/links", {"url": f"https://example.org/{len(made)}"})["code"])
        # What has left the ring is in the log.
        await until(lambda: metric(node, "links_clicks_waiting") == 0)

    for node in nodes:
        await visit(node)
    nodes[0].kill()
    await visit(nodes[1])
    nodes[0].start()
    await visit(nodes[0])
    await until(lambda: nodes[1].call("GET", f"api/links/links/{link['id']}")["clicks"] == 40)
    stats = nodes[0].call("GET", f"api/links/links/{link['id']}/stats")
    assert (stats["clicks"], stats["bots"]) == (40, 0)

    log = KafkaLog(f"kafka://{kafka.address}", SystemClock())
    await log.start()
    try:
        async with reading(log.consumer(f"check-{uuid.uuid4().hex}", ["links.changed"])) as consumer:
            seen: list[str] = []
            while not made <= set(seen):
                batch = await next_batch(consumer)
                seen += [code for code in made for record in batch if code.encode() in record.value]
                await consumer.commit()
    finally:
        await log.stop()
    assert sorted(code for code in seen if code in made) == sorted(made), "each event once"
    for node in nodes:
        assert node.stop() == 0
    postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")
