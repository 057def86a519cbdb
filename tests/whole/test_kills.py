"""kill -9 of a server that is written to from all sides: what was acknowledged is there, whole and once, and no halves.

Writers make and change links and pastes and take numbers over HTTP until the server dies under them. What each was then
waiting for is asked again with its Idempotency-Key: afterwards everything that was ever asked for has happened exactly once.
"""

import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from http.client import HTTPConnection, HTTPException
from itertools import count, pairwise
from typing import Any, NamedTuple

import pytest

from tests.fixtures_server import Server, StartServer
from tests.waiting import until

PATIENCE_S = 180
TRIES = 20
"""How often a deed is tried: a starved machine answers 503 when it cannot keep up."""
State = tuple[Any, ...]


class Deed(NamedTuple):
    """A request, and what there is of its object, of this kind and name, once it has happened."""

    method: str
    path: str
    body: dict[str, Any]
    kind: str
    name: str
    state: State = ()

    def do(self, server: Server) -> Any:
        # A change is the same however often it is made; what makes something is told apart by its key.
        key = {"idempotency-key": self.name} if self.method == "POST" else {}
        for _ in range(TRIES - 1):
            try:
                return server.call(self.method, self.path, self.body, **key)
            except urllib.error.HTTPError as refused:
                if refused.code != 503:
                    raise
        return server.call(self.method, self.path, self.body, **key)


Deeds = Generator[Deed, Any, None]


def shorten(round: str, writer: str, dice: random.Random) -> Deeds:
    """Makes links and changes some; a link's name is in its notes."""
    for number in count():
        name = f"{writer}-{number}"
        url, tags = f"https://example.org/{name}", [round, writer]
        body = {"url": url, "title": name, "notes": name, "tags": tags}
        made = yield Deed("POST", "api/links/links", body, "link", name, (url, name, tags))
        if dice.random() < 0.3:
            change = {"url": f"{url}/changed", "title": "changed", "tags": [round, "changed"]}
            yield Deed("PATCH", f"api/links/links/{made['id']}", change, "link", name, tuple(change.values()))


def paste(round: str, writer: str, dice: random.Random) -> Deeds:
    """Makes pastes and changes some; a paste's name is its title, and its text names the round."""
    for number in count():
        name = f"{writer}-{number}"
        text = f"{round} {name}\n" * dice.randrange(1, 200)
        made = yield Deed("POST", "api/links/pastes", {"body": text, "title": name}, "paste", name, (text,))
        if dice.random() < 0.3:
            text += "changed"
            yield Deed("PATCH", f"api/links/pastes/{made['id']}", {"body": text}, "paste", name, (text,))


def take_numbers(round: str, writer: str, dice: random.Random) -> Deeds:
    """Takes numbers of one of two sequences."""
    for number in count():
        name, sequence = f"{writer}-{number}", dice.choice(["invoices", "orders"])
        yield Deed("POST", f"api/ids/sequences/{sequence}", {"count": dice.randrange(1, 300)}, "number", name)


class Writer(threading.Thread):
    """Does one deed after the other until the server is gone; `unfinished` is the one that had no answer then."""

    def __init__(self, server: Server, deeds: Deeds, tell: Callable[[], None]) -> None:
        super().__init__()
        self.finished: list[tuple[Deed, Any]] = []
        self.unfinished = next(deeds)
        self.error: Exception | None = None
        self._server, self._deeds, self._tell = server, deeds, tell

    def run(self) -> None:
        try:
            while True:
                answer = self.unfinished.do(self._server)
                self.finished.append((self.unfinished, answer))
                self.unfinished = self._deeds.send(answer)
                self._tell()
        except urllib.error.HTTPError as refused:
            self.error = refused
        except (OSError, HTTPException, ValueError):  # a ValueError: an answer that was cut short
            pass


def pages(server: Server, path: str) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = server.call("GET", f"{path}&limit=100{cursor}")
        yield from page["items"]
        if page["next"] is None:
            return
        cursor = f"&cursor={page['next']}"


def links(server: Server, more: str = "") -> Iterator[tuple[str, State]]:
    """Name and state of every link."""
    for link in pages(server, f"api/links/links?{more}"):
        yield link["notes"], (link["url"], link["title"], link["tags"])


def pastes(server: Server, more: str = "") -> Iterator[tuple[str, State]]:
    """Name and state of every paste."""
    for one in pages(server, f"api/links/pastes?{more}"):
        versions = server.call("GET", f"api/links/pastes/{one['id']}/versions")
        assert len(versions) == one["version"]
        revealed = server.call("POST", f"api/links/pastes/{one['id']}/reveal")
        yield one["title"], (revealed["body"],)


class Ledger:
    """What must be there, by kind and name, and which numbers have been given out."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, State]] = {"link": {}, "paste": {}}
        self.blocks: dict[str, list[range]] = {}

    def enter(self, deed: Deed, answer: Any) -> None:
        if deed.kind == "number":
            first = int(answer["first"])
            self.blocks.setdefault(answer["name"], []).append(range(first, first + answer["count"]))
        else:
            self.states[deed.kind][deed.name] = deed.state

    def check_numbers(self) -> None:
        for blocks in self.blocks.values():
            blocks.sort(key=lambda block: block.start)
            assert all(one.stop <= other.start for one, other in pairwise(blocks)), "a number was given out twice"

    def check(self, kind: str, seen: Iterator[tuple[str, State]], names: set[str], open_deeds: list[Deed]) -> None:
        """Of these names everything is seen once, as it was acknowledged, or as an open deed would have it; no more."""
        found = list(seen)
        have = dict(found)
        assert len(found) == len(have), "a deed was done twice"
        states = {name: self.states[kind][name] for name in names & self.states[kind].keys()}
        assert states.keys() <= have.keys(), f"{kind}s that were acknowledged are lost"
        would_be = {deed.name: deed.state for deed in open_deeds if deed.kind == kind}
        for name, state in have.items():
            assert state in (states.get(name), would_be.get(name)), f"{kind} {name} is neither as it was nor changed"


def kill_while_writing(server: Server, round: str, dice: random.Random) -> list[Writer]:
    """Kills the server once its writers have a number of answers that chance decides; they are in the middle of more."""
    wanted = dice.randrange(10, 40)
    answers = iter(range(1, 1_000_000))
    enough = threading.Event()

    def tell() -> None:
        if next(answers) >= wanted:
            enough.set()

    kinds = [shorten, shorten, paste, paste, take_numbers, take_numbers]
    writers = [
        Writer(server, kind(round, f"{round}-{place}", random.Random(dice.random())), tell)
        for place, kind in enumerate(kinds)
    ]
    for writer in writers:
        writer.start()
    told = enough.wait(PATIENCE_S)
    server.kill()
    for writer in writers:
        writer.join(PATIENCE_S)
    assert told and not any(writer.error for writer in writers), ([writer.error for writer in writers], server.log())
    return writers


def _without_ports(answer: dict[str, Any]) -> dict[str, Any]:
    """A server that takes free ports has other ones after its restart."""
    return {name: value for name, value in answer.items() if name not in ("url", "short_url", "domain")}


def play(start_server: StartServer, rounds: int) -> None:
    dice = random.Random(20)
    server = start_server(settings=("links.token_per_minute=1000000000",))
    ledger = Ledger()
    for number in range(rounds):
        round = f"round{number}"
        writers = kill_while_writing(server, round, dice)
        server.start()
        finished = [one for writer in writers for one in writer.finished]
        unfinished = [writer.unfinished for writer in writers]
        for deed, answer in finished:
            ledger.enter(deed, answer)
        names = {deed.name for deed, _ in finished} | {deed.name for deed in unfinished}
        ledger.check("link", links(server, f"tag={round}"), names, unfinished)
        ledger.check("paste", pastes(server, f"q={round}"), names, unfinished)
        for deed in unfinished:
            ledger.enter(deed, deed.do(server))
        deed, answer = dice.choice([one for one in finished if one[0].method == "POST"])
        assert _without_ports(deed.do(server)) == _without_ports(answer), "a key has one answer, before and after"
        ledger.check_numbers()
    ledger.check("link", links(server), set(ledger.states["link"]), [])
    ledger.check("paste", pastes(server), set(ledger.states["paste"]), [])


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_what_was_acknowledged_survives_kill_9_and_nothing_is_half_done_or_done_twice(
    start_server: StartServer, rounds: int
) -> None:
    play(start_server, rounds)


def follow(server: Server, code: str, times: int) -> None:
    """Follows a link so many times, as a person does."""
    visitor = HTTPConnection(server.listener("links").removeprefix("http://").rstrip("/"), timeout=PATIENCE_S)
    for _ in range(times):
        visitor.request("GET", f"/{code}", headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"})
        answer = visitor.getresponse()
        answer.read()
        assert answer.status == 302
    visitor.close()


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(server.address + "metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


async def test_clicks_that_have_left_the_ring_of_100_ms_are_all_counted_after_kill_9(start_server: StartServer) -> None:
    server = start_server("links")
    link = server.call("POST", "api/links/links", {"url": "https://example.org"})
    for _ in range(4):
        follow(server, link["code"], 25)
        await until(lambda: metric(server, "links_clicks_waiting") == 0)
        server.kill()
        server.start()
    await until(lambda: server.call("GET", f"api/links/links/{link['id']}")["clicks"] == 100)
    stats = server.call("GET", f"api/links/links/{link['id']}/stats")
    assert (stats["clicks"], stats["bots"]) == (100, 0)
