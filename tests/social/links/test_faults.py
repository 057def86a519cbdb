"""What is promised when things break: processes that die, disks that fill, nodes that lose touch."""

import json
import random
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Database
from mainspring.core.problems import StorageFull
from mainspring.social.links import LinkEdit, Links, LinksSettings
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
        OPENER.open(f"http://{server.listener('links')}/{code}", timeout=30)
    except urllib.error.HTTPError as answer:
        return answer.headers["location"]
    return None


def create_until_it_dies(server: Server, made: list[dict[str, Any]], enough: threading.Event, number: int) -> None:
    """Makes links, each with its own target, until the server is gone; notes each that was acknowledged."""
    count = 0
    while True:
        try:
            made.append(server.call("POST", "api/links/links", {"url": f"{URL}/{number}/{count}"}))
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
        assert enough.wait(60), server.log()
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
            assert (await links.sums(["all"]))["all"][0] == 2
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
