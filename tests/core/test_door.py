"""The front door builds each system once, at its first request, and says honestly whether it is ready."""

import asyncio
import json
import logging
from collections import Counter

import pytest
import websockets

from mainspring.core.door import Door, UnknownSystem, lazy_application
from mainspring.core.http.request import Application, Receive, Scope, Send
from mainspring.core.http.response import Response
from mainspring.core.lazy import Lazy
from mainspring.core.problems import Unavailable
from tests.core.raw_http import PATIENCE_S, Wire, get, serving

SYSTEMS = tuple(f"system{number}" for number in range(9))


def saying(text: str) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": text})
            await receive()
        else:
            await Response(200, f"{text} {scope['path']}".encode()).send(scope, send)

    return application


class Builder:
    """Builds `saying(name)` once `go` is set; fails while there are errors left to raise."""

    def __init__(self, *errors: Exception) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()
        self.builds: Counter[str] = Counter()
        self.errors = list(errors)

    async def __call__(self, name: str) -> Application:
        self.builds[name] += 1
        self.begun.set()
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        return saying(name)


def scrape(accept: str | None) -> tuple[str, bytes]:
    return f"text/x-{accept or 'plain'}", b"up 1\n"


def door(builder: Builder, **options: object) -> Door:
    kept: dict[str, object] = {"fallback": saying("console"), "metrics": scrape, **options}
    return Door(SYSTEMS, Lazy(builder), **kept)  # type: ignore[arg-type]


async def ask(
    app: Application, path: str, method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request without a server."""
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": [*headers]}, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]  # type: ignore[call-overload,return-value]


async def test_450_first_requests_over_nine_systems_build_each_once_and_are_all_answered() -> None:
    builder = Builder()
    builder.go.clear()
    async with serving(door(builder)) as server:
        wires = await asyncio.gather(*(Wire.connect(server) for _ in range(450)))
        for number, wire in enumerate(wires):
            wire.ask(f"/api/system{number % 9}/things")
        await asyncio.wait_for(builder.begun.wait(), PATIENCE_S)
        builder.go.set()
        answers = await asyncio.gather(*(wire.answer() for wire in wires))
        assert [(status, body) for status, _, body in answers] == [
            (200, f"system{number % 9} /api/system{number % 9}/things".encode()) for number in range(450)
        ]
        assert builder.builds == dict.fromkeys(SYSTEMS, 1)
        for wire in wires:
            wire.writer.close()


async def test_a_client_that_leaves_does_not_cancel_the_build_for_the_others() -> None:
    builder = Builder()
    builder.go.clear()
    lazy = Lazy(builder)
    impatient, patient = asyncio.create_task(lazy.get("a")), asyncio.create_task(lazy.get("a"))
    await builder.begun.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    builder.go.set()
    assert await patient is lazy.built["a"] and builder.builds["a"] == 1


async def test_a_failing_build_is_a_503_without_our_text_and_the_next_request_builds_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder = Builder(RuntimeError("password=hunter2"))
    builder.go.clear()
    front = door(builder)
    waiting = [asyncio.create_task(ask(front, "/api/system1/")) for _ in range(20)]
    await builder.begun.wait()
    builder.go.set()
    with caplog.at_level(logging.ERROR):
        for status, headers, body in await asyncio.gather(*waiting):
            assert (status, headers[b"retry-after"]) == (503, b"1") and b"hunter2" not in body
    assert caplog.text.count("hunter2") == 1, "the operator is told once"
    assert (await ask(front, "/api/system1/"))[0] == 200
    assert builder.builds == {"system1": 2}


async def test_a_build_may_say_itself_what_is_missing() -> None:
    front = door(Builder(Unavailable("install mainspring[social]", retry_after_s=3600)))
    status, headers, body = await ask(front, "/api/system1/")
    assert (status, headers[b"retry-after"]) == (503, b"3600") and b"mainspring[social]" in body


async def test_a_build_whose_askers_all_left_and_that_fails_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    builder = Builder(RuntimeError("late"))
    builder.go.clear()
    lazy = Lazy(builder)
    task = asyncio.create_task(lazy.get("a"))
    await builder.begun.wait()
    task.cancel()
    builder.go.set()
    await lazy.get("b")
    assert "a could not be built" in caplog.text


async def test_stopping_ends_builds_that_run() -> None:
    builder = Builder()
    builder.go.clear()
    lazy = Lazy(builder)
    task = asyncio.create_task(lazy.get("a"))
    await builder.begun.wait()
    await lazy.stop()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lazy.built


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/api/nothing/here", 404, UnknownSystem.type),
        ("/api/", 404, UnknownSystem.type),
        ("/api/../etc", 404, UnknownSystem.type),
        ("/api/" + "x" * 5000, 404, UnknownSystem.type),
        ("/-/else", 404, "core/not-found"),
        ("/-/ready/nothing", 404, "core/not-found"),
    ],
)
async def test_an_address_of_nobody_is_a_problem_and_builds_nothing(path: str, status: int, kind: str) -> None:
    builder = Builder()
    found, headers, body = await ask(door(builder), path)
    assert (found, headers[b"content-type"]) == (status, b"application/problem+json")
    assert json.loads(body)["type"] == f"/problems/{kind}" and not builder.builds


async def test_other_paths_are_the_consoles() -> None:
    front = door(Builder())
    for path in ("/", "/links", "/apiary", "/api"):
        assert (await ask(front, path))[2] == f"console {path}".encode()


async def test_metrics_and_liveness_answer_get_and_head_alone() -> None:
    front = door(Builder())
    assert (await ask(front, "/metrics"))[2] == b"up 1\n"
    status, headers, _ = await ask(front, "/metrics", headers=((b"accept", b"asked"),))
    assert (status, headers[b"content-type"]) == (200, b"text/x-asked"), "the form that the client prefers"
    assert (await ask(front, "/-/live"))[0] == 200
    assert (await ask(front, "/-/live", "HEAD"))[::2] == (200, b"")
    assert (await ask(front, "/-/live", "POST"))[:2][0] == 405


class Condition:
    """A check whose answer the test sets."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: Exception | None = None

    async def __call__(self) -> str | None:
        if self.error:
            raise self.error
        return self.reason


async def test_readiness_is_the_checks_of_the_whole_and_of_one_system() -> None:
    database, tiles = Condition(), Condition()
    front = door(
        Builder(),
        checks={"database": database},
        system_checks=lambda name: {"tiles": tiles} if name == "system1" else {},
    )
    assert json.loads((await ask(front, "/-/ready"))[2]) == {"ready": True, "checks": {"database": "ok"}}
    tiles.reason = "No tiles are loaded"
    assert (await ask(front, "/-/ready"))[0] == 200
    assert (await ask(front, "/-/ready/system2"))[0] == 200
    status, _, body = await ask(front, "/-/ready/system1")
    assert status == 503 and json.loads(body)["checks"] == {"database": "ok", "tiles": "No tiles are loaded"}
    tiles.reason, database.error = None, RuntimeError("password=hunter2")
    status, _, body = await ask(front, "/-/ready/system1")
    assert status == 503 and json.loads(body)["checks"]["database"] == "Its check failed" and b"hunter2" not in body


async def test_a_draining_node_is_not_ready_but_serves() -> None:
    front = door(Builder())
    front.drain()
    assert (await ask(front, "/-/ready"))[0] == (await ask(front, "/-/ready/system1"))[0] == 503
    assert (await ask(front, "/-/live"))[0] == (await ask(front, "/api/system1/"))[0] == 200


async def test_websockets_go_the_same_way_and_are_counted() -> None:
    front = door(Builder(), websockets_max=2)
    async with serving(front) as server:
        base = "ws://{}:{}".format(*server.address)
        async with websockets.connect(base + "/api/system1/live") as one, websockets.connect(base + "/live") as two:
            assert (await one.recv(), await two.recv()) == ("system1", "console")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(base + "/api/system1/live")
            assert refused.value.response.status_code == 503 and refused.value.response.headers["retry-after"] == "10"
            assert (await get(server, "/api/system1/"))[0] == 200, "requests need no WebSocket's place"
        async with asyncio.timeout(PATIENCE_S):
            while front.websockets:
                await get(server, "/-/live")
        async with websockets.connect(base + "/live") as three:
            assert await three.recv() == "console"
        with pytest.raises(websockets.InvalidStatus) as unknown:
            await websockets.connect(base + "/api/nothing/live")
        assert unknown.value.response.status_code == 404


async def test_a_lazy_application_of_a_listener_shares_the_build() -> None:
    builder = Builder()
    lazy = Lazy(builder)
    front = Door(SYSTEMS, lazy, fallback=saying("console"), metrics=scrape)
    own = lazy_application(lazy, "system1")
    answers = await asyncio.gather(ask(own, "/x"), ask(front, "/api/system1/x"))
    assert [status for status, _, _ in answers] == [200, 200] and builder.builds == {"system1": 1}
