"""Share groups bound to the engine: records are read from the partitions, states kept in `__share_group_state`.

What a member says of a record is durable before it is answered. A state is written as what has changed since, and every so
often whole (Kafka's ShareUpdate and ShareSnapshot); what lies before the last whole one of every state is deleted from the log.
"""

import asyncio
import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from mainspring.storage.log.errors import UnknownPartition
from mainspring.storage.log.groups.dead_letters import bury
from mainspring.storage.log.groups.errors import (
    InvalidShareSessionEpoch,
    NonEmptyGroup,
    ShareSessionLimitReached,
    ShareSessionNotFound,
)
from mainspring.storage.log.groups.share_partition import Acquired, SharePartition
from mainspring.storage.log.internal_topics import SHARE_GROUP_STATE, InternalTopic
from mainspring.storage.log.record_schemas import SHARE_RECORDS, SHARE_SNAPSHOT, SHARE_UPDATE, Record
from mainspring.storage.log.records import batches_in

if TYPE_CHECKING:
    from mainspring.storage.log.groups.service import Groups
    from mainspring.storage.log.partition import Partition

OPENS, CLOSES = 0, -1
PRUNE_RECORDS = 1_000
EPOCH_MAX = 0x7FFFFFFF

Slot = tuple[UUID, int]
Key = tuple[str, UUID, int]


class Given(NamedTuple):
    """What a member got of one partition: whole batches, and which records in them are its own."""

    slot: Slot
    records: bytes
    acquired: list[Acquired]


class Session(msgspec.Struct):
    """What a member reads, so that it need not say so each time."""

    epoch: int = 1
    slots: dict[Slot, None] = {}


class Shares:
    """Made by `Groups.shares`."""

    def __init__(self, groups: "Groups") -> None:
        self._groups = groups
        self._settings = groups.settings
        self._topic = InternalTopic(
            groups.engine, SHARE_GROUP_STATE, SHARE_RECORDS, groups.settings.internal_partitions
        )
        self._kept: dict[Key, SharePartition] = {}
        self._snapshots: dict[int, dict[Key, int]] = {}
        self._sessions: dict[tuple[str, str], Session] = {}
        self._released = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._pruning: set[asyncio.Task[int]] = set()

    async def stop(self) -> None:
        tasks = [*self._pruning, *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def in_flight(self) -> int:
        """Records between the first that is not done with and the last that was given out."""
        return sum(len(share.records) for share in self._kept.values())

    # Sessions

    def session(self, group: str, member: str, epoch: int, slots: Iterable[Slot], forgotten: Iterable[Slot]) -> Session:
        """The member's session at this epoch, with what it reads now. Raises where it is at another, or not there."""
        key = (group, member)
        found = self._sessions.get(key)
        if epoch == OPENS:
            if found is None and len(self._sessions) >= self._settings.share_sessions_max:
                raise ShareSessionLimitReached
            self._sessions[key] = made = Session(slots=dict.fromkeys(slots))
            return made
        if found is None:
            raise ShareSessionNotFound
        if epoch == CLOSES:
            del self._sessions[key]
            return found
        if epoch != found.epoch:
            raise InvalidShareSessionEpoch
        found.epoch = epoch % EPOCH_MAX + 1
        found.slots.update(dict.fromkeys(slots))
        for slot in forgotten:
            found.slots.pop(slot, None)
        return found

    async def leave(self, group: str, member: str) -> None:
        """Gives back all that the member holds."""
        self._sessions.pop((group, member), None)
        for key, share in list(self._kept.items()):
            if key[0] == group:
                share.release(member)
                await self._write(key, share)

    # Records

    async def fetch(
        self,
        group: str,
        member: str,
        slots: Sequence[Slot],
        *,
        records_max: int,
        bytes_max: int,
        wait_ms: int,
        strictly: bool,
        earliest: bool | None = None,
    ) -> list[Given]:
        """Records that are the member's from now on; waits up to `wait_ms` for the first.

        `earliest`: whether the group begins at the log's start where it has not read yet; None: as the node is set.
        """
        await self.opened()
        until_ms = self._now_ms() + wait_ms
        wake = asyncio.Event()
        ends = [self._partition(slot).on_progress(wake.set) for slot in slots if self._exists(slot)]
        try:
            while True:
                given: list[Given] = []
                wake.clear()
                self._released.clear()
                for slot in slots:
                    if self._exists(slot) and records_max > 0 and bytes_max > 0:
                        await self._begin((group, *slot), earliest)
                        one = await self._take((group, *slot), member, records_max, bytes_max, strictly=strictly)
                        if one is not None:
                            given.append(one)
                            records_max -= sum(run.last - run.first + 1 for run in one.acquired)
                            bytes_max -= len(one.records)
                if given or self._now_ms() >= until_ms:
                    return given
                await self._wait(wake, group, slots, until_ms)
        finally:
            for end in ends:
                end()

    async def acknowledge(
        self, group: str, member: str, slot: Slot, batches: Iterable[tuple[int, int, Sequence[int]]]
    ) -> None:
        """What the member says of its records (first, last, kinds), durably. Raises `InvalidRequest`, `InvalidRecordState`."""
        await self.opened()
        share = self._kept.get((group, *slot))
        if share is None or not self._exists(slot):
            raise UnknownPartition(f"{slot[1]} of {slot[0]}")
        share.expire(self._now_ms())
        try:
            for first, last, kinds in batches:
                share.acknowledge(member, first, last, kinds, self._now_ms())
        finally:
            await self._write((group, *slot), share)

    # Administration

    async def offsets(self, group: str) -> dict[Slot, SharePartition]:
        await self.opened()
        return {(topic, number): share for (name, topic, number), share in self._kept.items() if name == group}

    async def alter(self, group: str, slot: Slot, start: int) -> None:
        """Begins anew at `start`. Raises `NonEmptyGroup` while somebody reads."""
        await self.opened()
        self._check_empty(group)
        share = self._kept.setdefault((group, *slot), self._fresh(start))
        share.reset(start)
        await self._write((group, *slot), share, whole=True)

    async def forget(self, group: str, topic: UUID | None = None) -> bool:
        """Drops the states of a group, or those of one topic; gives whether there were any."""
        await self.opened()
        self._check_empty(group)
        gone = [key for key in self._kept if key[0] == group and topic in (None, key[1])]
        for key in gone:
            del self._kept[key]
            for kept in self._snapshots.values():
                kept.pop(key, None)
            records = [Record(schema, key, None) for schema in (SHARE_SNAPSHOT, SHARE_UPDATE)]
            await self._append(key, records)
        return bool(gone)

    async def opened(self) -> None:
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.create_task(self._open(), name="shares")
        await asyncio.shield(self._opening)

    # Inside

    def _check_empty(self, group: str) -> None:
        found = self._groups.find(group)
        if found is not None and not found.empty():
            raise NonEmptyGroup

    def _now_ms(self) -> int:
        return self._groups.clock.mono_ns() // 1_000_000

    def _exists(self, slot: Slot) -> bool:
        topic = self._groups.engine.topic_by_id(slot[0])
        return topic is not None and 0 <= slot[1] < len(topic.partitions)

    def _partition(self, slot: Slot) -> "Partition":
        topic = self._groups.engine.topic_by_id(slot[0])
        if topic is None:
            raise UnknownPartition(f"{slot[1]} of {slot[0]}")
        return topic.partitions[slot[1]]

    def _fresh(self, start: int) -> SharePartition:
        settings = self._settings
        return SharePartition(
            start,
            lock_ms=settings.share_record_lock_ms,
            deliveries_max=settings.share_deliveries_max,
            in_flight_max=settings.share_in_flight_max,
        )

    async def _begin(self, key: Key, earliest: bool | None) -> None:
        if key in self._kept:
            return
        partition = self._partition(key[1:])
        if earliest is None:
            earliest = self._settings.share_auto_offset_reset == "earliest"
        share = self._kept[key] = self._fresh(partition.log_start if earliest else partition.high_watermark)
        await self._write(key, share, whole=True)

    async def _take(self, key: Key, member: str, records_max: int, bytes_max: int, *, strictly: bool) -> Given | None:
        partition = self._partition(key[1:])
        share = self._kept[key]
        share.expire(self._now_ms())
        share.truncate(partition.log_start)
        at = share.next_offset()
        if at is None or at >= partition.high_watermark:
            await self._write(key, share)
            return None
        data = b"".join(partition.read(at, bytes_max).buffers)
        found = list(batches_in(data))
        if found and found[0][1].base_offset > at:
            share.skip(at, found[0][1].base_offset - 1)
        ranges = [(batch.base_offset, batch.last_offset) for _, batch in found]
        acquired = share.acquire(member, ranges, records_max, self._now_ms(), strictly=strictly)
        await self._write(key, share)
        if not acquired:
            return None
        end = max(at + batch.size_bytes for at, batch in found if batch.base_offset <= acquired[-1].last)
        begin = min(at for at, batch in found if batch.last_offset >= acquired[0].first)
        return Given(key[1:], data[begin:end], acquired)

    async def _wait(self, wake: asyncio.Event, group: str, slots: Sequence[Slot], until_ms: int) -> None:
        """Until there are new records, some have come back, a lock ends, or the time is over."""
        locks = [share.next_ms() for slot in slots if (share := self._kept.get((group, *slot))) is not None]
        next_ms = min([until_ms, *(at_ms for at_ms in locks if at_ms is not None)])
        waits = [
            asyncio.ensure_future(wake.wait()),
            asyncio.ensure_future(self._released.wait()),
            asyncio.ensure_future(self._groups.clock.sleep(max(0.001, (next_ms - self._now_ms()) / 1000))),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    # The log

    async def _write(self, key: Key, share: SharePartition, *, whole: bool = False) -> None:
        """Writes down what has changed; returns when it is durable."""
        if share.worn:
            worn, share.worn = share.worn, []
            if self._settings.share_dead_letters and self._exists(key[1:]):
                await bury(self._groups.engine, self._partition(key[1:]), worn, key[0])
        changed = share.changes()
        if not changed and not whole:
            return
        self._released.set()
        if whole or share.updates >= self._settings.share_updates_per_snapshot:
            share.updates = 0
            share.snapshot_epoch += 1
            now_ms = self._groups.clock.wall_ns() // 1_000_000
            fields: dict[str, Any] = {
                "snapshot_epoch": share.snapshot_epoch,
                "state_epoch": share.state_epoch,
                "leader_epoch": 0,
                "start_offset": share.start,
                "created_ms": now_ms,
                "written_ms": now_ms,
                "batches": share.everything(),
            }
            await self._append(key, [Record(SHARE_SNAPSHOT, key, fields)], snapshot=True)
            return
        share.updates += 1
        fields = {
            "snapshot_epoch": share.snapshot_epoch,
            "leader_epoch": 0,
            "start_offset": share.start,
            "batches": changed,
        }
        await self._append(key, [Record(SHARE_UPDATE, key, fields)])

    async def _append(self, key: Key, records: Sequence[Record], *, snapshot: bool = False) -> None:
        index = self._topic.index(_coordinator_key(key))
        appending = self._topic.write(index, records, self._groups.clock.wall_ns() // 1_000_000)
        await appending.durable()
        if snapshot:
            self._snapshots.setdefault(index, {})[key] = appending.base_offset
            self._prune(index)

    def _prune(self, index: int) -> None:
        partition = self._groups.engine.partition(SHARE_GROUP_STATE, index)
        before = min(self._snapshots[index].values())
        if before - partition.log_start >= PRUNE_RECORDS:
            task = asyncio.ensure_future(partition.delete_records(before))
            self._pruning.add(task)
            task.add_done_callback(self._pruning.discard)

    async def _open(self) -> None:
        await self._groups.opened()
        await self._topic.open("delete")
        for index in range(self._topic.partitions):
            await self._topic.replay(index, lambda record, _: self._replay(record))

    def _replay(self, record: Record) -> None:
        schema, key, value = record
        if value is None:
            self._kept.pop(key, None)
            return
        name, topic, number = key
        share = self._kept.setdefault((name, topic, number), self._fresh(value["start_offset"]))
        share.restore(value["start_offset"], value["batches"], whole=schema is SHARE_SNAPSHOT)
        share.snapshot_epoch = value["snapshot_epoch"]
        if schema is SHARE_SNAPSHOT:
            share.state_epoch = value["state_epoch"]
            self._snapshots.setdefault(self._topic.index(_coordinator_key((name, topic, number))), {})[
                name, topic, number
            ] = 0


def _coordinator_key(key: Key) -> str:
    """As Kafka spells it: the group, the topic's id in its base64, the partition."""
    return f"{key[0]}:{base64.urlsafe_b64encode(key[1].bytes).decode().rstrip('=')}:{key[2]}"
