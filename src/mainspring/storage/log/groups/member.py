"""A member of a group in this process: the new consumer protocol without a network.

It is the client's half of `consumer`: it heartbeats, gives up what it is told to give up after `on_revoked` has returned, takes
over what it gets after `on_assigned` has returned, and is woken at once when the group has a step for it, so that a hand-over
takes as long as the callbacks do. While a callback runs it goes on heartbeating with what it still owns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mainspring.core.backoff import Backoff
from mainspring.storage.log.coordinator_errors import CoordinatorError, CoordinatorLoading, CoordinatorNotAvailable
from mainspring.storage.log.groups.consumer import LEAVES, ConsumerGroup
from mainspring.storage.log.groups.errors import (
    FencedMemberEpoch,
    GroupIdNotFound,
    StaleMemberEpoch,
    UnknownMemberId,
    UnreleasedInstanceId,
)
from mainspring.storage.log.groups.messages import (
    Client,
    ConsumerBeat,
    ConsumerHeartbeat,
    OffsetCommit,
    OffsetFetch,
    Partitions,
    TopicPartition,
)

if TYPE_CHECKING:
    from mainspring.storage.log.groups.service import Groups, PartitionsCallback

log = logging.getLogger(__name__)
COMMIT_TRIES_MAX = 5


async def _nothing(partitions: Sequence[TopicPartition]) -> None:
    pass


class Member:
    """Made by `Groups.member`; joins at `start`. `epoch` 0: not a member now."""

    def __init__(
        self,
        groups: Groups,
        group: str,
        topics: Sequence[str],
        *,
        regex: str | None,
        instance: str | None,
        client_id: str,
        rebalance_timeout_ms: int,
        on_assigned: PartitionsCallback | None,
        on_revoked: PartitionsCallback | None,
        on_lost: PartitionsCallback | None,
    ) -> None:
        self.group = group
        self.member_id = groups.random_id()
        self.instance = instance
        self.epoch = 0
        self.assignment: frozenset[TopicPartition] = frozenset()
        self._target: frozenset[TopicPartition] = frozenset()
        self._groups = groups
        self._topics = tuple(topics)
        self._regex = regex
        self._client = Client(client_id, "in process")
        self._rebalance_timeout_ms = rebalance_timeout_ms
        self._on_assigned = on_assigned or _nothing
        self._on_revoked = on_revoked or _nothing
        self._on_lost = on_lost or on_revoked or _nothing
        self._interval_s = groups.settings.consumer_heartbeat_interval_ms / 1000
        self._wake = asyncio.Event()
        self._changed: asyncio.Future[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    async def start(self) -> None:
        """Joins; returns when what it got first, perhaps nothing, has been handed over. Raises `CoordinatorError`."""
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"member of {self.group}")
        self._groups.joined(self)
        await asyncio.shield(self._first)

    async def changed(self) -> None:
        """Returns when the assignment has become another one, or the member is closed."""
        if self._closed:
            return
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Makes the next offsets to read durable. Raises `GroupError` where this is no longer a member."""
        for attempt in range(COMMIT_TRIES_MAX):
            epoch = self.epoch
            try:
                await self._groups.ask(
                    OffsetCommit(
                        group=self.group,
                        member_id=self.member_id,
                        generation=epoch,
                        offsets=self._groups.offsets_now(offsets),
                    )
                )
                return
            except StaleMemberEpoch:
                # The epoch moved on while the request was on its way; where a fence took it, it is 0 or unknown.
                if attempt + 1 == COMMIT_TRIES_MAX or self.epoch <= 0:
                    raise
                await asyncio.sleep(0)

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The next offset to read of each, None where none was committed."""
        found = await self._groups.ask(OffsetFetch(group=self.group, partitions=tuple(partitions)))
        return {one: None if offset is None else offset.offset for one, (offset, _) in found.items()}

    async def close(self) -> None:
        """Hands over what it owns (`on_revoked`), then leaves."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            if self.assignment:
                await self._on_revoked(sorted(self.assignment))
        finally:
            self._set(frozenset())
            self._groups.left(self)
            if self.epoch > 0:
                self.epoch = 0
                await self._leave()

    async def _leave(self) -> None:
        try:
            await self._groups.ask(
                ConsumerHeartbeat(
                    group=self.group, member_id=self.member_id, member_epoch=LEAVES, instance=self.instance
                )
            )
        except CoordinatorError:
            log.debug("%s had already lost its place in %s", self.member_id, self.group)

    async def _run(self) -> None:
        backoff = Backoff(0.05, 5.0)
        end = self._groups.watch(self.group, self._look)
        try:
            while True:
                try:
                    await self._step()
                    backoff.reset()
                except (FencedMemberEpoch, UnknownMemberId, GroupIdNotFound):
                    await self._lose()
                    await self._groups.clock.sleep(backoff.next_s())
                except (CoordinatorLoading, CoordinatorNotAvailable, UnreleasedInstanceId):
                    await self._groups.clock.sleep(backoff.next_s())
        except CoordinatorError as error:
            self._give_up(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("a callback of a member of %s failed", self.group)
            self._give_up(error)
        finally:
            end()

    async def _step(self) -> None:
        """One heartbeat, and what it asks for."""
        await self._beat()
        target = self._target
        revoked, assigned = self.assignment - target, target - self.assignment
        if revoked:
            await self._while_beating(self._on_revoked(sorted(revoked)))
            self._set(self.assignment & target)
            return  # the next heartbeat says that they are free
        if assigned:
            await self._while_beating(self._on_assigned(sorted(assigned)))
            self._set(target)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        if not assigned:
            await self._pause()

    async def _beat(self) -> None:
        joins = self.epoch == 0
        beat: ConsumerBeat = await self._groups.ask(
            ConsumerHeartbeat(
                group=self.group,
                member_id=self.member_id,
                member_epoch=self.epoch,
                instance=self.instance,
                client=self._client,
                rebalance_timeout_ms=self._rebalance_timeout_ms,
                topics=self._topics if joins else None,
                regex=self._regex if joins else None,
                owned={} if joins else self._ids(self.assignment),
            )
        )
        self.epoch = beat.member_epoch
        self._interval_s = beat.heartbeat_interval_ms / 1000
        if beat.assigned is not None:
            self._target = self._named(beat.assigned)

    async def _while_beating(self, callback: Awaitable[None]) -> None:
        running = asyncio.ensure_future(callback)
        try:
            while not running.done():
                pause = asyncio.ensure_future(self._groups.clock.sleep(self._interval_s))
                await asyncio.wait((running, pause), return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
                if not running.done():
                    await self._beat()
            await running
        finally:
            running.cancel()

    async def _pause(self) -> None:
        """Until the next heartbeat is due or the group has a step for this member."""
        pause = asyncio.ensure_future(self._groups.clock.sleep(self._interval_s))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            self._look()
            await asyncio.wait((pause, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            wake.cancel()
            self._wake.clear()

    async def _lose(self) -> None:
        lost, self.epoch, self._target = self.assignment, 0, frozenset()
        self._set(frozenset())
        if lost:
            await self._on_lost(sorted(lost))

    def _give_up(self, error: Exception) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        self._closed = True
        self._set(frozenset())
        self._groups.left(self)

    def _look(self) -> None:
        group = self._groups.find(self.group)
        if not isinstance(group, ConsumerGroup):
            return
        member = group.members.get(self.member_id)
        if member is None or group.has_step(member):
            self._wake.set()

    def _set(self, assignment: frozenset[TopicPartition]) -> None:
        if assignment == self.assignment and not self._closed:
            return
        self.assignment = assignment
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _named(self, partitions: Partitions) -> frozenset[TopicPartition]:
        names = {topic.id: name for name, topic in self._groups.engine.topics.items()}
        return frozenset((names[id], number) for id, numbers in partitions.items() if id in names for number in numbers)

    def _ids(self, assignment: frozenset[TopicPartition]) -> Partitions:
        found: dict[str, set[int]] = {}
        for topic, number in assignment:
            found.setdefault(topic, set()).add(number)
        topics = self._groups.engine.topics
        return {topics[name].id: frozenset(numbers) for name, numbers in found.items() if name in topics}
