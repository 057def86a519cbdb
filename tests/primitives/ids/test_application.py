"""Ids in the whole: behind the doors, through a crash, and unwell where its clock is."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mainspring.primitives.ids
from mainspring.core.application import Mainspring
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.config import Config
from mainspring.primitives.ids import Ids
from mainspring.primitives.ids.http import routes
from tests.asgi import call
from tests.fixtures_server import StartServer

from .conftest import MakeIds, WatchedClock

README = Path(mainspring.primitives.ids.__file__).parent / "README.md"


class Shifted(SystemClock):
    """The machine's clock, set by `by_ns`."""

    by_ns = 0

    def wall_ns(self) -> int:  # type: ignore[override]
        return SystemClock.wall_ns() + self.by_ns


def ready(address: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{address}-/ready/ids", timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


async def until_ready(address: str) -> None:
    """Returns once the node is ready: on a starved machine a renewal may be late for a moment."""
    async with asyncio.timeout(60):
        while True:
            status, _ = await asyncio.to_thread(ready, address)
            if status == 200:
                return
            await asyncio.sleep(0.05)


async def test_a_node_whose_clock_was_set_back_is_not_ready_until_it_has_caught_up(tmp_path: Path) -> None:
    clock = Shifted()
    config = Config(data=str(tmp_path), port=0, free_bytes_min=0)
    async with Mainspring(["ids"], config, give={Clock: clock}) as mainspring_:
        ids = await mainspring_.service(Ids)
        ids.next()
        await mainspring_.listen()
        await until_ready(mainspring_.address)
        clock.by_ns = -60_000_000_000
        status, body = await asyncio.to_thread(ready, mainspring_.address)
        assert status == 503 and "behind the last id" in body["checks"]["ids"]
        clock.by_ns = 0
        await until_ready(mainspring_.address)


def test_what_was_counted_and_minted_outlives_a_crash(start_server: StartServer) -> None:
    server = start_server("ids")
    body = {"kind": "snowflake", "count": 100}
    before = [int(text) for text in server.call("POST", "api/ids", body)["ids"]]
    first = int(server.call("POST", "api/ids/sequences/invoice", {"count": 5})["first"])
    shown = server.call("GET", f"api/ids/{before[0]}")
    assert shown["minted_by"]["holder"].endswith(f"/{server.process.pid}")
    server.kill()
    server.start()
    after = [int(text) for text in server.call("POST", "api/ids", body)["ids"]]
    assert max(before) < min(after)
    assert int(server.call("POST", "api/ids/sequences/invoice", {"count": 5})["first"]) >= first + 5
    assert server.call("GET", f"api/ids/{before[0]}")["minted_by"] == shown["minted_by"]


async def test_the_readmes_example_is_what_is_answered(make_ids: MakeIds, clock: WatchedClock) -> None:
    ids = await make_ids()
    app = routes.application({Ids: ids, Clock: clock}, None)
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)]
    one, workers, played = blocks
    shown = (await call(app, "GET", f"/api/ids/{one['text']}")).json()
    assert shown.keys() == one.keys()
    assert {**shown, "minted_by": None} == {**one, "minted_by": None}
    listed = (await call(app, "GET", "/api/ids/workers")).json()
    assert listed.keys() == workers.keys() and listed["workers"][0].keys() == workers["workers"][0].keys()
    back = (await call(app, "POST", "/api/ids/simulate", json={"set_ms": -4_000})).json()
    assert back.keys() == played.keys() and back["steps"][0].keys() == played["steps"][0].keys()
