"""What is promised when things break: processes that die, disks that fill, nodes that lose touch."""

import asyncio
import itertools
import json
import random
import threading
import urllib.error
import urllib.request
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Database
from mainspring.core.problems import StorageFull
from mainspring.social.links import LinkEdit, Links, LinksSettings
from tests.fixtures_database import PostgresServer
from tests.fixtures_server import Server, StartServer
from tests.social.links.conftest import Start, drain, listening, prepare, started
from tests.waiting import until

URL = "https://example.com/some/where"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def location(server: Server, code: str) -> str | None:
    try:
        OPENER.open(f"{server.listener('links')}{code}", timeout=30)
    except urllib.error.HTTPError as answer:
        return answer.headers["location"]
    return None


def create_until_it_dies(server: Server, made: list[dict[str, Any]], enough: threading.Event, number: int) -> None:
    """Makes links, each with its own target, until the server is gone; notes each that was acknowledged."""
    count = 0
    while True:
        try:
            made.append(server.call("POST", "api/links/links", {"url": f"{URL}/{number}/{count}"}))
        except urllib.error.HTTPError as refused:
            if refused.code == 503:  # a starved machine says so when it cannot keep up: ask again
                continue
            raise
        except (urllib.error.URLError, OSError, json.JSONDecodeError):
            return
        count += 1
        if len(made) >= 20:
            enough.set()


def rounds_of_kill(start_server: StartServer, rounds: int) -> None:
    dice = random.Random(11)
    server = start_server("links", settings=("links.token_per_minute=1000000000",))
    acknowledged: dict[str, str] = {}
    for round in range(rounds):
        made: list[dict[str, Any]] = []
        enough = threading.Event()
        callers = [
            threading.Thread(target=create_until_it_dies, args=(server, made, enough, 10 * round + n)) for n in range(4)
        ]
        for caller in callers:
            caller.start()
        assert enough.wait(180), server.log()
        enough.wait(dice.random() / 20)
        server.kill()
        for caller in callers:
            caller.join(60)
        server.start()
        for link in made:
            assert link["code"] not in acknowledged, "a code was given out twice"
            acknowledged[link["code"]] = link["url"]
        for code in [one["code"] for one in made] + dice.sample(sorted(acknowledged), min(20, len(acknowledged))):
            assert location(server, code) == acknowledged[code]


def test_acknowledged_links_survive_kill_9_and_no_code_is_given_twice(start_server: StartServer) -> None:
    rounds_of_kill(start_server, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_200_rounds_of_kill_9_lose_no_acknowledged_link(start_server: StartServer) -> None:
    rounds_of_kill(start_server, 200)


async def test_on_a_full_disk_links_are_refused_and_redirects_go_on(tmp_path: Path) -> None:
    free = 1 << 40
    database = SqliteDatabase(tmp_path / "test.db", floor_bytes=1 << 30, ballast_bytes=0, free_bytes=lambda: free)
    await database.start()
    try:
        await prepare(database)
        async with started(database) as links, listening(database, links) as listener:
            made = await links.create(URL)
            free = 0
            for _ in range(2):
                assert (await listener.visit(f"/{made.code}")).status == 302
            answer = await listener.api("POST", "/links", json={"url": URL})
            assert answer.status == 507 and answer.json()["type"] == "/problems/core/storage-full"
            with pytest.raises(StorageFull):
                await links.clicks.flush()
            free = 1 << 40

            async def accepted() -> bool:
                return (await listener.api("POST", "/links", json={"url": URL})).status == 201

            await until(accepted)
            await drain(links)
            assert (await links.counting.sums(["all"]))["all"][0] == 2
    finally:
        await database.stop()


async def test_a_node_that_lost_touch_gives_out_old_targets_for_ten_seconds_at_most(
    start: Start, database: Database
) -> None:
    class Deaf:
        """A log whose events never reach this node."""

        def __init__(self) -> None:
            self.append_many = OutboxLog(database, SystemClock()).append_many  # type: ignore[arg-type]

    clock = VirtualClock()
    here: Links = await start()
    there: Links = await start(settings=LinksSettings(stale_s=10), clock=clock, log=Deaf())
    made = await here.create(URL, alias="x")
    async with listening(database, there) as listener:
        assert (await listener.visit("/x")).headers["location"] == URL
        await here.edit(made.id, LinkEdit(url=URL + "/new"))
        await clock.advance(9.9)
        assert (await listener.visit("/x")).headers["location"] == URL
        await clock.advance(0.2)
        assert (await listener.visit("/x")).headers["location"] == URL + "/new"


def follow(address: str, name: str) -> bool:
    """Follows a link as the visitor `name`; gives whether there was an answer."""
    try:
        OPENER.open(urllib.request.Request(address, headers={"user-agent": name}), timeout=30)
    except urllib.error.HTTPError as answer:
        return answer.code == 302
    except (urllib.error.URLError, OSError):
        return False
    return False


def follow_until_it_dies(address: str, followed: set[str], round: int) -> None:
    """Follows a link as ever new visitors, as fast as it can at first and then ten times a second."""
    for count in itertools.count():
        name = f"visitor {round}/{count}"
        followed.add(name)
        if not follow(address, name):
            return
        if count > 300:
            threading.Event().wait(0.1)


def counted(server: Server, code: str, pages_max: int = 1_000_000) -> list[str]:
    """The visitors in the list of visits, newest first."""
    seen: list[str] = []
    page, pages = 1, 1
    while page <= min(pages, pages_max):
        path = f"rest/v3/short-urls/{code}/visits?itemsPerPage=1000&page={page}"
        request = urllib.request.Request(f"{server.listener('links')}{path}", headers={"x-api-key": server.token})
        visits = json.load(urllib.request.urlopen(request, timeout=60))["visits"]
        seen += [one["userAgent"] for one in visits["data"]]
        page, pages = page + 1, visits["pagination"]["pagesCount"]
    return seen


async def clicks_through_kills(start_server: StartServer, rounds: int) -> None:
    """The server is killed while it counts: each time once some clicks of the round have been counted."""
    server = await asyncio.to_thread(start_server, "links")
    link = await asyncio.to_thread(server.call, "POST", "api/links/links", {"url": URL})
    followed: set[str] = set()

    async def sees(name: str) -> bool:
        newest = await asyncio.to_thread(counted, server, link["code"], 1)
        return any(one.startswith(name) for one in newest)

    for round in range(rounds):
        address = f"{server.listener('links')}{link['code']}"
        visitor = threading.Thread(target=follow_until_it_dies, args=(address, followed, round))
        visitor.start()
        await until(partial(sees, f"visitor {round}/"))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(visitor.join, 60)
        await asyncio.to_thread(server.start)
    followed.add("the last")
    assert follow(f"{server.listener('links')}{link['code']}", "the last")
    await until(partial(sees, "the last"))
    seen = await asyncio.to_thread(counted, server, link["code"])
    assert len(seen) == len(set(seen)) and set(seen) <= followed
    for path in (f"api/links/links/{link['id']}/stats", "api/links/stats"):
        assert (await asyncio.to_thread(server.call, "GET", path))["clicks"] == len(seen)


async def test_clicks_are_counted_at_most_once_through_kill_9(start_server: StartServer) -> None:
    await clicks_through_kills(start_server, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_clicks_are_counted_at_most_once_through_200_kills(start_server: StartServer) -> None:
    await clicks_through_kills(start_server, 200)


@pytest.mark.postgres
async def test_two_nodes_on_one_postgres_keep_their_promise_while_one_is_killed(
    start_server: StartServer, postgres_server: PostgresServer
) -> None:
    """Both race for the same aliases and make codes; one is killed in the middle and comes back."""
    schema = f"t_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    shared = (f"database={postgres_server.dsn(schema)}", "links.token_per_minute=1000000000")
    try:
        one, two = [
            await asyncio.to_thread(start_server, "links", settings=shared, data=name) for name in ("one", "two")
        ]
        for node in (one, two):
            await asyncio.to_thread(node.call, "GET", "api/links/tags")
        made: list[dict[str, Any]] = []
        refused: list[int] = []
        some = threading.Event()

        def race(node: Server) -> None:
            for number in range(60):
                for fields in ({"alias": f"alias-{number}"}, {}):
                    try:
                        made.append(node.call("POST", "api/links/links", {"url": URL, **fields}))
                    except urllib.error.HTTPError as error:
                        refused.append(error.code)
                    except (urllib.error.URLError, OSError):
                        return
                if number == 20:
                    some.set()

        racers = [threading.Thread(target=race, args=(node,)) for node in (one, one, two, two)]
        for racer in racers:
            racer.start()
        await asyncio.to_thread(some.wait, 60)
        await asyncio.to_thread(two.kill)
        for racer in racers:
            await asyncio.to_thread(racer.join, 120)
        await asyncio.to_thread(two.start)
        codes = [one["code"] for one in made]
        assert len(codes) == len(set(codes)) and set(refused) <= {409}
        assert {f"alias-{number}" for number in range(60)} <= set(codes) | _unanswered(two, codes)
        for code in random.Random(5).sample(codes, 20):
            assert await asyncio.to_thread(location, two, code) == URL
    finally:
        for node in (one, two):
            await asyncio.to_thread(node.stop)
        postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")


def _unanswered(node: Server, codes: list[str]) -> set[str]:
    """Aliases that were made although the dying node could not say so any more."""
    return {
        f"alias-{number}"
        for number in range(60)
        if f"alias-{number}" not in codes and location(node, f"alias-{number}")
    }
