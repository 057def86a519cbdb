"""A member of a share group in this process: a queue over topics, where each record is one member's until it says what became
of it.

Unlike the partitions of a consumer group, records are shared out one by one (KIP-932): a record that is accepted or rejected is
done with, one that is released, or whose lock ends, is given out again, so often as the group allows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mainspring.core.ports import Record
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.errors import InvalidRecordState
from mainspring.storage.log.groups.messages import Client, ShareHeartbeat
from mainspring.storage.log.groups.share_partition import Acknowledge
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.reader import READ_BYTES, as_record
from mainspring.storage.log.records import batches_in, records_in

if TYPE_CHECKING:
    from uuid import UUID

    from mainspring.storage.log.service import Log

WAIT_MS = 1_000
LEAVES, JOINS = -1, 0
IN_PROCESS = "in process"


class Shared(msgspec.Struct, frozen=True):
    """A record that is this member's for now; it has been given out `deliveries` times, this one included."""

    record: Record
    deliveries: int


class ShareConsumer:
    """An iterator over batches. What is said of no record of a batch before the next is asked for is released.

    `accept` and `reject` are durable when they return. They raise `LogError` where the record is no longer this member's.
    """

    def __init__(self, log: Log, group: str, topics: Sequence[str], records_max: int) -> None:
        self.group, self.topics = group, tuple(topics)
        self._log, self._records_max = log, records_max
        self._member = log.groups.random_id()
        self._epoch = JOINS
        self._beating: asyncio.Task[None] | None = None
        self._held: dict[tuple[str, int, int], tuple[UUID, int]] = {}
        self._ended = asyncio.Event()

    def __aiter__(self) -> ShareConsumer:
        return self

    async def __anext__(self) -> list[Shared]:
        await self._release()
        if self._beating is None and not self._ended.is_set():
            for topic in self.topics:
                await self._log.topic(topic)
            await self._beat()
            self._beating = asyncio.create_task(self._keep_beating(), name=f"member of {self.group}")
        while not self._ended.is_set():
            batch = await self._take()
            if batch:
                return batch
        raise StopAsyncIteration

    async def accept(self, *shared: Shared) -> None:
        """These are done with."""
        await self._say(Acknowledge.ACCEPT, shared)

    async def release(self, *shared: Shared) -> None:
        """Others may try these."""
        await self._say(Acknowledge.RELEASE, shared)

    async def reject(self, *shared: Shared) -> None:
        """Nobody shall try these again."""
        await self._say(Acknowledge.REJECT, shared)

    async def renew(self, *shared: Shared) -> None:
        """These take longer: their locks begin anew."""
        await self._say(Acknowledge.RENEW, shared)

    async def close(self) -> None:
        """Gives back all that is held, and leaves."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._epoch = LEAVES
            await self._log.groups.shares.leave(self.group, self._member)
            await self._beat()
        self._held.clear()
        self._log.forget(self)

    async def _take(self) -> list[Shared]:
        topics = self._log.engine.topics
        partitions: dict[tuple[UUID, int], Partition] = {
            (topics[name].id, partition.index): partition
            for name in self.topics
            if name in topics
            for partition in topics[name].partitions
        }
        found: list[Shared] = []
        given = await self._log.groups.shares.fetch(
            self.group,
            self._member,
            list(partitions),
            records_max=self._records_max,
            bytes_max=READ_BYTES,
            wait_ms=WAIT_MS,
            strictly=True,
            begins="earliest",
        )
        for one in given:
            deliveries = {offset: run.deliveries for run in one.acquired for offset in range(run.first, run.last + 1)}
            unseen = dict.fromkeys(deliveries)
            data = memoryview(one.records)
            for at, batch in batches_in(data):
                if batch.control:
                    continue
                for read in records_in(data[at : at + batch.size_bytes]):
                    if read.offset in deliveries:
                        record = as_record(partitions[one.slot], read)
                        self._held[record.topic, record.partition, record.offset] = one.slot
                        found.append(Shared(record, deliveries[read.offset]))
                        del unseen[read.offset]
            # Markers, and what has been compacted away: nobody need look again.
            gaps = [(offset, offset, [int(Acknowledge.GAP)]) for offset in unseen]
            if gaps:
                await self._log.groups.shares.acknowledge(self.group, self._member, one.slot, gaps)
        return found

    async def _say(self, kind: Acknowledge, shared: Sequence[Shared]) -> None:
        by_slot: dict[tuple[UUID, int], list[tuple[int, int, list[int]]]] = {}
        for one in shared:
            where = (one.record.topic, one.record.partition, one.record.offset)
            slot = self._held[where] if kind is Acknowledge.RENEW else self._held.pop(where)
            by_slot.setdefault(slot, []).append((one.record.offset, one.record.offset, [int(kind)]))
        for slot, runs in by_slot.items():
            await self._log.groups.shares.acknowledge(self.group, self._member, slot, sorted(runs))

    async def _release(self) -> None:
        held, self._held = self._held, {}
        for (_, _, offset), slot in held.items():
            # Where the lock has ended meanwhile, the record is another's already.
            with contextlib.suppress(InvalidRecordState):
                run = (offset, offset, [int(Acknowledge.RELEASE)])
                await self._log.groups.shares.acknowledge(self.group, self._member, slot, [run])

    async def _beat(self) -> None:
        answer = await self._log.groups.ask(
            ShareHeartbeat(
                group=self.group,
                member_id=self._member,
                member_epoch=self._epoch,
                client=Client("python", IN_PROCESS),
                topics=self.topics,
            )
        )
        if self._epoch >= JOINS:
            self._epoch = answer.member_epoch

    async def _keep_beating(self) -> None:
        while True:
            await self._log.clock.sleep(self._log.groups.settings_of(self.group).share_heartbeat_interval_ms / 1000)
            try:
                await self._beat()
            except LogError:
                # It was silent for too long: what it held is others' by now, and it joins anew with the next beat.
                self._epoch = JOINS
