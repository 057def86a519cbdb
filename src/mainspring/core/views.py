"""Views: what is kept in memory for speed, and can always be made again from the SQL.

A view follows the outbox in commit order. `ViewKeeper` starts it from its generation file, a snapshot of the view and of its
place in the order of events, and applies what came later; where the file is missing, damaged, of another version or of
another history, or where later events have been pruned, it has the view rebuilt from the rows.

What this promises: a view that has caught up is what `rebuild` would give from the rows of the same moment. It may trail
them by one turn of the event loop (on PostgreSQL by as long as the oldest running transaction, and a poll), so a decision
uses the rows or the view, never both. A crash while a file is written leaves the old one.
"""

import asyncio
import hashlib
import logging
import mmap
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Generic, Protocol, TypeVar

import msgspec

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.outbox import OutboxLog, transactions
from mainspring.core.outbox.transactions import Mark
from mainspring.core.ports import Connection, Database, Record
from mainspring.core.telemetry import Metrics

Snapshot = bytes | memoryview

RECORDS_AT_ONCE = 500
LOOK_EVERY_S = 0.05

ALIGNMENT = 64
"""Where in the file a snapshot begins, so that arrays in it can be read where they lie."""

_MAGIC = b"mainspring view 1\n"
_START = len(_MAGIC) + 4
_log = logging.getLogger(__name__)


class View(Protocol):
    """What a view must be able to do. `restore` and `rebuild` may run in another thread, nothing else meanwhile."""

    def apply(self, record: Record) -> None:
        """Takes in one event; each comes exactly once, in commit order."""

    def snapshot(self) -> bytes:
        """The whole state; two views with the same state give the same bytes."""

    def restore(self, snapshot: Snapshot) -> None:
        """Becomes what gave this snapshot. May raise anything where it cannot, and is then rebuilt.

        A keeper gives the generation file itself, mapped into memory: a view that keeps parts of it, rather than copies,
        takes memory only for what is read.
        """

    def rebuild(self, connection: Connection) -> None:
        """Becomes what the rows say, whatever it was before.

        May be interrupted and begun again. Others may go on reading the old state: build aside, and swap by one
        assignment.
        """


V = TypeVar("V", bound=View)
EventsAfter = Callable[[int, Sequence[str], int], Awaitable[tuple[list[Record], int | None, bool]]]


class _Header(msgspec.Struct, frozen=True):
    name: str
    version: int
    history: int
    mark: Mark
    size_bytes: int
    sha256: bytes
    taken_at_us: int


class Unusable(Exception):
    """A generation file cannot be used; the text says why."""


class ViewKeeper(Generic[V]):
    """Keeps one view up to date. `start` returns when it is; `stop` leaves a snapshot.

    `version` is that of the view's own snapshot format and meaning: raise it when either changes. `folder` is where the
    generation file `<name>.view` lives; without one the view is rebuilt at each start. A snapshot is taken every
    `snapshot_every_s` where anything has changed.
    """

    def __init__(
        self,
        name: str,
        view: V,
        database: Database,
        log: OutboxLog,
        clock: Clock,
        *,
        topics: Sequence[str],
        version: int,
        folder: Path | None = None,
        snapshot_every_s: float = 300.0,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.name, self.view = name, view
        self.applied = self.rebuilds = 0
        self.lag_s = 0.0
        """How old the newest applied event was when it was applied."""
        self._database, self._log, self._clock = database, log, clock
        self._topics, self._version = tuple(topics), version
        self._file = None if folder is None else folder / f"{name}.view"
        self._snapshot_every_s = snapshot_every_s
        self._random = random or Random()
        self._mark = Mark(0)
        self._history = 0
        self._changed = False
        self._broken = False
        """Whether the view may have taken in half an event, so that only a rebuild helps."""
        self._turn = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        if metrics is not None:
            for metric, help in (("applied", "Events taken into a view"), ("rebuilds", "Rebuilds from the rows")):
                metrics.counter(f"view_{metric}", help, ("view",)).labels(name).follow(partial(getattr, self, metric))
            metrics.gauge("view_lag_seconds", "How far a view trailed its rows", ("view",)).labels(name).follow(
                lambda: self.lag_s
            )

    async def start(self) -> None:
        """Restores or rebuilds the view, brings it up to date and keeps it so. Raises what the database raises."""
        self._history = await self._log.history()
        news, stop_watching = self._log.follow(self._topics)
        try:
            await self._begin()
            await self.catch_up()
        except BaseException:
            stop_watching()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(news), name=f"view {self.name}")]
        self._tasks[0].add_done_callback(lambda _: stop_watching())
        if self._file is not None:
            self._tasks.append(loop.create_task(self._keep_snapshots(), name=f"snapshots of {self.name}"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        await self.snapshot()

    async def catch_up(self) -> None:
        """Returns when the view holds everything that was committed when this was called: read your own write."""
        goal = (await self._database.read(transactions.mark)).complete
        while True:
            async with self._turn:
                await self._take_in(self._log.events_after)
            if self._mark.after >= goal:
                return
            # PostgreSQL: an older transaction is still running.
            await self._clock.sleep(LOOK_EVERY_S)

    async def snapshot(self) -> None:
        """Writes the generation file, where anything has changed since the last one."""
        if self._file is None or not self._changed:
            return
        async with self._writing:
            async with self._turn:
                if self._broken:
                    return
                body = self.view.snapshot()
                mark = self._mark
                self._changed = False
            header = _Header(
                self.name,
                self._version,
                self._history,
                mark,
                len(body),
                hashlib.sha256(body).digest(),
                self._clock.wall_ns() // 1000,
            )
            try:
                await asyncio.to_thread(_write, self._file, msgspec.msgpack.encode(header), body)
            except OSError:
                self._changed = True
                _log.exception("the snapshot of view %s could not be written", self.name)

    async def _begin(self) -> None:
        """Puts the view at some place in the order of events from which it can go on."""
        if self._file is None:
            return await self._rebuild("it keeps no file")
        try:
            header, body = await asyncio.to_thread(_read, self._file)
            self._check(header)
            if header.mark.after > (await self._database.read(transactions.mark)).complete:
                raise Unusable("its events are not in this database")
            _, _, gap = await self._log.events_after(header.mark.after, self._topics, 1)
            if gap:
                raise Unusable("later events have been pruned")
            await asyncio.to_thread(self.view.restore, body)
        except Exception as error:
            await self._rebuild(str(error) if isinstance(error, Unusable) else repr(error))
        else:
            self._mark = header.mark
        return None

    def _check(self, header: _Header) -> None:
        if header.name != self.name:
            raise Unusable(f"its file is that of {header.name}")
        if header.version != self._version:
            raise Unusable(f"its file is of version {header.version}")
        if header.history != self._history:
            raise Unusable("its file follows another history of events")

    async def _rebuild(self, reason: str) -> None:
        _log.info("view %s is rebuilt: %s", self.name, reason)
        self._broken = True
        self._mark = await self._database.read(_rebuilt, self.view)
        self._broken = False
        self._changed = True
        self.rebuilds += 1

    async def _take_in(self, events_after: EventsAfter) -> None:
        """Applies all that can be read now. For who holds the turn."""
        if self._broken:
            await self._rebuild("the last try failed")
        while True:
            batch, complete, gap = await events_after(self._mark.after, self._topics, RECORDS_AT_ONCE)
            if gap:
                await self._rebuild("it was so far behind that events have been pruned")
                continue
            try:
                self._apply(batch)
            except Exception:
                _log.exception("view %s could not take in an event", self.name)
                await self._rebuild("it could not take in an event")
                continue
            if complete is not None:
                self._mark = self._mark.moved(complete)
                return
            # A long way to catch up must not hold up everybody else.
            await asyncio.sleep(0)

    def _apply(self, batch: list[Record]) -> None:
        if not batch:
            return
        mark = self._mark
        for record in [record for record in batch if not mark.seen(record.offset)] if mark.ends else batch:
            self._changed = True
            self.view.apply(record)
            self.applied += 1
        self._mark = mark.moved(batch[-1].offset)
        self.lag_s = max(0.0, self._clock.wall_ns() / 1e9 - batch[-1].at_us / 1e6)

    async def _follow(self, news: asyncio.Event) -> None:
        backoff = Backoff(0.1, 5.0, self._random)
        while True:
            news.clear()
            try:
                async with self._turn:
                    await self._take_in(self._log.news_after)
            except Exception:
                if not backoff.failures:
                    _log.exception("view %s cannot follow its events; it tries again", self.name)
                await self._clock.sleep(backoff.next_s())
            else:
                backoff.reset()
                await news.wait()

    async def _keep_snapshots(self) -> None:
        while True:
            await self._clock.sleep(self._snapshot_every_s * self._random.uniform(0.9, 1.1))
            try:
                await self.snapshot()
            except Exception:
                _log.exception("view %s cannot be snapshot", self.name)


def _rebuilt(connection: Connection, view: View) -> Mark:
    mark = transactions.mark(connection)
    view.rebuild(connection)
    return mark


def _write(file: Path, header: bytes, body: bytes) -> None:
    """Replaces the file as one step, even where the power goes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("wb") as out:
        out.write(_MAGIC + len(header).to_bytes(4, "big") + header)
        out.write(bytes(_body_at(len(header)) - out.tell()))
        out.write(body)
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(file: Path) -> tuple[_Header, memoryview]:
    """Raises `Unusable`."""
    try:
        with file.open("rb") as source:
            content = memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise Unusable("it has no file yet") from None
    except (OSError, ValueError) as error:
        raise Unusable(f"its file cannot be read: {error}") from None
    if content[: len(_MAGIC)] != _MAGIC:
        raise Unusable("its file is of another format")
    length = int.from_bytes(content[len(_MAGIC) : _START], "big")
    try:
        header = msgspec.msgpack.decode(content[_START : _START + length], type=_Header)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Unusable(f"its file is damaged: {error}") from None
    body = content[_body_at(length) :]
    if len(body) != header.size_bytes or hashlib.sha256(body).digest() != header.sha256:
        raise Unusable("its file is damaged: its checksum does not match")
    return header, body


def _body_at(header_length: int) -> int:
    return -(-(_START + header_length) // ALIGNMENT) * ALIGNMENT
