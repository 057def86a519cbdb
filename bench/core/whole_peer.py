"""What `bench.core.whole` measures the whole beside: links in FastAPI with the usual asynchronous ORM stack.

    python -m bench.core.whole_peer FOLDER       # prints its port, serves until its stdin is closed

The same row in the same table with the same indexes and pragmas, a checked URL in, a whole link out. It has no accounts but
one token, no limits, no events and no metrics, all of which favours it. It gets one connection, with which it is fastest.
"""

import asyncio
import itertools
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import uvloop
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, HttpUrl
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from bench.load import SERVER_CPU
from mainspring.core.serve import serve
from mainspring.social.links.tables import link

TOKEN = "ms_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
EXPECTED = f"Bearer {TOKEN}"


class Base(DeclarativeBase):
    pass


class Link(Base):
    __table__ = link.to_metadata(Base.metadata)


class NewLink(BaseModel):
    url: HttpUrl
    title: str = ""
    notes: str = ""
    folder: str = ""
    tags: list[str] = []
    max_visits: int | None = None


class LinkView(BaseModel):
    id: str
    short_url: str
    code: str
    url: str
    state: int
    title: str
    notes: str
    folder: str
    tags: list[str]
    redirect: int
    valid_since: str | None
    valid_until: str | None
    max_visits: int | None
    visits_left: int | None
    has_password: bool
    forward_query: bool
    crawlable: bool
    archived: bool
    owner: str | None
    created_at: str
    version: int


async def application(folder: str) -> FastAPI:
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/peer.db", pool_size=1, max_overflow=0, pool_timeout=600)

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    new_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with new_session() as opened:
            yield opened

    async def authorized(request: Request) -> None:
        if request.headers.get("authorization") != EXPECTED:
            raise HTTPException(401)

    app = FastAPI(openapi_url=None, dependencies=[Depends(authorized)])
    ids = itertools.count(time.time_ns())

    @app.post("/api/links/links", status_code=201)
    async def create(body: NewLink, session: Annotated[AsyncSession, Depends(session)]) -> LinkView:
        made = Link(
            id=next(ids),
            domain_id=0,
            code=secrets.token_urlsafe(6),
            target=str(body.url),
            state=0,
            redirect=302,
            forward_query=True,
            crawlable=False,
            title=body.title,
            notes=body.notes,
            folder=body.folder,
            tags=body.tags or None,
            max_visits=body.max_visits,
            visits_left=body.max_visits,
            archived=False,
            created_us=time.time_ns() // 1000,
            version=1,
            target_hash=hash(str(body.url)),
        )
        session.add(made)
        await session.commit()
        return view(made)

    @app.get("/api/links/links/{id}")
    async def get(id: int, session: Annotated[AsyncSession, Depends(session)]) -> LinkView:
        found = (await session.execute(select(Link).where(Link.id == id))).scalar_one_or_none()
        if found is None:
            raise HTTPException(404)
        return view(found)

    return app


def view(one: Any) -> LinkView:
    return LinkView(
        id=str(one.id),
        short_url=f"http://127.0.0.1:8410/{one.code}",
        code=one.code,
        url=one.target,
        state=one.state,
        title=one.title,
        notes=one.notes,
        folder=one.folder,
        tags=one.tags or [],
        redirect=one.redirect,
        valid_since=None,
        valid_until=None,
        max_visits=one.max_visits,
        visits_left=one.visits_left,
        has_password=one.password is not None,
        forward_query=one.forward_query,
        crawlable=one.crawlable,
        archived=one.archived,
        owner=None if one.owner is None else str(one.owner),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.created_us // 1_000_000)),
        version=one.version,
    )


async def main(folder: str) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await serve(await application(folder), sock)
    print(f"ready http://127.0.0.1:{port}/?token={TOKEN}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    if SERVER_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {SERVER_CPU})
    uvloop.run(main(sys.argv[1]))
