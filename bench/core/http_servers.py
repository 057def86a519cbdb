"""The same small JSON API three times: ours, FastAPI's and Litestar's; 50 systems of 8 routes, a token on each request.

    python -m bench.core.http_servers fastapi     # serves it by the same server and prints the port

Reads give a link that is made up from the path, so that nothing but HTTP is measured. Ours wears all its manners (request id,
security headers, deadlines, metrics, front door); the peers wear none, which favours them.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from bench.load import SERVER_CPU

SYSTEMS = 50
TOKEN = "ms_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
PATHS = (
    "/links/{id}",
    "/links/{id}/stats",
    "/links/{id}/rules",
    "/tags/{id}",
    "/pastes/{id}",
    "/domains/{id}",
    "/visits/{id}",
)


class Link(msgspec.Struct):
    id: str
    url: str
    tags: list[str]
    visits: int = 0


class NewLink(msgspec.Struct):
    url: str
    tags: list[str] = []
    title: str | None = None


def ours() -> Any:
    from mainspring.core.accounts.caller import ANONYMOUS, Caller
    from mainspring.core.door import Door
    from mainspring.core.http import Request, Routes
    from mainspring.core.http.manners import Manners
    from mainspring.core.lazy import Lazy
    from mainspring.core.telemetry import Metrics

    caller = Caller(1, "bench", "token", frozenset({"*"}))
    metrics = Metrics()

    async def authenticate(request: Request) -> Caller:
        return caller if request.headers.get(b"authorization") == EXPECTED else ANONYMOUS

    async def build(name: str) -> Any:
        routes = Routes(name)
        for path in PATHS:

            async def read(id: str) -> Link:
                return Link(id, "https://example.org/a/b/c", ["one", "two"])

            routes.get(path)(read)

        @routes.post("/links", status=201)
        async def create(body: NewLink) -> Link:
            return Link("new", body.url, body.tags)

        return routes.application({}, authenticate, metrics=metrics)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError(scope["path"])

    names = [f"s{number}" for number in range(SYSTEMS)]
    return Manners(Door(names, Lazy(build), fallback=nothing, metrics=metrics.scrape))


EXPECTED = f"Bearer {TOKEN}".encode()


def fastapi() -> Any:
    from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
    from pydantic import BaseModel

    class LinkModel(BaseModel):
        id: str
        url: str
        tags: list[str]
        visits: int = 0

    class NewLinkModel(BaseModel):
        url: str
        tags: list[str] = []
        title: str | None = None

    async def authorized(request: Request) -> None:
        if request.headers.get("authorization") != EXPECTED.decode():
            raise HTTPException(401)

    app = FastAPI(openapi_url=None)
    for number in range(SYSTEMS):
        router = APIRouter(prefix=f"/api/s{number}", dependencies=[Depends(authorized)])
        for path in PATHS:

            async def read(id: str) -> LinkModel:
                return LinkModel(id=id, url="https://example.org/a/b/c", tags=["one", "two"])

            router.get(path)(read)

        async def create(body: NewLinkModel) -> LinkModel:
            return LinkModel(id="new", url=body.url, tags=body.tags)

        router.post("/links", status_code=201)(create)
        app.include_router(router)
    return app


def litestar() -> Any:
    from litestar import Litestar, Router, get, post
    from litestar.connection import ASGIConnection
    from litestar.exceptions import NotAuthorizedException
    from litestar.handlers import BaseRouteHandler

    def authorized(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if connection.headers.get("authorization") != EXPECTED.decode():
            raise NotAuthorizedException

    routers = []
    for number in range(SYSTEMS):
        handlers: list[Any] = []
        for path in PATHS:

            async def read(id: str) -> Link:
                return Link(id, "https://example.org/a/b/c", ["one", "two"])

            handlers.append(get(path.replace("{id}", "{id:str}"))(read))

        async def create(data: NewLink) -> Link:
            return Link("new", data.url, data.tags)

        handlers.append(post("/links")(create))
        routers.append(Router(path=f"/api/s{number}", route_handlers=handlers, guards=[authorized]))
    return Litestar(route_handlers=routers, openapi_config=None)


APPLICATIONS: dict[str, Callable[[], Any]] = {"ours": ours, "fastapi": fastapi, "litestar": litestar}


async def main(name: str) -> None:
    from mainspring.core.serve import serve

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await serve(APPLICATIONS[name](), sock)
    print(port, flush=True)
    # Serves until whoever started it closes our standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    if SERVER_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {SERVER_CPU})
    uvloop.run(main(sys.argv[1]))
