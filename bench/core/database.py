"""The embedded database beside the usual asynchronous ORM stack: SQLAlchemy's ORM on aiosqlite, with the same pragmas.

Each write is one row of a realistic table and is durable (WAL, synchronous=FULL) before its caller goes on. The peer gets
one connection, with which it is fastest: several would wait for SQLite's lock by sleeping.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvloop
from sqlalchemy import bindparam, event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.comparison import Comparison, alternate
from mainspring.core.database import Int64, Metadata, SqliteDatabase, Text
from mainspring.core.ports import Connection

PEER = "SQLAlchemy ORM on aiosqlite"
ROWS = 10_000

tables = Metadata("bench")
link = tables.table(
    "bench_link",
    sa.Column("code", Text, primary_key=True),
    sa.Column("url", Text, nullable=False),
    sa.Column("owner_id", Int64, nullable=False, index=True),
    sa.Column("created_us", Int64, nullable=False),
)
ADD = sa.insert(link).values(
    code=bindparam("code"), url=bindparam("url"), owner_id=bindparam("owner_id"), created_us=bindparam("created_us")
)
FIND = sa.select(link.c.url, link.c.owner_id).where(link.c.code == bindparam("code"))


class Base(DeclarativeBase):
    pass


class Link(Base):
    __tablename__ = "orm_link"

    code: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    owner_id: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    created_us: Mapped[int] = mapped_column(sa.BigInteger)


def values(number: int) -> dict[str, Any]:
    return {
        "code": f"{number * 7919 % 1_000_003:x}-{number:x}",
        "url": f"https://example.com/articles/{number}?from=newsletter",
        "owner_id": number % 97,
        "created_us": 1_760_000_000_000_000 + number,
    }


def add(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(ADD, row)


def find(connection: Connection, code: str) -> Any:
    return connection.execute(FIND, {"code": code}).first()


async def rate(call: Callable[[int], Awaitable[Any]], callers: int, seconds: float) -> float:
    """Calls a second that `callers` make, each waiting for its last one."""
    numbers = count(ROWS)
    started = time.perf_counter()
    done = 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < started + seconds:
            await call(next(numbers))
            done += 1

    await asyncio.gather(*(one() for _ in range(callers)))
    return done / (time.perf_counter() - started)


async def ours(seconds: float, callers: int, reading: bool) -> float:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        database = SqliteDatabase(Path(folder) / "ours.db", ballast_bytes=0)
        await database.start()
        await database.prepare("bench", tables)
        try:
            if not reading:
                return await rate(lambda number: database.write(add, values(number)), callers, seconds)
            await asyncio.gather(*(database.write(add, values(number)) for number in range(ROWS // 2)))
            return await rate(lambda n: database.read(find, values(n % (ROWS // 2))["code"]), callers, seconds)
        finally:
            await database.stop()


async def peer(seconds: float, callers: int, reading: bool) -> float:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{folder}/peer.db", pool_size=1, max_overflow=0, pool_timeout=600
        )

        @event.listens_for(engine.sync_engine, "connect")
        def set_pragmas(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        new_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

        async def add_one(number: int) -> None:
            async with new_session() as session:
                session.add(Link(**values(number)))
                await session.commit()

        async def find_one(number: int) -> Any:
            async with new_session() as session:
                return await session.get(Link, values(number % (ROWS // 2))["code"])

        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            if not reading:
                return await rate(add_one, callers, seconds)
            async with new_session() as session:
                session.add_all([Link(**values(number)) for number in range(ROWS // 2)])
                await session.commit()
            return await rate(find_one, callers, seconds)
        finally:
            await engine.dispose()


def run(seconds: float) -> list[Comparison]:
    """Durable writes at 1, 16 and 256 callers, and reads of one row by its key."""
    wanted = [
        ("durable writes, 1 caller", 1, False),
        ("durable writes, 16 callers", 16, False),
        ("durable writes, 256 callers", 256, False),
        ("reads by key, 16 callers", 16, True),
    ]
    return [compare(name, callers, reading, seconds) for name, callers, reading in wanted]


def compare(name: str, callers: int, reading: bool, seconds: float) -> Comparison:
    figures, peers = alternate(
        lambda turn_s: uvloop.run(ours(turn_s, callers, reading)),
        lambda turn_s: uvloop.run(peer(turn_s, callers, reading)),
        seconds,
    )
    return Comparison(name, figures, PEER, peers, "1/s")
