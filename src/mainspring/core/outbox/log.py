"""`OutboxLog`: the `Log` port over the database that has the rows the events are about.

Consumers in this process are woken by the commit itself. On PostgreSQL other nodes commit too, and an event can only be
read once no older transaction is running; so while anybody waits there, one task looks every `POLL_S`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from random import Random

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.database.watch import EVERY_TOPIC
from mainspring.core.outbox import idle
from mainspring.core.outbox.consumer import OutboxConsumer
from mainspring.core.outbox.model import Pairs, Retention
from mainspring.core.outbox.steps import pruning, transactions
from mainspring.core.ports import Database, Position, Record
from mainspring.core.problems import Problem, Unavailable
from mainspring.core.telemetry import Metrics

POLL_S = 0.25
VALUE_BYTES_MAX = 1 << 20
APPEND_RECORDS_MAX = 1_000
"""They are one transaction, which on an embedded database holds all other writers up."""

BACKLOG_MAX = 100_000
NAME_LENGTH_MAX = 255

_log = logging.getLogger(__name__)


class OutboxLog:
    """Ordered, durable events in the database itself; each topic has one partition.

    `prune` must be called from time to time: `Retention` says what it keeps.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        retention: Retention | None = None,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.retention = retention or Retention()
        self.pruned = self.lost = 0
        self.relayed = False
        """Whether a relay takes the events to another log, so that it is the one whose position counts."""
        self._database, self._clock = database, clock
        self._random = random or Random()
        self._waiting: set[asyncio.Event] = set()
        self._consumers: set[OutboxConsumer] = set()
        self._poller: asyncio.Task[None] | None = None
        if metrics is not None:
            pruned = metrics.counter("outbox_pruned", "Events deleted after everybody had seen them")
            pruned.follow(lambda: self.pruned)
            lost = metrics.counter("outbox_lost", "Events deleted although a group had not seen them for too long")
            lost.follow(lambda: self.lost)
            metrics.gauge("outbox_consumers", "Members of consumer groups in this process").follow(
                lambda: len(self._consumers)
            )

    async def append(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Position:
        return (await self._append(topic, [(key, value, headers)]))[0]

    async def append_many(self, topic: str, records: Iterable[tuple[bytes | None, bytes]]) -> list[Position]:
        return await self._append(topic, [(key, value, ()) for key, value in records])

    def consumer(self, group: str, topics: Sequence[str], batch_records_max: int = 500) -> OutboxConsumer:
        """A new member of `group`, which begins with the oldest records kept. Close it when done."""
        _check_name(group)
        if not topics or batch_records_max < 1:
            raise ValueError("a consumer needs a topic, and batches of at least one record")
        news, stop_watching = self._watch(topics)

        def ended() -> None:
            stop_watching()
            self._consumers.discard(consumer)

        consumer = OutboxConsumer(
            self._database, self._clock, self._random, group, topics, batch_records_max, news, ended
        )
        self._consumers.add(consumer)
        return consumer

    async def register(self, group: str, topics: Sequence[str]) -> None:
        """Makes a group known before it has a consumer, so that its records are kept for it."""
        _check_name(group)
        for topic in topics:
            _check_name(topic)
        await self._database.write(transactions.register, group, topics)

    async def pending(self, group: str, topic: str) -> bool:
        """Whether a record waits for this group, so that whoever consumes it is worth starting."""
        return await self._database.read(transactions.is_pending, group, topic)

    async def wait_pending(self, group: str, topics: Sequence[str]) -> None:
        """Returns once a record of one of the topics waits for this group."""
        news, stop_watching = self._watch(topics)
        backoff = Backoff(0.1, 5.0, self._random)
        try:
            while True:
                news.clear()
                try:
                    for topic in topics:
                        if await self.pending(group, topic):
                            return
                except Unavailable:
                    await self._clock.sleep(backoff.next_s())
                else:
                    await news.wait()
        finally:
            stop_watching()

    async def wait_unrelayed(self) -> None:
        """Returns once an event waits for the relay."""
        news, stop_following = self.follow_all()
        try:
            while not await self._database.read(idle.is_unrelayed):
                await news.wait()
                news.clear()
        finally:
            stop_following()

    async def backlog(self, group: str, topic: str) -> int:
        """How many records wait for this group; it counts no further than 100,000."""
        return await self._database.read(transactions.backlog, group, topic, BACKLOG_MAX)

    def follow(self, topics: Sequence[str]) -> tuple[asyncio.Event, Callable[[], None]]:
        """For a view, which keeps its own position: an event that is set when there may be news, and what ends this."""
        return self._watch(topics)

    def follow_all(self) -> tuple[asyncio.Event, Callable[[], None]]:
        """As `follow`, for events of whatever topic."""
        return self._listen([EVERY_TOPIC])

    async def events_after(
        self, offset: int, topics: Sequence[str], records_max: int
    ) -> tuple[list[Record], int | None, bool]:
        """For one who keeps a position of its own: see `transactions.next_events`."""
        return await self._database.read(transactions.next_events, offset, topics, records_max)

    async def news_after(
        self, offset: int, topics: Sequence[str], records_max: int
    ) -> tuple[list[Record], int | None, bool]:
        """Like `events_after`, from memory where it reaches back so far; what was committed just now may not be there yet."""
        recent = self._database.recent_events(offset, records_max, topics)
        if recent is None:
            return await self.events_after(offset, topics, records_max)
        records, newest = recent
        return records, None if len(records) >= records_max else max(offset, newest), False

    async def everything_after(self, offset: int, records_max: int) -> list[Record]:
        """The first final records past this offset, of whatever topic; at least one where there is news of one."""
        recent = self._database.recent_events(offset, records_max)
        return recent[0] if recent else await self._database.read(transactions.everything_after, offset, records_max)

    async def history(self) -> int:
        """The number that names this database's history of offsets; another one after a restore."""
        number = await self._database.read(transactions.history)
        if number is None:
            await self._database.write(transactions.name_history, -1 - self._random.getrandbits(62))
            number = await self._database.read(transactions.history)
        assert number is not None
        return number

    async def prune(self) -> int:
        """Deletes what `retention` does not keep; gives how many records."""
        if await self._database.read(idle.is_empty):
            return 0
        removed = 0
        now_us = self._clock.wall_ns() // 1000
        for topic in await self._database.read(pruning.topics):
            surplus = await self._database.read(pruning.surplus, topic, self.retention)
            while True:
                due = await self._database.read(pruning.due, topic, surplus, self.retention, now_us, self.relayed)
                if not due.records:
                    break
                if due.lost:
                    _log.error("%d events of %s are deleted that a group has not seen for too long", due.lost, topic)
                await self._database.write(pruning.remove, topic, due.upto)
                removed += due.records
                self.pruned += due.records
                self.lost += due.lost
        return removed

    async def stop(self) -> None:
        """Ends every consumer's iterator; whoever is still at work on a batch can commit it."""
        for consumer in tuple(self._consumers):
            await consumer.close()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
            self._poller = None

    async def _append(self, topic: str, records: Pairs) -> list[Position]:
        _check_name(topic)
        if len(records) > APPEND_RECORDS_MAX:
            raise ValueError(f"at most {APPEND_RECORDS_MAX} records can be appended at once")
        for _, value, _ in records:
            if len(value) > VALUE_BYTES_MAX:
                raise ValueError(f"a record's value has at most {VALUE_BYTES_MAX} bytes, this one has {len(value)}")
        if not records:
            return []
        return await self._database.write(transactions.append, topic, records)

    def _watch(self, topics: Sequence[str]) -> tuple[asyncio.Event, Callable[[], None]]:
        for topic in topics:
            _check_name(topic)
        return self._listen(topics)

    def _listen(self, topics: Sequence[str]) -> tuple[asyncio.Event, Callable[[], None]]:
        news = asyncio.Event()
        endings = [self._database.watch(topic, news.set) for topic in topics]
        self._waiting.add(news)
        if self._poller is None and self._database.dialect != "sqlite":
            self._poller = asyncio.get_running_loop().create_task(self._poll(), name="outbox poll")

        def stop() -> None:
            for end in endings:
                end()
            self._waiting.discard(news)

        return news, stop

    async def _poll(self) -> None:
        last = 0
        backoff = Backoff(POLL_S, 5.0, self._random)
        while True:
            await self._clock.sleep(POLL_S)
            if all(news.is_set() for news in self._waiting):
                continue
            try:
                newest = await self._database.read(transactions.last_final)
            except Problem as error:
                if not backoff.failures:
                    _log.warning("the outbox cannot be read: %s", error)
                await self._clock.sleep(backoff.next_s())
                continue
            backoff.reset()
            if newest != last:
                last = newest
                for news in self._waiting:
                    news.set()


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH_MAX:
        raise ValueError(f"a topic or group is named with 1 to {NAME_LENGTH_MAX} characters")
