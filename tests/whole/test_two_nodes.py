"""Two nodes behind nginx are one Mainspring: what one does the other knows, and either may die."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect

from tests.fixtures_database import PostgresServer
from tests.fixtures_server import Server
from tests.waiting import until
from tests.whole.cluster import CONSOLE, GO, PATIENCE_S, Door, Nodes, running

pytestmark = [pytest.mark.peer, pytest.mark.postgres, pytest.mark.redis]

URL = "https://example.com/some/where"
CLIENTS = range(4)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


@pytest.fixture(scope="module")
def nodes(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes that all tests of this module share; who kills one takes two of its own."""
    with running(postgres_server, tmp_path_factory.mktemp("nodes")) as both:
        yield both


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def ask(node: Server, address: str, **headers: str) -> tuple[int, str | None]:
    """Status and location of what one node answers to a GET; no redirect is followed."""
    try:
        answer = OPENER.open(urllib.request.Request(address, headers=headers), timeout=PATIENCE_S)
    except urllib.error.HTTPError as other:
        answer = other
    with answer:
        assert answer.status < 500, (answer.read(), node.log())
        return answer.status, answer.headers["location"]


def visit(node: Server, code: str) -> tuple[int, str | None]:
    """What a visitor of a link gets from one node."""
    return ask(node, f"{node.listener('links')}{code}", host=GO)


def status(node: Server, path: str, **headers: str) -> int:
    """The status that one node answers to a GET with these credentials."""
    return ask(node, node.address + path, **headers)[0]


async def on_both(nodes: Nodes, happens: Callable[[Server], bool]) -> None:
    for node in (nodes.one, nodes.two):
        await until(partial(happens, node))


def make_token(node: Server, scope: str) -> tuple[str, str]:
    """A header that is good on every node, and the token's id."""
    made = node.call("POST", "api/accounts/tokens", {"name": "robot", "scopes": [scope]})
    return f"Bearer {made['token']}", made["details"]["id"]


def sign_in(node: Server) -> str:
    """The cookie of a new session."""
    body = json.dumps({"token": node.token}).encode()
    request = urllib.request.Request(f"{node.address}-/session", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as opened:
        given: str = opened.headers["set-cookie"]
    assert "; Secure" in given, "TLS ends in front of the nodes"
    return given.partition(";")[0]


async def test_what_one_node_makes_changes_and_deletes_the_other_follows(nodes: Nodes) -> None:
    made = nodes.one.call("POST", "api/links/links", {"url": URL, "alias": "here"})
    assert made["short_url"] == f"https://{GO}/here"
    await on_both(nodes, lambda node: visit(node, "here") == (302, URL))
    nodes.two.call("PATCH", f"api/links/links/{made['id']}", {"url": f"{URL}/else"})
    await on_both(nodes, lambda node: visit(node, "here") == (302, f"{URL}/else"))
    nodes.one.call("DELETE", f"api/links/links/{made['id']}")
    await on_both(nodes, lambda node: visit(node, "here")[0] == 410)


async def test_codes_ids_and_numbers_of_two_nodes_are_different_ones(nodes: Nodes) -> None:
    codes, ids, numbers = [], [], []
    for _ in range(10):
        for node in (nodes.one, nodes.two):
            codes.append(node.call("POST", "api/links/links", {"url": URL})["code"])
            ids += node.call("POST", "api/ids", {"kind": "snowflake", "count": 100})["ids"]
            block = node.call("POST", "api/ids/sequences/invoices", {"count": 7})
            numbers += range(int(block["first"]), int(block["first"]) + 7)
    assert (len(set(codes)), len(set(ids)), len(set(numbers))) == (20, 2000, 140)
    workers = [node.call("GET", "api/ids/workers")["ours"] for node in (nodes.one, nodes.two)]
    assert workers[0] != workers[1]


async def test_a_session_and_a_token_are_good_on_both_nodes_and_revoked_on_both(nodes: Nodes) -> None:
    cookie = sign_in(nodes.one)
    bearer, id = make_token(nodes.two, "links:read")
    for node in (nodes.one, nodes.two):
        assert status(node, "api/links/links", cookie=cookie) == 200
        assert status(node, "api/links/links", authorization=bearer) == 200
    async with nodes.door(CONSOLE) as console:
        assert (await console.ask("DELETE", "/-/session", cookie=cookie)).status == 204
    nodes.one.call("DELETE", f"api/accounts/tokens/{id}")
    await on_both(nodes, lambda node: status(node, "api/links/links", cookie=cookie) == 401)
    await on_both(nodes, lambda node: status(node, "api/links/links", authorization=bearer) == 401)


async def test_a_console_behind_nginx_sees_live_what_visitors_do_on_any_node(nodes: Nodes) -> None:
    bearer, _ = make_token(nodes.one, "links:*")
    async with nodes.door(CONSOLE) as console, nodes.door(GO) as go:
        page = await console.ask("GET", "/", accept="text/html")
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert (await console.ask("GET", "/metrics")).status == 404
        link = await console.ask("POST", "/api/links/links", {"url": URL}, authorization=bearer)
        code = link.json()["code"]
        await on_both(nodes, lambda node: visit(node, code) == (302, URL))
        live = unix_connect(
            console.path,
            uri=f"wss://{CONSOLE}/api/links/live",
            ssl=console.tls,
            additional_headers={"authorization": bearer},
            open_timeout=PATIENCE_S,
        )
        async with live as socket, asyncio.timeout(PATIENCE_S):
            heard = asyncio.create_task(anext(message async for message in socket if "clicks" in json.loads(message)))
            while not heard.done():
                visited = await go.ask("GET", f"/{code}", **{"user-agent": BROWSER})
                assert (visited.status, visited.headers["location"]) == (302, URL)
                await asyncio.wait([heard], timeout=0.05)
            assert json.loads(heard.result())["clicks"] >= 1


class Load:
    """Clients of nginx who make links, and others who follow one, until `stop` is set."""

    def __init__(self, console: Door, go: Door, bearer: str, code: str) -> None:
        self.console, self.go, self.bearer, self.code = console, go, bearer, code
        self.made: list[str] = []
        self.followed = 0
        self.stop = asyncio.Event()

    async def make(self, client: int) -> None:
        """A request that got no answer from a node is sent again with its key, as any good client does."""
        for number in count():
            name = f"{client}-{number}"
            headers = {"authorization": self.bearer, "idempotency-key": name}
            body = {"url": f"{URL}/{name}", "notes": name}
            while (answer := await self.console.ask("POST", "/api/links/links", body, **headers)).status != 201:
                assert answer.status in (502, 503, 504), answer
                await asyncio.sleep(0.02)
            self.made.append(name)
            if self.stop.is_set():
                return

    async def follow(self) -> None:
        """A GET never fails: nginx asks the other node."""
        while not self.stop.is_set():
            answer = await self.go.ask("GET", f"/{self.code}", **{"user-agent": BROWSER})
            assert (answer.status, answer.headers.get("location")) == (302, URL), answer
            self.followed += 1


def links_of(node: Server) -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = node.call("GET", f"api/links/links?limit=100&cursor={cursor}" if cursor else "api/links/links?limit=100")
        links += page["items"]
        cursor = page["next"]
    return links


async def test_a_node_killed_under_load_costs_no_visit_and_no_link_that_was_acknowledged(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with running(postgres_server, tmp_path) as nodes:
        one, two = nodes.one, nodes.two
        bearer, _ = make_token(one, "links:*")
        link = one.call("POST", "api/links/links", {"url": URL})
        await on_both(nodes, lambda node: visit(node, link["code"]) == (302, URL))
        async with nodes.door(CONSOLE) as console, nodes.door(GO) as go, asyncio.TaskGroup() as clients:
            load = Load(console, go, bearer, link["code"])
            for client in CLIENTS:
                clients.create_task(load.make(client))
                clients.create_task(load.follow())
            await until(lambda: len(load.made) >= 30 and load.followed >= 60)
            await asyncio.to_thread(one.kill)
            made, followed = len(load.made) + 60, load.followed + 100
            await until(lambda: len(load.made) >= made and load.followed >= followed)
            load.stop.set()
        assert sorted(one["notes"] for one in links_of(two) if one["notes"]) == sorted(load.made), "each is there, once"

        async with nodes.door(CONSOLE) as console:
            assert (await console.ask("GET", "/-/ready")).json()["ready"]

        def clicks() -> int:
            return int(two.call("GET", f"api/links/links/{link['id']}")["clicks"])

        before = clicks()
        assert visit(two, link["code"]) == (302, URL)
        await until(lambda: clicks() > before)
        # A visit that the dying node had counted but not answered was one at the other node again.
        assert clicks() <= load.followed + len(CLIENTS) + 3, "and none is counted twice"
