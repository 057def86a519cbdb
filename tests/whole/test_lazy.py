"""A system is built by its first request: once, however many come at the same time; one that nobody asks for, never."""

import asyncio
import json
import subprocess
import sys
import urllib.error
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.core.database import SqliteDatabase
from mainspring.core.manifest import manifests
from mainspring.core.ports import Database
from tests.fixtures_server import Server, StartServer, environment
from tests.needs import REPOSITORY

PATIENCE_S = 120
FIRST_REQUESTS = 450

IMPORTED = """
import asyncio, sys
from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.core.ports import Log

async def idle():
    async with Mainspring([], Config(data=sys.argv[1], port=0, ports={name: 0 for name in sys.argv[2:]})) as mainspring:
        await mainspring.listen()

async def log_alone():
    async with Mainspring(["log"], Config(data=sys.argv[1] + "-log")) as mainspring:
        await mainspring.service(Log)

asyncio.run(idle())
families = ("mainspring.primitives.", "mainspring.social.", "mainspring.storage.")
print(sorted(name for name in sys.modules if name.startswith(families)))
heavy = {"sqlalchemy", "alembic", "psycopg", "cryptography", "importlib.metadata", "granian", "h11"}
print(sorted(sys.modules.keys() & heavy))
asyncio.run(log_alone())
print(sorted(sys.modules.keys() & {"sqlalchemy"}), "mainspring.storage.log.service" in sys.modules)
"""


def states(server: Server) -> dict[str, str]:
    return {one["name"]: one["state"] for one in server.call("GET", "-/systems")["systems"]}


async def get(address: str, token: str) -> int:
    """The status of a GET on a connection of its own."""
    host, _, path = address.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"GET /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n".encode())
    status = (await reader.readuntil(b"\r\n")).split()[1]
    writer.close()
    return int(status)


async def test_450_first_requests_build_each_system_once_and_are_all_answered(start_server: StartServer) -> None:
    server = start_server()
    api = ("ids/workers", "limiter/policies", "links/links", "links/pastes", "log/topics", "accounts/whoami")
    doors = {**{f"{server.address}api/{path}": 200 for path in api}, f"{server.listener('links')}no-such-link": 404}
    asked = [door for door, _ in zip(cycle(doors), range(FIRST_REQUESTS), strict=False)]
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(get(door, server.token) for door in asked))
    assert answers == [doors[door] for door in asked]
    for name in ("ids", "limiter", "links", "log"):
        assert states(server)[name] == "running"
        assert server.log().count(f'"{name} runs"') == 1


def test_a_server_that_nobody_asks_builds_nothing(start_server: StartServer) -> None:
    server = start_server()
    for path in ("-/live", "-/ready", "-/systems", "api/accounts/whoami"):
        assert server.call("GET", path)
    assert {one["state"] for one in json.loads(server.command("systems", "--json"))} == {"idle"}
    assert states(server) == dict.fromkeys(manifests(), "idle")
    assert 'runs"' not in server.log()


def test_a_server_that_nobody_asks_imports_no_system_and_neither_it_nor_the_log_sqlalchemy(tmp_path: Path) -> None:
    listeners = [spec.name for one in manifests().values() for spec in one.listeners]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(tmp_path / "data"), *listeners],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        cwd=REPOSITORY,
    )
    assert done.stdout.split() == ["[]", "[]", "[]", "True"], done.stdout + done.stderr


def test_a_subset_is_those_systems_and_what_they_use(start_server: StartServer) -> None:
    alone = start_server("ids", data="alone")
    assert states(alone) == {"ids": "idle"}
    for path in ("api/links/links", "api/limiter/policies", "-/ready/links"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            alone.call("GET", path)
    assert alone.call("GET", "-/ready/ids")["ready"]
    using = start_server("links", data="using")
    assert set(states(using)) == {"links", *manifests()["links"].uses}


def test_a_system_that_cannot_be_built_says_why_to_its_operator_alone_and_harms_no_other(
    start_server: StartServer,
) -> None:
    server = start_server(settings=("links.public_url=nonsense",))
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        server.call("GET", "api/links/links")
    assert "nonsense" not in refused.value.read().decode() and refused.value.headers["retry-after"]
    with pytest.raises(urllib.error.HTTPError, match="503") as unready:
        server.call("GET", "-/ready/links")
    assert "nonsense" not in unready.value.read().decode()
    for text, told in (
        (json.dumps(server.call("GET", "-/systems")), False),
        (server.command("systems", "--json"), True),
    ):
        assert '"failed"' in text and ("nonsense" in text) == told
    assert server.call("GET", "-/ready")["ready"] and server.call("GET", "api/ids/workers")


class Moody(SqliteDatabase):
    """A database whose disk is full while the tables of ids are made, for the first time."""

    full = True

    async def prepare(self, name: str, *more: Any) -> None:
        if name == "ids" and self.full:
            self.full = False
            raise OSError(28, "No space left on device")
        await super().prepare(name, *more)


async def test_a_system_that_could_not_be_built_is_built_by_the_next_request(tmp_path: Path) -> None:
    database = Moody(tmp_path / "moody.db", floor_bytes=0, ballast_bytes=0)
    await database.start()
    try:
        async with Mainspring(["ids"], Config(data=str(tmp_path / "data"), port=0), give={Database: database}) as whole:
            await whole.listen()
            asked = [await get(f"{whole.address}api/ids/workers", whole.one_click) for _ in range(3)]
            assert asked == [503, 200, 200]
    finally:
        await database.stop()
