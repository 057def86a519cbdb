"""One server: what its systems emit is read by a Kafka client, and what a Kafka client writes by Python in the process."""

import json
import urllib.request

from tests.fixtures_server import StartServer
from tests.needs import need_module
from tests.waiting import PATIENCE_S, until

need_module("confluent_kafka")


def test_an_event_that_a_system_emits_reaches_a_kafka_client(start_server: StartServer) -> None:
    from confluent_kafka import Consumer, Producer

    server = start_server("links", "log")
    made = [server.call("POST", "api/links/links", {"url": f"https://example.org/{n}"}) for n in range(3)]
    address = server.listener("kafka").removeprefix("kafka://").rstrip("/")
    settings = {"bootstrap.servers": address, "group.id": "watcher", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings | {"topic.metadata.refresh.interval.ms": 200, "allow.auto.create.topics": True})
    consumer.subscribe(["links.changed"])
    try:
        changes = []
        while len(changes) < len(made):
            message = consumer.poll(PATIENCE_S)
            assert message is not None, f"only {len(changes)} events came\n{server.log()}"
            if message.error() is None:
                changes.append(message)
    finally:
        consumer.close()
    assert [message.offset() for message in changes] == [0, 1, 2]
    assert all(dict(message.headers())["mainspring-outbox"] for message in changes)

    producer = Producer({"bootstrap.servers": address})
    producer.produce("letters", b"from outside", b"key")
    assert producer.flush(PATIENCE_S) == 0
    found = server.call("GET", "api/log/topics/letters/records?partition=0&offset=0")
    assert "from outside" in json.dumps(found)


async def test_clicks_pass_through_the_log_to_the_chart(start_server: StartServer) -> None:
    server = start_server("links", "log")
    link = server.call("POST", "api/links/links", {"url": "https://example.org/"})
    door, opener = server.listener("links"), urllib.request.build_opener(_Stay)
    for _ in range(5):
        request = urllib.request.Request(f"{door}{link['code']}", headers={"user-agent": "Mozilla/5.0"})
        assert opener.open(request, timeout=30).status in (301, 302, 307, 308)
    await until(lambda: server.call("GET", f"api/links/links/{link['id']}")["clicks"] == 5)
    assert server.call("GET", "api/log/topics/links.clicks")["name"] == "links.clicks"


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is the answer."""

    def http_error_302(self, req, fp, code, msg, headers):  # type: ignore[no-untyped-def]
        fp.status = code
        return fp

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
