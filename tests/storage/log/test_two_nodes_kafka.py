"""Two nodes on one PostgreSQL, one Redis and one Kafka: a kill under load costs no link, click or event, and doubles none."""

import threading
import uuid
from http.client import HTTPConnection, HTTPException
from itertools import count

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.apache import KafkaLog
from tests.core.log_contract import next_batch, reading
from tests.fixtures_cache import RedisServer
from tests.fixtures_database import PostgresServer
from tests.fixtures_kafka import KafkaBroker
from tests.fixtures_server import CALL_S, Server, StartServer
from tests.needs import need_module
from tests.waiting import until
from tests.whole.test_kills import Deed, metric
from tests.whole.test_two_nodes import links_of

need_module("confluent_kafka")
pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.peer]

BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
ENOUGH = 40


class Load:
    """People at one node: one follows a link, another makes links, until the node is gone or they are told to stop."""

    def __init__(self, node: Server, name: str) -> None:
        self.node, self.name = node, name
        self.link = node.call("POST", "api/links/links", {"url": f"https://example.org/{name}"})
        self.followed = 0
        self.made: list[str] = []
        self.unanswered = ""
        """The key of what was asked for when the node went."""
        self.errors: list[Exception] = []
        self.is_doomed = False
        """Whether the node is about to be killed, so that a request may go unanswered."""
        self._door = node.listener("links").removeprefix("http://").rstrip("/")
        self._stop = threading.Event()
        self._may_follow = threading.Event()
        self._may_follow.set()
        self._rests = False
        self._threads = [threading.Thread(target=self._until_gone, args=(work,)) for work in (self._follow, self._make)]
        for thread in self._threads:
            thread.start()

    async def counted(self) -> int:
        """How many follows are in the log for good: for a moment nobody follows, so that nothing waits in the ring."""
        self._may_follow.clear()
        await until(self._is_following_nobody)
        followed = self.followed
        await until(lambda: metric(self.node, "links_clicks_waiting") == 0)
        self._may_follow.set()
        return followed

    def stop(self) -> None:
        self._stop.set()
        self._may_follow.set()
        for thread in self._threads:
            thread.join(CALL_S)
        assert not self.errors and not any(thread.is_alive() for thread in self._threads), (
            self.errors,
            self.node.log(),
        )

    def make(self, node: Server, name: str) -> None:
        Deed("POST", "api/links/links", {"url": f"https://example.org/{name}", "notes": name}, "link", name).do(node)

    def _is_following_nobody(self) -> bool:
        return self._rests and not self._may_follow.is_set()

    def _until_gone(self, work) -> None:  # type: ignore[no-untyped-def]
        try:
            work()
        except (OSError, HTTPException, ValueError) as error:  # a ValueError: an answer that was cut short
            if not self.is_doomed:
                self.errors.append(error)
        except AssertionError as error:
            self.errors.append(error)  # type: ignore[arg-type]

    def _follow(self) -> None:
        visitor = HTTPConnection(self._door, timeout=CALL_S)
        while not self._stop.is_set():
            self._rests = True
            self._may_follow.wait()
            self._rests = False
            visitor.request("GET", f"/{self.link['code']}", headers=BROWSER)
            answer = visitor.getresponse()
            answer.read()
            assert answer.status == 302
            self.followed += 1
        visitor.close()

    def _make(self) -> None:
        for number in count():
            if self._stop.is_set():
                return
            self.unanswered = f"{self.name}-{number}"
            self.make(self.node, self.unanswered)
            self.made.append(self.unanswered)
            self.unanswered = ""


async def test_a_node_killed_under_load_costs_no_link_no_click_and_no_event(
    start_server: StartServer, postgres_server: PostgresServer, redis_server: RedisServer, kafka: KafkaBroker
) -> None:
    schema = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    settings = (
        f"database={postgres_server.dsn(schema)}",
        f"log=kafka://{kafka.address}",
        f"cache={redis_server.url}",
        "links.token_per_minute=1000000000",
    )
    one, two = (start_server("links", settings=settings, data=name) for name in ("one", "two"))

    def clicks(load: Load) -> int:
        return int(two.call("GET", f"api/links/links/{load.link['id']}")["clicks"])

    async def go_on(*loads: Load) -> None:
        wanted = [(load, load.followed + ENOUGH, len(load.made) + ENOUGH // 4) for load in loads]
        await until(lambda: all(load.errors or (load.followed >= f and len(load.made) >= m) for load, f, m in wanted))

    dying, living = Load(one, "dying"), Load(two, "living")
    try:
        await go_on(dying, living)
        safe = await dying.counted()
        await go_on(dying)
        dying.is_doomed = True
        one.kill()
        await go_on(living)
    finally:
        dying.stop()
        living.stop()
    if dying.unanswered:
        dying.make(two, dying.unanswered)
        dying.made.append(dying.unanswered)
    one.start()
    back = Load(one, "back")
    await go_on(back)
    back.stop()

    made = [*dying.made, *living.made, *back.made]
    assert sorted(link["notes"] for link in links_of(two) if link["notes"]) == sorted(made), "each is there, once"
    for load in (living, back):
        await until(lambda load=load: clicks(load) >= load.followed, every_s=0.1)  # type: ignore[misc]
        assert clicks(load) == load.followed, "each click is counted once"
    assert safe <= clicks(dying) <= dying.followed + 1, (
        "what was in the ring of 100 ms may be lost, and nothing is doubled"
    )

    log = KafkaLog(f"kafka://{kafka.address}", SystemClock())
    await log.start()
    try:
        async with reading(log.consumer(f"check-{uuid.uuid4().hex}", ["links.changed"])) as consumer:
            codes = {link["code"] for link in links_of(two)}
            seen: list[str] = []
            while not codes <= set(seen):
                batch = await next_batch(consumer)
                seen += [code for code in codes for record in batch if code.encode() in record.value]
                await consumer.commit()
    finally:
        await log.stop()
    assert sorted(seen) == sorted(codes), "each event once"
    for node in (one, two):
        assert node.stop() == 0
    postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")
