"""The relay: takes events from the outbox to a log outside of the database, each exactly once, in commit order.

It reads the outbox from its position on, appends what it read, then moves its position. A crash between the two would append
the same events again; so every relayed record names its event in a header, and a relay that starts reads back what was
appended to a topic since its position last moved (it notes for each partition how far that was) and leaves out what it
finds. Of many nodes one relays, by a lease; an old holder that wakes up too late is fenced by the destination
(`take_over`) before the new one reads back.

Order holds for each partition of a topic, so for each key. An event that the log cannot hold (a name or size that it
refuses) stays behind, counted and told in the node's own log, because it must not hold up all others.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.job_leases import LEASE_S, Leases, OwnLeases
from mainspring.core.outbox.log import OutboxLog
from mainspring.core.outbox.model import RELAY
from mainspring.core.outbox.steps import commits, transactions
from mainspring.core.ports import Connection, Database, Record
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics

HEADER = "mainspring-outbox"
"""Of a relayed record: the number of the outbox's history and the event's offset there, 8 bytes each."""

RECORDS_AT_ONCE = 1_000
REST = 10
"""Once it has caught up the relay rests this many times as long as that took. So whoever commits comes first, and under load
each turn takes many events."""
REST_S_MAX = 0.25
RENEW_EVERY_S = LEASE_S / 3

_log = logging.getLogger(__name__)


Item = tuple[int, bytes | None, bytes, list[tuple[str, bytes]]]
"""A record to append: milliseconds UTC, key, value, headers."""


class Destination(Protocol):
    """What a log must be able to do for a relay."""

    async def take_over(self, history: int) -> None:
        """Ends what an earlier relay of this outbox may still be doing: nothing of it becomes visible any more.

        `history` is the number that names the outbox.
        """

    def unfit(self, topic: str, records: Sequence[Record]) -> Mapping[int, str]:
        """Which of these events the log cannot hold, by their offset, and why."""

    async def relay(self, items: Mapping[str, Sequence[Item]]) -> Mapping[tuple[str, int], int]:
        """Appends to these topics, making those that are missing; durable when it returns.

        A record goes to a partition by its key, without one to the first. Gives the end of every partition touched.
        """

    async def partitions(self, topic: str) -> int:
        """How many there are; 0 where there is no such topic."""

    async def fetch(self, topic: str, partition: int, offset: int) -> list[Record]:
        """The next committed records from `offset` (or the oldest kept) on; none at the end."""


class Relay:
    """Runs between `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        outbox: OutboxLog,
        destination: Destination,
        clock: Clock,
        *,
        leases: Leases | None = None,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.relayed = self.unfit = 0
        self.lag_s = 0.0
        """How old the newest relayed event was when it was in the log."""
        self._database, self._outbox, self._destination, self._clock = database, outbox, destination, clock
        self._leases: Leases = leases or OwnLeases(clock)
        self._random = random or Random()
        self._history = self._position = 0
        self._ends: dict[tuple[str, int], int] = {}
        """How far each partition had been written when the position last moved, as the same snapshot has it."""
        self._passed: dict[str, int] = {}
        """Up to where all groups that read the outbox itself had read a topic: they need it nowhere else."""
        self._known: dict[str, set[int]] = {}
        """For each topic that was read back: which events past the position were found there."""
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        if metrics is not None:
            metrics.counter("relay_events", "Events taken from the outbox to the log").follow(lambda: self.relayed)
            metrics.counter("relay_unfit", "Events that the log cannot hold").follow(lambda: self.unfit)
            metrics.gauge("relay_lag_seconds", "How far the log trailed the outbox").follow(lambda: self.lag_s)

    async def start(self) -> None:
        self._outbox.relayed = True
        self._task = asyncio.create_task(self._run(), name="relay")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Meanwhile this node relays nothing: all that is in the log is also counted by the position."""
        async with self._turn:
            yield

    async def _run(self) -> None:
        backoff = Backoff(0.1, 5.0, self._random)
        while True:
            try:
                if self._database.dialect == "sqlite":
                    # Nobody else relays, and what an earlier process left unfinished still waits: it needs no looking after.
                    await self._outbox.wait_unrelayed()
                await self._leases.prepare()
                await self._leases.begin(RELAY, 0)
                fence, wait_s = await self._leases.claim(RELAY)
                if fence is None:
                    await self._clock.sleep(min(max(wait_s, 0.1), LEASE_S))
                    continue
                await self._begin()
                backoff.reset()
                await self._follow(fence)
            except Exception as error:
                if not backoff.failures:
                    _log.warning("the relay cannot go on and tries again: %s", error, exc_info=_unexpected(error))
                await self._clock.sleep(backoff.next_s())

    async def _begin(self) -> None:
        """Finds out where to go on. Nothing is known of what another node, or this one before a failure, has done since."""
        self._history = await self._outbox.history()
        await self._destination.take_over(self._history)
        self._position, self._ends = await self._database.read(_place)
        self._passed = await self._database.read(transactions.slowest_groups)
        self._known = {}

    async def _follow(self, fence: int) -> None:
        """Relays until the lease is lost."""
        news, stop_following = self._outbox.follow_all()
        renewed_ns = self._clock.mono_ns()
        try:
            while True:
                news.clear()
                began_ns = self._clock.mono_ns()
                while (count := await self._relay_some()) >= RECORDS_AT_ONCE:
                    if self._clock.mono_ns() - renewed_ns > RENEW_EVERY_S * 1e9:
                        break
                    await asyncio.sleep(0)
                now_ns = self._clock.mono_ns()
                if now_ns - renewed_ns > RENEW_EVERY_S * 1e9:
                    if not await self._leases.renew(RELAY, fence):
                        return
                    renewed_ns = now_ns
                    news.set()
                if count:
                    news.set()  # the batch may have ended for its bytes; and under load more has come meanwhile
                await self._clock.sleep(min(REST_S_MAX, REST * (now_ns - began_ns) / 1e9))
                await self._news_or(RENEW_EVERY_S, news)
        finally:
            stop_following()

    async def _news_or(self, seconds: float, news: asyncio.Event) -> None:
        if news.is_set():
            return
        ends = {asyncio.ensure_future(news.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def _relay_some(self) -> int:
        """One turn; gives how many events it passed."""
        async with self._turn:
            batch = await self._outbox.everything_after(self._position, RECORDS_AT_ONCE)
            if not batch:
                return 0
            by_topic: dict[str, list[Record]] = {}
            for record in batch:
                by_topic.setdefault(record.topic, []).append(record)
            items = {topic: self._items(await self._wanted(topic, records)) for topic, records in by_topic.items()}
            items = {topic: some for topic, some in items.items() if some}
            ends: Mapping[tuple[str, int], int] = {}
            if items:
                ends = await self._destination.relay(items)
                crash_point("core.relay.appended")
            if not await self._database.write(_move, self._position, batch[-1].offset, ends):
                raise Unavailable("another node relays")
            crash_point("core.relay.moved")
            self._position = batch[-1].offset
            self.relayed += sum(map(len, items.values()))
            self.lag_s = max(0.0, self._clock.wall_ns() / 1e9 - batch[-1].at_us / 1e6)
            return len(batch)

    async def _wanted(self, topic: str, records: list[Record]) -> list[Record]:
        """Without what is there already, was read where it is, or cannot be taken."""
        passed = self._passed.get(topic, 0)
        if records[0].offset <= passed:
            records = [record for record in records if record.offset > passed]
        unfit = self._destination.unfit(topic, records)
        for offset, reason in unfit.items():
            self.unfit += 1
            _log.error("event %d of %s stays in the outbox: %s", offset, topic, reason)
        if len(unfit) == len(records):
            return []
        if topic not in self._known:
            self._known[topic] = await self._read_back(topic)
        without = self._known[topic].union(unfit)
        return [record for record in records if record.offset not in without] if without else records

    async def _read_back(self, topic: str) -> set[int]:
        """Which events past the position are in the log already."""
        found: set[int] = set()
        for partition in range(await self._destination.partitions(topic)):
            offset = self._ends.get((topic, partition), 0)
            while records := await self._destination.fetch(topic, partition, offset):
                found.update(event for record in records if (event := self._event_of(record)) > self._position)
                offset = records[-1].offset + 1
        return found

    def _items(self, records: Sequence[Record]) -> list[Item]:
        history = self._history.to_bytes(8, "big", signed=True)
        latest_us = (
            self._clock.wall_ns() // 1000
        )  # a log refuses records from the future, which a clock set back makes of ours
        return [
            (
                min(record.at_us, latest_us) // 1000,
                record.key,
                record.value,
                [*record.headers, (HEADER, history + record.offset.to_bytes(8, "big"))],
            )
            for record in records
        ]

    def _event_of(self, record: Record) -> int:
        """The event that a record of the log was, or -1 where it was none of this history."""
        for name, value in record.headers:
            if name == HEADER and len(value) == 16 and int.from_bytes(value[:8], "big", signed=True) == self._history:
                return int.from_bytes(value[8:], "big")
        return -1


def _place(connection: Connection) -> tuple[int, dict[tuple[str, int], int]]:
    return transactions.relay_position(connection), commits.all_positions(connection, RELAY)


def _move(connection: Connection, start: int, end: int, ends: Mapping[tuple[str, int], int]) -> bool:
    if not transactions.advance_relay(connection, start, end):
        return False
    commits.put(connection, RELAY, ends)
    return True


def _unexpected(error: Exception) -> bool:
    return not isinstance(error, Unavailable)
