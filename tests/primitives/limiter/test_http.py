"""The JSON API: what is decided, what is changed, who may, and what bad input gets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.clock import VirtualClock
from mainspring.core.http import Request
from mainspring.primitives.limiter import Limiter, MemoryStore
from mainspring.primitives.limiter.http import routes
from mainspring.primitives.limiter.live import VIEWERS_MAX, Window
from mainspring.primitives.limiter.service import Rulebook
from mainspring.primitives.limiter.tables import tables
from tests.asgi import Called, call, http_scope
from tests.fixtures_database import embedded_database
from tests.primitives.limiter.conftest import MIGRATIONS, PATIENCE_S
from tests.primitives.limiter.test_headers import parsed

SCOPES = {"reader": "limiter:read", "hitter": "limiter:hit", "writer": "limiter:write", "all": "limiter:*"}


class House:
    """The API on a limiter with a few policies."""

    def __init__(self, app: Any, limiter: Limiter, clock: VirtualClock) -> None:
        self.app, self.limiter, self.clock = app, limiter, clock

    async def __call__(
        self, method: str, path: str, json: Any = msgspec.UNSET, token: str = "all", **more: Any
    ) -> Called:
        return await call(self.app, method, f"/api/limiter{path}", json=json, token=token or None, **more)


@pytest.fixture
async def house(tmp_path: Any) -> AsyncIterator[House]:
    clock = VirtualClock(mono_ns=10**9)
    limiter = Limiter(
        MemoryStore(clock),
        clock,
        api="3/minute",
        tall="2/minute > 3/minute",
        gpu="concurrency 1 ttl 30s",
        shape="9/s queue 9",
    )

    async def authenticate(request: Request) -> Caller:
        name = request.headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        return Caller(1, name, "token", frozenset({SCOPES[name]}), 1) if name in SCOPES else ANONYMOUS

    async with embedded_database(tmp_path) as database:
        await database.prepare("limiter", tables, MIGRATIONS)
        rulebook = Rulebook(database, limiter, clock)
        await rulebook.start()
        yield House(routes.application({Limiter: limiter, Rulebook: rulebook}, authenticate), limiter, clock)
        await rulebook.stop()


async def test_a_hit_is_a_decision_and_a_refusal_is_one_too(house: House) -> None:
    answers = [(await house("POST", "/api/hit", {"key": "user", "cost": 2})).json() for _ in range(2)]
    assert answers[0] == {
        "allowed": True,
        "policy": "api",
        "limit": 3,
        "remaining": 1,
        "reset_s": 119.0,
        "retry_after_s": 0.0,
        "delay_s": 0.0,
        "violated": [],
        "shadowed": [],
        "store": "memory",
        "lease": None,
        "reservation": f"2@{10**9}",
        "limits": [{"name": "api", "passed": True, "limit": 3, "remaining": 1, "reset_s": 119.0, "retry_after_s": 0.0}],
    }
    assert answers[1]["allowed"] is False and answers[1]["violated"] == ["api"] and answers[1]["reservation"] is None


async def test_peek_refund_settle_and_reset(house: House) -> None:
    reserved = (await house("POST", "/api/hit", {"key": "user", "cost": 3})).json()["reservation"]
    settled = await house("POST", "/api/settle", {"key": "user", "reservation": reserved, "actual": 1})
    assert settled.status == 204
    assert (await house("POST", "/api/peek", {"key": "user"})).json()["remaining"] == 1
    assert (await house("POST", "/api/refund", {"key": "user", "cost": 1})).status == 204
    assert (await house("POST", "/api/peek", {"key": "user", "cost": 3})).json()["allowed"] is True
    await house("POST", "/api/hit", {"key": "user", "cost": 3})
    assert (await house("POST", "/api/reset", {"key": "user"})).status == 204
    assert (await house("POST", "/api/hit", {"key": "user", "cost": 3})).json()["allowed"] is True


async def test_a_hierarchy_is_asked_with_one_key_for_each_level(house: House) -> None:
    answer = (await house("POST", "/tall/hit", {"key": ["ann", "acme"]})).json()
    assert [limit["remaining"] for limit in answer["limits"]] == [1, 2]
    assert (await house("POST", "/tall/hit", {"key": ["ann"]})).status == 422


async def test_slots_are_leased_renewed_and_released(house: House) -> None:
    lease = (await house("POST", "/gpu/hit", {"key": "acme"})).json()["lease"]
    assert (await house("POST", "/gpu/renew", {"key": "acme", "lease": lease})).status == 204
    assert (await house("POST", "/gpu/release", {"key": "acme", "lease": lease})).status == 204
    lost = await house("POST", "/gpu/renew", {"key": "acme", "lease": lease})
    assert lost.status == 409 and lost.json()["type"] == "/problems/limiter/lease-lost"


async def test_a_check_answers_204_or_the_status_asked_for_with_the_fields(house: House) -> None:
    passed = await house("GET", "/check/api?key=user&cost=3")
    assert passed.status == 204 and parsed(passed.headers["ratelimit"]) == [("api", {"r": 0, "t": 119})]
    assert (await house("GET", "/check/api?key=user")).status == 429
    refused = await house("GET", "/check/api?key=user&deny=403")
    assert (
        refused.status == 403 and int(refused.headers["retry-after"]) == parsed(refused.headers["ratelimit"])[0][1]["t"]
    )
    assert (await house("GET", "/check/tall?key=ann&key=acme")).status == 204


async def test_policies_are_listed_set_and_taken_back(house: House) -> None:
    names = [one["name"] for one in (await house("GET", "/policies")).json()]
    assert names == ["api", "gpu", "shape", "tall"]
    before = await house("GET", "/policies/api")
    assert before.json() == {
        "name": "api",
        "text": "3/minute",
        "fail": "local",
        "source": "code",
        "version": 0,
        "updated_at": None,
        "levels": [
            [{"name": "api", "algorithm": "sliding", "limit": 3, "window_s": 60.0, "shadow": False, "bound": 5}]
        ],
    }
    put = await house("PUT", "/policies/api", {"text": "5/minute; fail closed"})
    assert put.status == 200 and put.json()["source"] == "set" and put.json()["fail"] == "closed"
    seen = await house("GET", "/policies/api")
    assert (await house("GET", "/policies/api", headers={"if-none-match": seen.headers["etag"]})).status == 304
    stale = await house("PUT", "/policies/api", {"text": "6/minute"}, headers={"if-match": before.headers["etag"]})
    assert stale.status == 412
    fresh = await house("PUT", "/policies/api", {"text": "6/minute"}, headers={"if-match": seen.headers["etag"]})
    assert fresh.status == 200 and fresh.json()["version"] == 2
    assert (await house("DELETE", "/policies/api")).status == 204
    assert (await house("GET", "/policies/api")).json()["text"] == "3/minute"
    assert (await house("PUT", "/policies/new", {"text": "1/s"}, headers={"if-none-match": "*"})).status == 200
    assert (await house("PUT", "/policies/new", {"text": "1/s"}, headers={"if-none-match": "*"})).status == 412


async def test_overrides_of_a_key_whatever_letters_it_has(house: House) -> None:
    assert (await house("GET", "/overrides/a%2Fb%20c")).json() == {"key": "a/b c", "limits": {}}
    put = await house("PUT", "/overrides/a%2Fb%20c", {"limits": {"api": "9/minute"}})
    assert put.json() == {"key": "a/b c", "limits": {"api": "9/minute"}}
    assert (await house("POST", "/api/hit", {"key": "a/b c", "cost": 9})).json()["allowed"] is True
    assert (await house("GET", "/overrides")).json() == [{"key": "a/b c", "policy": "api", "text": "9/minute"}]
    assert (await house("DELETE", "/overrides/a%2Fb%20c")).status == 204
    assert (await house("GET", "/overrides")).json() == []


async def test_who_spent_most(house: House) -> None:
    for key, cost in (("ann", 1), ("bob", 3), ("cid", 2)):
        await house("POST", "/api/hit", {"key": key, "cost": cost})
    answer = (await house("GET", "/api/keys?top=2")).json()
    assert [one["key"] for one in answer["limits"]["api"]] == ["bob", "cid"]


async def test_each_scope_opens_what_it_names(house: House) -> None:
    hit = ("POST", "/api/hit", {"key": "user"})
    read = ("GET", "/policies", msgspec.UNSET)
    write = ("PUT", "/policies/api", {"text": "3/minute"})
    for token, allowed in (("reader", [read]), ("hitter", [hit]), ("writer", [write]), ("all", [hit, read, write])):
        for one in (hit, read, write):
            assert (await house(*one, token=token)).status == (200 if one in allowed else 403)
    for one in (hit, read, write, ("GET", "/check/api?key=user", msgspec.UNSET)):
        assert (await house(*one, token="")).status == 401


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/nothing/hit", {"key": "user"}, 404, "limiter/unknown-policy"),
        ("/api/hit", {"key": "user", "cost": 0}, 422, "limiter/bad-cost"),
        ("/api/hit", {"key": "user", "cost": -1}, 422, "limiter/bad-cost"),
        ("/api/hit", {"key": "user", "cost": 4}, 422, "limiter/bad-cost"),
        ("/api/hit", {"key": "user", "cost": 2**70}, 422, "limiter/bad-cost"),
        ("/api/hit", {"key": "user", "cost": 1.5}, 422, "core/invalid"),
        ("/api/hit", {"key": "user", "cost": None}, 422, "core/invalid"),
        ("/api/hit", {"key": 7}, 422, "core/invalid"),
        ("/api/hit", {"key": []}, 422, "limiter/bad-key"),
        ("/api/hit", {"key": ["a", "a"]}, 422, "limiter/bad-key"),
        ("/api/hit", {"key": "x" * 70_000}, 422, "core/invalid"),
        ("/api/hit", {}, 422, "core/invalid"),
        ("/api/hit", {"key": "user", "force": True}, 422, "core/invalid"),
        ("/api/refund", {"key": "user", "cost": -5}, 422, "limiter/bad-cost"),
        ("/api/settle", {"key": "user", "reservation": "1", "actual": 1}, 422, "core/invalid"),
        ("/api/settle", {"key": "user", "reservation": "1@1", "actual": -1}, 422, "limiter/bad-cost"),
        ("/gpu/release", {"key": "user", "lease": "x"}, 422, "core/invalid"),
        ("/simulate", {"limits": ["often"], "load": [{"seconds": 1, "rate": 1}]}, 422, "limiter/bad-policy"),
        ("/simulate", {"limits": ["1/s"], "load": [{"seconds": 86400, "rate": 9999}]}, 422, "limiter/bad-policy"),
        ("/simulate", {"limits": ["1/s > 2/s"], "load": [{"seconds": 1, "rate": 1}]}, 422, "limiter/bad-policy"),
        ("/simulate", {"limits": [], "load": []}, 422, "core/invalid"),
        ("/replay", {"log": "", "policy": "often"}, 422, "limiter/bad-policy"),
        ("/replay", {"log": "", "policy": "1/s > 2/s"}, 422, "limiter/bad-key"),
        ("/replay", {"log": "", "policy": "1/s", "keys": ["cookie"]}, 422, "core/invalid"),
    ],
)
async def test_bad_input_is_a_problem_that_names_it(house: House, path: str, body: Any, status: int, kind: str) -> None:
    answer = await house("POST", path, body)
    assert answer.status == status, answer.text
    assert answer.json()["type"] == f"/problems/{kind}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/check/nothing?key=user", 404),
        ("/check/api", 422),
        ("/check/api?key=user&cost=x", 422),
        ("/check/api?key=user&deny=200", 422),
        ("/api/keys?top=0", 422),
        ("/nothing/keys", 404),
        ("/policies/nothing", 404),
    ],
)
async def test_bad_addresses_are_problems_too(house: House, path: str, status: int) -> None:
    assert (await house("GET", path)).status == status


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/policies/api", {"text": "often"}, 422),
        ("/policies/api", {"text": ""}, 422),
        ("/policies/Big", {"text": "1/s"}, 422),
        ("/policies/live", {"text": "1/s"}, 422),
        ("/overrides/vip", {"limits": {"nothing": "1/s"}}, 404),
        ("/overrides/vip", {"limits": {"api": "often"}}, 422),
        ("/overrides/a%00b", {"limits": {"api": "1/s"}}, 422),
    ],
)
async def test_bad_policies_and_overrides_change_nothing(house: House, path: str, body: Any, status: int) -> None:
    assert (await house("PUT", path, body)).status == status
    assert (await house("GET", "/policies/api")).json()["version"] == 0
    assert (await house("GET", "/overrides")).json() == []


async def test_algorithms_are_simulated_side_by_side(house: House) -> None:
    load = [{"seconds": 10, "rate": 20, "shape": "burst"}, {"seconds": 10, "rate": 5, "shape": "random"}]
    answer = (await house("POST", "/simulate", {"limits": ["10/5s"], "load": load, "step_s": 0.5})).json()
    assert [one["algorithm"] for one in answer["series"]] == ["token", "sliding", "fixed", "log", "leaky"]
    assert len(answer["offered"]) == 40 and sum(answer["offered"]) == 250
    for one in answer["series"]:
        assert one["admitted_total"] + one["refused_total"] == 250
        assert sum(one["admitted"]) == one["admitted_total"] and sum(one["refused"]) == one["refused_total"]
        assert one["fullest_window"] <= one["bound"]
    assert answer["series"][3]["fullest_window"] == 10
    again = (await house("POST", "/simulate", {"limits": ["10/5s"], "load": load, "step_s": 0.5})).json()
    assert again == answer
    two = (await house("POST", "/simulate", {"limits": ["1/s", "2/s burst 5"], "load": load})).json()
    assert [one["limit"] for one in two["series"]] == ["1/s", "2/s burst 5"]


async def test_a_pasted_log_is_replayed(house: House) -> None:
    log = "".join(
        f'203.0.113.{n % 2} - ann [10/Oct/2026:13:55:{n:02} +0200] "GET /a/{n} HTTP/1.1" 200 2326 "-" "curl"\n'
        for n in range(10)
    )
    answer = (await house("POST", "/replay", {"log": log + "no line\n", "policy": "log 2/minute"})).json()
    assert (answer["lines"], answer["unread"], answer["admitted"], answer["refused"]) == (11, 1, 4, 6)
    assert answer["keys"] == [
        {"key": "203.0.113.0", "admitted": 2, "refused": 3},
        {"key": "203.0.113.1", "admitted": 2, "refused": 3},
    ]
    assert answer["minutes"] == [{"at": "2026-10-10T11:55:00Z", "admitted": 4, "refused": 6}]


async def test_a_viewer_sees_decisions_as_they_are_made_and_leaves_nothing_behind(house: House) -> None:
    sent: list[dict[str, Any]] = []
    arrived, gone = asyncio.Event(), asyncio.Event()
    opened, accepted = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not opened.is_set():
            opened.set()
            return {"type": "websocket.connect"}
        await gone.wait()
        return {"type": "websocket.disconnect", "code": 1001}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "websocket.send":
            arrived.set()
        elif message["type"] == "websocket.accept":
            accepted.set()

    headers = {"authorization": "Bearer all"}
    scope = http_scope("GET", "/api/limiter/live?policy=api", headers, type="websocket", subprotocols=[])
    viewing = asyncio.create_task(house.app(scope, receive, send))
    async with asyncio.timeout(PATIENCE_S):
        await accepted.wait()
        await asyncio.sleep(0)  # the viewer's own task goes on first
        for _ in range(4):
            await house.limiter.hit("api", "user")
        await house.limiter.hit("tall", ["a", "b"])
        await arrived.wait()
        gone.set()
        await viewing
    moment = msgspec.json.decode(next(one["text"] for one in sent if one["type"] == "websocket.send"))
    assert (moment["allowed"], moment["refused"]) == (3, 1)
    assert moment["sample"][3] == {
        "policy": "api",
        "key": ["user"],
        "allowed": False,
        "cost": 1,
        "remaining": 0,
        "violated": ["api"],
        "shadowed": [],
        "store": "memory",
    }
    assert house.limiter.watchers == []


async def test_more_viewers_than_there_may_be_are_told_to_come_later(house: House) -> None:
    sent: list[dict[str, Any]] = []
    opened = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not opened.is_set():
            opened.set()
            return {"type": "websocket.connect"}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    house.limiter.watchers += [Window()] * VIEWERS_MAX
    scope = http_scope("GET", "/api/limiter/live", {"authorization": "Bearer all"}, type="websocket", subprotocols=[])
    async with asyncio.timeout(PATIENCE_S):
        await house.app(scope, receive, send)
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1013)
    assert len(house.limiter.watchers) == VIEWERS_MAX


async def test_the_store_away_is_no_500(house: House) -> None:
    from mainspring.primitives.limiter.decide import Ask, Outcome
    from mainspring.primitives.limiter.model import StoreAway

    class Gone:
        name = "gone"

        async def ask(self, ask: Ask) -> Outcome:
            raise StoreAway("unreachable")

        async def keys(self, *_: Any) -> Any:
            raise StoreAway("unreachable")

    house.limiter.store = Gone()
    house.limiter._hot.clear()
    await house("PUT", "/policies/shut", {"text": "1/minute; fail closed"})
    await house("PUT", "/policies/free", {"text": "1/minute; fail open"})
    assert (await house("POST", "/shut/hit", {"key": "user"})).json()["store"] == "closed"
    assert (await house("GET", "/check/shut?key=user")).status == 429
    assert [(await house("POST", "/free/hit", {"key": "user"})).json()["allowed"] for _ in range(3)] == [True] * 3
    local = [(await house("POST", "/api/hit", {"key": "user"})).json() for _ in range(4)]
    assert [one["allowed"] for one in local] == [True] * 3 + [False] and local[0]["store"] == "local"
    settled = {"key": "user", "reservation": local[0]["reservation"], "actual": 0}
    assert (await house("POST", "/api/settle", settled)).status == 204
    for path in ("/api/reset", "/api/refund"):
        assert (await house("POST", path, {"key": "user"})).status == 503
    assert (await house("GET", "/api/keys")).status == 503
