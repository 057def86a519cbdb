"""A member of a consumer group: batches in commit order, each until its position has moved.

The position in the database is the only one: each batch is read from there, so a batch that was not committed comes again,
also after a crash. To commit is to compare and set it, so of several members that hold the same batch one moves the group
and the others are told that they came too late; with `commit_in` that is one transaction with the effect, which therefore
happens exactly once.

Who came too late stands by: it lets the other work, and takes over when the position has not moved for `TAKE_OVER_S` while
records wait. So the members of a group on many nodes do not do the same work again and again to no end.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.outbox.steps import transactions
from mainspring.core.ports import Connection, Database, Record
from mainspring.core.problems import Unavailable

TAKE_OVER_S = 2.0
LOOK_EVERY_S = 0.5

_log = logging.getLogger(__name__)


class OutboxConsumer:
    """An iterator over batches; see `Consumer` in `core.ports`. For one task; `commit_in` may be called in any thread.

    A batch ends after `batch_records_max` records or 8 MiB. Without the database the iterator waits until it is back.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        random: Random,
        group: str,
        topics: Sequence[str],
        batch_records_max: int,
        news: asyncio.Event,
        ended: Callable[[], None],
    ) -> None:
        self.group, self.topics = group, tuple(topics)
        self._database, self._clock, self._random = database, clock, random
        self._records_max = batch_records_max
        self._news, self._ended = news, ended
        self._closing = asyncio.Event()
        self._registered = False
        self._moves: dict[str, tuple[int, int]] = {}
        """How this batch, once committed, moves each topic's position."""
        self._done = True
        """Whether the batch is committed, by us."""
        self._too_late = False

    def __aiter__(self) -> "OutboxConsumer":
        return self

    async def __anext__(self) -> list[Record]:
        backoff = Backoff(0.1, 5.0, self._random)
        while not self._closing.is_set():
            try:
                batch = await self._next()
            except Unavailable as error:
                if not backoff.failures:
                    _log.warning("group %s waits for the database: %s", self.group, error)
                await self._rest(backoff.next_s())
            else:
                if batch:
                    return batch
        raise StopAsyncIteration

    async def commit(self) -> None:
        if not self._done:
            await self._database.write(self.commit_in)

    def commit_in(self, connection: Connection) -> bool:
        moves = self._moves
        if transactions.advance(connection, self.group, moves):
            connection.after_commit(partial(self._committed, moves))
            return True
        self._too_late = not self._done
        return False

    async def close(self) -> None:
        self._closing.set()
        self._news.set()
        self._ended()

    def _committed(self, moves: dict[str, tuple[int, int]]) -> None:
        if moves is self._moves:
            self._done = True
            # A transaction that ran more than once may have thought otherwise the first time.
            self._too_late = False

    async def _next(self) -> list[Record]:
        """The next batch, or nothing where it is time to look whether the consumer was closed."""
        if not self._registered or self._too_late:
            await self._database.write(transactions.register, self.group, self.topics)
            self._registered = True
        if self._too_late:
            await self._stand_by()
        self._news.clear()
        starts, batch = await self._database.read(transactions.next_batch, self.group, self.topics, self._records_max)
        if not batch:
            if not self._closing.is_set():
                await self._news.wait()
            return batch
        ends = {record.topic: record.offset for record in batch}
        self._moves = {topic: (starts[topic], end) for topic, end in ends.items()}
        self._done = self._too_late = False
        return batch

    async def _stand_by(self) -> None:
        """Returns when the others do not get on, or this consumer is closed."""
        patience_ns = round(TAKE_OVER_S * self._random.uniform(1, 2) * 1e9)
        seen, since_ns = None, 0
        while not self._closing.is_set():
            # A read may take long: what it saw is as old as its beginning, and the wait begins at its end.
            began_ns = self._clock.mono_ns()
            starts, batch = await self._database.read(transactions.next_batch, self.group, self.topics, 1)
            if starts != seen or not batch:
                seen, since_ns = starts, self._clock.mono_ns()
            elif began_ns - since_ns >= patience_ns:
                return
            await self._rest(LOOK_EVERY_S)

    async def _rest(self, seconds: float) -> None:
        """Waits, but not when it is closed."""
        ends = {asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._closing.wait())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
