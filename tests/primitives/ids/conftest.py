"""Ids on a prepared database, and a database that can be taken away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import mainspring.primitives.ids
from mainspring.core.clock import VirtualClock
from mainspring.core.ports import Database
from mainspring.core.problems import Unavailable
from mainspring.primitives.ids import Ids, IdsSettings
from mainspring.primitives.ids.tables import tables

MIGRATIONS = Path(mainspring.primitives.ids.__file__).parent / "migrations"
PATIENCE_S = 60
MS = 1_000_000
START_MS = 1_767_225_600_000


class Line:
    """The way to a database. While `cut` every call is refused; `calls` counts those that have ended, either way."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.dialect = database.dialect
        self.cut = False
        self.calls = 0
        self._ended = asyncio.Condition()

    async def read(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._through(self._database.read, function, *args, **kwargs)

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._through(self._database.write, function, *args, **kwargs)

    async def write_once(self, key: str, digest: bytes, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._through(self._database.write_once, key, digest, function, *args, **kwargs)

    def unready(self) -> str | None:
        return "cut" if self.cut else None

    async def after(self, calls: int) -> None:
        """Returns once so many calls have ended in all, and who waited for them has gone on."""
        async with asyncio.timeout(PATIENCE_S), self._ended:
            await self._ended.wait_for(lambda: self.calls >= calls)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _through(self, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        try:
            if self.cut:
                raise Unavailable("the database is gone")
            return await call(*args, **kwargs)
        finally:
            self.calls += 1
            async with self._ended:
                self._ended.notify_all()


class WatchedClock(VirtualClock):
    """A virtual clock that tells when those who use it have gone back to sleep."""

    def __init__(self, wall_ns: int) -> None:
        super().__init__(wall_ns)
        self._asleep = 0
        self._changed = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        self._asleep += 1
        async with self._changed:
            self._changed.notify_all()
        try:
            await super().sleep(seconds)
        finally:
            self._asleep -= 1

    async def beat(self, sleepers: int = 1, seconds: float = 1.0) -> None:
        """Lets time pass for so many sleepers, and returns when all that woke have done their work and sleep again."""
        await self._all_asleep(sleepers)
        await self.advance(seconds)
        await self._all_asleep(sleepers)

    async def _all_asleep(self, sleepers: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self._asleep >= sleepers)
        await asyncio.sleep(0)


@pytest.fixture
async def line(database: Any) -> Line:
    """A database with the tables of ids, on both sides of the port."""
    await database.prepare("ids", tables, MIGRATIONS)
    return Line(database)


@pytest.fixture
async def clock() -> WatchedClock:
    return WatchedClock(START_MS * MS)


MakeIds = Callable[..., Awaitable[Ids]]


@pytest.fixture
async def make_ids(line: Line, clock: WatchedClock) -> AsyncIterator[MakeIds]:
    """Makes started `Ids` on `line`, with settings as keywords; all are stopped at the end."""
    made: list[Ids] = []

    async def make(*, on: Database | None = None, by: Any = None, holder: str | None = None, **settings: Any) -> Ids:
        ids = Ids(on or line, by or clock, IdsSettings(**settings), holder=holder or f"host/{len(made)}")
        await ids.start()
        made.append(ids)
        return ids

    yield make
    line.cut = False
    for ids in made:
        await ids.stop()
