"""A request leaves nothing behind for the cycle collector, whose passes would cost every other request."""

import asyncio
import gc
from typing import Any

import msgspec
import pytest

from mainspring.core.http import Request, Response, Routes
from mainspring.core.http.manners import Manners
from mainspring.core.problems import Conflict
from tests.asgi import Exchange, http_scope


class Note(msgspec.Struct):
    text: str


routes = Routes("notes")


@routes.get("/notes/{id}")
async def show(id: int) -> Note:
    return Note("x" * id)


@routes.post("/notes")
async def create(body: Note, request: Request) -> Response:
    return Response.json(body, 201)


@routes.delete("/notes/{id}")
async def remove(id: int) -> None:
    raise Conflict


async def ask(app: Any, method: str, path: str, body: bytes) -> None:
    exchange = Exchange(
        http_scope(method, path, {"content-type": "application/json", "accept-encoding": "gzip"}), [body]
    )
    await app(exchange.scope, exchange.receive, exchange.send)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/notes/notes/1", b""),
        ("GET", "/api/notes/notes/3000", b""),
        ("HEAD", "/api/notes/notes/1", b""),
        ("POST", "/api/notes/notes", b'{"text":"hello"}'),
        ("DELETE", "/api/notes/notes/1", b""),
        ("GET", "/api/notes/notes/x", b""),
        ("GET", "/nowhere", b""),
    ],
)
async def test_a_request_makes_no_reference_cycles(method: str, path: str, body: bytes) -> None:
    app = Manners(routes.application({}, None))
    await ask(app, method, path, body)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(10):
            await asyncio.create_task(ask(app, method, path, body))
        gc.collect()
        ours = [
            one
            for one in gc.garbage
            if type(one).__module__.startswith(("mainspring.core.http", "mainspring.core.problems"))
        ]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
