"""Limits in front of an application and of a function."""

from typing import Any

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.core.http.manners import Manners
from mainspring.primitives.limiter import Limiter, MemoryStore, QuotaExceeded, UnknownPolicy
from mainspring.primitives.limiter.keys import ClientAddress
from mainspring.primitives.limiter.middleware import RateLimited, limited
from tests.asgi import call
from tests.primitives.limiter.test_headers import parsed


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"hello"})
    else:
        await send({"type": "lifespan.startup.complete"})


def limiter(**policies: str) -> Limiter:
    clock = VirtualClock(mono_ns=10**9)
    return Limiter(MemoryStore(clock), clock, **policies)


@pytest.mark.parametrize("text", ["3/minute", "3/s", "fixed 3/minute", "log 3/minute", "3/minute; 9/hour"])
async def test_requests_pass_with_their_fields_until_they_are_refused(text: str) -> None:
    wrapped = RateLimited(app, limiter(api=text), "api")
    answers = [await call(wrapped, "GET", "/") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
    assert all(answer.headers["x-own"] == "1" and answer.text == "hello" for answer in answers[:3])
    assert [parsed(answer.headers["ratelimit"])[0][1]["r"] for answer in answers] == [2, 1, 0, 0, 0]
    assert parsed(answers[0].headers["ratelimit-policy"])[0][1]["q"] == 3
    refused = answers[3]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert refused.json()["violated-policies"][0].startswith("api")
    assert refused.headers["retry-after"] == str(parsed(refused.headers["ratelimit"])[0][1]["t"])
    assert "retry-after" not in answers[2].headers


async def test_the_quick_fields_are_those_of_the_slow_way() -> None:
    shared = limiter(api="fixed 100/minute", b="100/minute", c="100/s", d="7/s burst 100")
    for name in "bcd":
        quick, slow = RateLimited(app, shared, name), RateLimited(app, shared, name, cost=1)
        for number in range(30):
            await shared.clock.advance(0.01 if number % 2 else 2.5)  # type: ignore[attr-defined]
            await call(quick, "GET", "/")
            fast = (await call(quick, "GET", "/")).headers
            slow._face = None
            await shared.refund(name, "127.0.0.1")
            plain = (await call(slow, "GET", "/")).headers
            assert fast["ratelimit"] == plain["ratelimit"] and fast["ratelimit-policy"] == plain["ratelimit-policy"]


async def test_behind_the_manners_of_a_server_every_layers_fields_are_in_the_answer() -> None:
    shared = limiter(api="3/minute", all="fixed 5/minute")
    wrapped = Manners(RateLimited(RateLimited(app, shared, "api"), shared, "all"))
    for left in (2, 1, 0):
        answer = await call(wrapped, "GET", "/")
        states = [parsed(value)[0] for name, value in answer.all_headers if name == "ratelimit"]
        assert [(name, values["r"]) for name, values in states] == [("all", left + 2), ("api", left)]
        assert answer.status == 200 and answer.headers["x-own"] == "1" and answer.text == "hello"
    assert (await call(wrapped, "GET", "/")).status == 429


async def test_legacy_fields_by_option() -> None:
    wrapped = RateLimited(app, limiter(api="1/minute"), "api", legacy=True)
    for remaining, status in (("0", 200), ("0", 429)):
        answer = await call(wrapped, "GET", "/")
        assert answer.status == status
        assert answer.headers["x-ratelimit-limit"] == "1" and answer.headers["x-ratelimit-remaining"] == remaining


async def test_lists_of_addresses_let_through_and_turn_away() -> None:
    shared = limiter(api="1/minute")
    allowing = RateLimited(app, shared, "api", allow=["127.0.0.0/8"])
    assert [(await call(allowing, "GET", "/")).status for _ in range(3)] == [200] * 3
    denying = RateLimited(app, shared, "api", deny=["127.0.0.1"])
    assert (await call(denying, "GET", "/")).status == 403
    proxied = RateLimited(app, shared, "api", address=ClientAddress(["127.0.0.0/8"]), deny=["198.51.100.0/24"])
    answers = [await call(proxied, "GET", "/", headers={"x-forwarded-for": f"198.51.{n}.1"}) for n in (99, 100)]
    assert [answer.status for answer in answers] == [200, 403]


async def test_keys_may_be_asynchronous_several_or_none() -> None:
    async def user(scope: Any) -> list[str]:
        return [scope["path"], "all"]

    tall = RateLimited(app, limiter(api="1/minute > 3/minute"), "api", key=user)
    statuses = [(await call(tall, "GET", path)).status for path in ("/a", "/a", "/b", "/c", "/d")]
    assert statuses == [200, 429, 200, 200, 429]
    free = RateLimited(app, limiter(api="1/minute"), "api", key=lambda _: None)
    assert [(await call(free, "GET", "/")).status for _ in range(3)] == [200] * 3

    async def nobody(_: Any) -> None:
        return None

    free = RateLimited(app, limiter(api="1/minute"), "api", key=nobody)
    assert [(await call(free, "GET", "/")).status for _ in range(3)] == [200] * 3


async def test_a_websocket_is_refused_before_it_is_opened() -> None:
    wrapped = RateLimited(app, limiter(api="1/minute"), "api")
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    answers = []
    for extensions in ({}, {}, {"websocket.http.response": {}}):
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any], sent: list[dict[str, Any]] = sent) -> None:
            sent.append(message)

        await wrapped({**scope, "extensions": extensions}, receive, send)  # type: ignore[arg-type]
        answers.append(sent)
    assert answers[0][0]["type"] == "websocket.accept" and answers[0][0]["headers"][0][0] == b"ratelimit-policy"
    assert answers[1][0]["type"] == "websocket.close" and answers[1][0]["code"] == 1008
    assert answers[2][0]["status"] == 429 and b"quota-exceeded" in answers[2][1]["body"]


async def test_lifespan_passes_and_an_unknown_policy_is_found_at_the_start() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await RateLimited(app, limiter(api="1/minute"), "api")({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert sent
    with pytest.raises(UnknownPolicy):
        RateLimited(app, limiter(), "api")


async def test_a_leaky_bucket_holds_a_request_as_long_as_it_asks() -> None:
    shared = limiter(api="leaky 10/s queue 5")
    slept = []

    class Counting(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(round(seconds, 6))

    shared.clock = Counting()
    wrapped = RateLimited(app, shared, "api")
    for _ in range(3):
        assert (await call(wrapped, "GET", "/")).status == 200
    assert slept == [0.1, 0.2]


async def test_a_function_is_limited_by_the_key_that_its_arguments_give() -> None:
    shared = limiter(export="1/minute")

    @limited(shared, "export", key=lambda tenant, size=1: tenant)
    async def export(tenant: str, size: int = 1) -> str:
        "Exports."
        return f"{tenant} {size}"

    assert export.__doc__ == "Exports."
    assert await export("acme", size=3) == "acme 3"
    with pytest.raises(QuotaExceeded):
        await export("acme")
    assert await export("other") == "other 1"
