"""A member of a consumer group in this process: batches of the partitions it owns, each until its position has moved.

A partition is handed over only when its owner is done with the batch it holds (has committed it, asked for the next or closed)
and its `on_revoked` has returned. Where positions live in the database (see `positions`), the group's own follow them, so that
the lag can be seen.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainspring.core.ports import Connection, Record
from mainspring.core.problems import Problem
from mainspring.storage.log.errors import OffsetOutOfRange
from mainspring.storage.log.groups.errors import StaleMemberEpoch
from mainspring.storage.log.positions import InHand, Owned
from mainspring.storage.log.reader import Isolation, as_record, read_some

if TYPE_CHECKING:
    from mainspring.storage.log.service import Log

Callback = Callable[[Collection[Owned]], Awaitable[object]]

MIRROR_EVERY_S = 0.5
STALE_TRIES, STALE_AGAIN_S = 1_000, 0.01

_log = logging.getLogger(__name__)


class _Place:
    """How far this member has come in a partition. It is read only while `ready`."""

    __slots__ = ("at", "ready", "stop_listening")

    def __init__(self, stop_listening: Callable[[], None]) -> None:
        self.at = 0
        self.ready = False
        self.stop_listening = stop_listening


class LogConsumer:
    """An iterator over batches, each of one partition; see `Consumer` in `core.ports`. For one task.

    Raises `LogError` where the group refuses this member.
    """

    def __init__(
        self,
        log: "Log",
        group: str,
        topics: Sequence[str],
        records_max: int,
        isolation: Isolation,
        on_assigned: Callback | None,
        on_revoked: Callback | None,
    ) -> None:
        self.group, self.topics = group, tuple(topics)
        self._log, self._records_max, self._isolation = log, records_max, isolation
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._member: Any = None
        self._places: dict[Owned, _Place] = {}
        self._hand = InHand(group, self._stored)
        self._turn = 0
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._unmirrored: dict[Owned, int] = {}
        self._mirroring: asyncio.Task[None] | None = None

    @property
    def assignment(self) -> frozenset[Owned]:
        """What is owned now, as (topic, partition)."""
        return frozenset(where for where, place in self._places.items() if place.ready)

    def __aiter__(self) -> "LogConsumer":
        return self

    async def __anext__(self) -> list[Record]:
        self._hand.put_back()
        while not self._ended.is_set():
            if self._member is None:
                await self._join()
            if self._hand.too_late:
                await self._find_places(tuple(self._places))
                self._hand.too_late = False
            self._news.clear()
            batch, moved = self._next()
            if batch:
                return batch
            if moved:
                await asyncio.sleep(0)
            elif not self._ended.is_set():
                await self._news.wait()
        raise StopAsyncIteration

    async def commit(self) -> None:
        """Makes the position after the last batch durable. Raises `LogError` where another owns its partition by now."""
        if self._hand.is_stored:
            await self._log.write(self.commit_in)
        elif ends := self._hand.ends:
            async with self._log.commits.passing():
                await self._commit(ends)
            self.passed(ends)

    def commit_in(self, connection: Connection) -> bool:
        return self._hand.commit_in(connection)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Goes on from this offset in a partition that is owned. Raises `KeyError` where it is not."""
        self._places[topic, partition].at = offset
        self._hand.put_back()
        self._news.set()

    async def close(self) -> None:
        """Leaves the group: its partitions go to others at once."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._hand.put_back()
        self._news.set()
        if self._mirroring is not None:
            self._mirroring.cancel()
            await asyncio.gather(self._mirroring, return_exceptions=True)
            await self._mirror()
        if self._member is not None:
            joined = self._member.epoch > 0
            await self._member.close()
            if not joined:
                # It may be a member by now, only without having heard of it.
                await self._log.dismiss(self.group, self._member.member_id)
        # What had been handed to its owner while the membership ended is given up all the same.
        if owned := self.assignment:
            await self._revoked(owned)
        for where in tuple(self._places):
            self._forget(where)
        self._log.forget(self)

    async def _commit(self, ends: Mapping[Owned, int]) -> None:
        """While partitions change hands the group may be an epoch ahead of what this member has heard; it hears in a moment."""
        for tries_left in reversed(range(STALE_TRIES)):
            try:
                await self._member.commit(ends)
            except StaleMemberEpoch:
                if not tries_left or self._member.epoch <= 0:
                    raise
                await self._log.clock.sleep(STALE_AGAIN_S)
            else:
                return

    # For a transaction that commits this consumer's offsets

    @property
    def member(self) -> Any:
        """The membership of the group, where it has been joined."""
        return self._member

    @property
    def ends(self) -> Mapping[Owned, int]:
        """The offsets after the batch in hand."""
        return self._hand.ends

    def passed(self, ends: Mapping[Owned, int]) -> None:
        """The group's positions have moved to these offsets."""
        for where, end in ends.items():
            if where in self._places:
                self._places[where].at = end
        self._turn += 1
        self._hand.put_back()

    # The group

    async def _join(self) -> None:
        for topic in self.topics:
            await self._log.topic(topic)
        member = self._log.groups.member(
            self.group, list(self.topics), on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
        )
        self._member = member
        joining = asyncio.ensure_future(member.start())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({joining, ended}, return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                joining.result()
        except BaseException:
            self._member = None
            raise
        finally:
            joining.cancel()
            ended.cancel()

    async def _assigned(self, partitions: Collection[Owned]) -> None:
        for topic, index in partitions:
            stop_listening = self._log.engine.partition(topic, index).on_progress(self._news.set)
            self._places[topic, index] = _Place(stop_listening)
        await self._find_places(partitions)
        if self._on_assigned is not None:
            await self._on_assigned(partitions)
        for where in partitions:
            if where in self._places:
                self._places[where].ready = True
        self._news.set()

    async def _revoked(self, partitions: Collection[Owned]) -> None:
        for where in partitions:
            if where in self._places:
                self._places[where].ready = False
        await self._hand.given_back(partitions)
        if self._on_revoked is not None:
            await self._on_revoked(partitions)
        for where in partitions:
            self._forget(where)

    async def _lost(self, partitions: Collection[Owned]) -> None:
        for where in partitions:
            self._forget(where)

    def _forget(self, where: Owned) -> None:
        place = self._places.pop(where, None)
        if place is not None:
            place.stop_listening()

    async def _find_places(self, partitions: Collection[Owned]) -> None:
        for where, (at, stored) in (await self._log.positions(self.group, partitions)).items():
            if where in self._places:
                self._places[where].at = at
                self._hand.stored[where] = stored

    # Batches

    def _next(self) -> tuple[list[Record], bool]:
        """A batch of the next partition that has one; and whether any position moved over what no reader sees."""
        ready = [where for where, place in self._places.items() if place.ready]
        moved = False
        for step in range(len(ready)):
            where = ready[(self._turn + step) % len(ready)]
            place, partition = self._places[where], self._log.engine.partition(*where)
            try:
                seen = read_some(partition, place.at, self._isolation, self._records_max)
            except OffsetOutOfRange:
                _log.error(
                    "group %s stands at %d of %s-%d, beyond its end: it begins anew", self.group, place.at, *where
                )
                place.at, moved = partition.log_start, True
                continue
            if seen.records:
                # Until it is committed the same partition has its turn, and the same records come.
                self._turn = (self._turn + step) % len(ready)
                self._hand.take({where: seen.next_offset})
                return [as_record(partition, read) for read in seen.records], True
            moved = moved or seen.next_offset > place.at
            place.at = seen.next_offset
        return [], moved

    def _stored(self, ends: Mapping[Owned, int]) -> None:
        """A transaction of the database has moved these positions."""
        self.passed(ends)
        self._unmirrored.update(ends)
        if self._mirroring is None and not self._ended.is_set():
            self._mirroring = asyncio.get_running_loop().create_task(self._mirror_soon(), name=f"lag of {self.group}")

    async def _mirror_soon(self) -> None:
        await self._log.clock.sleep(MIRROR_EVERY_S)
        self._mirroring = None
        await self._mirror()

    async def _mirror(self) -> None:
        """Tells the group what the database knows: for those who look at the lag, so a failure does no harm."""
        ends, self._unmirrored = self._unmirrored, {}
        owned = {where: end for where, end in ends.items() if where in self._places}
        if not owned or self._member is None:
            return
        try:
            async with self._log.commits.passing():
                await self._commit(owned)
        except Problem as error:
            _log.debug("the lag of %s is not up to date: %s", self.group, error)
