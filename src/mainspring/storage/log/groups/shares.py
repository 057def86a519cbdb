"""Share groups bound to the engine: records are read from the partitions, states kept in `__share_group_state`.

What a member says of a record is durable before it is answered. A state is written as what has changed since, and every so
often whole (Kafka's ShareUpdate and ShareSnapshot); what lies before the last whole one of every state is deleted from the log.
"""

import asyncio
import base64
import logging
from collections.abc import Coroutine, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from mainspring.storage.log.errors import UnknownPartition
from mainspring.storage.log.groups.configs import BY_DURATION, duration_ms
from mainspring.storage.log.groups.dead_letters import bury
from mainspring.storage.log.groups.errors import (
    GroupMaxSizeReached,
    NonEmptyGroup,
)
from mainspring.storage.log.groups.offered import offered
from mainspring.storage.log.groups.share_partition import Acquired, SharePartition
from mainspring.storage.log.groups.share_sessions import Session, Sessions, Slot
from mainspring.storage.log.internal_topics import SHARE_GROUP_STATE, InternalTopic
from mainspring.storage.log.record_schemas import SHARE_RECORDS, SHARE_SNAPSHOT, SHARE_UPDATE, Record

if TYPE_CHECKING:
    from mainspring.storage.log.groups.service import Groups
    from mainspring.storage.log.partition import Partition

log = logging.getLogger(__name__)
PRUNE_RECORDS = 1_000

Key = tuple[str, UUID, int]


class Given(NamedTuple):
    """What a member got of one partition: whole batches, and which records in them are its own."""

    slot: Slot
    records: bytes
    acquired: list[Acquired]


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
        self._sessions = Sessions(self._settings.share_sessions_max, self._settings.share_session_partitions_max)
        self._released = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._stopped = False
        self._in_flight = 0
        self._aside: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        self._stopped = True
        tasks = [*self._aside, *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def in_flight(self) -> int:
        """Records between the first that is not done with and the last that was given out."""
        return self._in_flight

    # Sessions

    def session(
        self,
        group: str,
        member: str,
        epoch: int,
        slots: Iterable[Slot] = (),
        forgotten: Iterable[Slot] = (),
        connection: int = -1,
    ) -> Session:
        """The member's session at this epoch, with what it reads now. Raises where it is at another, or not there."""
        return self._sessions.advance((group, member), epoch, slots, forgotten, connection)

    async def leave(self, group: str, member: str) -> None:
        """Gives back all that the member holds."""
        self._sessions.drop((group, member))
        for key, share in list(self._kept.items()):
            if key[0] == group:
                share.release(member)
                await self._write(key, share)

    def abandon(self, group: str, member: str, session: Session | None = None) -> None:
        """A member has gone without a word, or the connection of its `session`: what it holds is given back."""
        another = session is not None and self._sessions.get((group, member)) is not session
        if self._stopped or another:
            return
        if self._sessions.get((group, member)) is not None or any(key[0] == group for key in self._kept):
            self._do_aside(self.leave(group, member), f"leaving {group}")

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
        begins: str | None = None,
    ) -> list[Given]:
        """Records that are the member's from now on; waits up to `wait_ms` for the first.

        `begins`: where the group does in a partition that it has not read, unless it has a setting of its own that says so
        (`share.auto.offset.reset`); None: as the node is set.
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
                        await self._begin((group, *slot), begins)
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
        share = self._kept.setdefault((group, *slot), self._fresh(group, start))
        share.reset(start)
        await self._write((group, *slot), share, whole=True)

    async def forget(self, group: str, topic: UUID | None = None) -> bool:
        """Drops the states of a group, or those of one topic; gives whether there were any."""
        await self.opened()
        self._check_empty(group)
        gone = [key for key in self._kept if key[0] == group and topic in (None, key[1])]
        for key in gone:
            self._in_flight -= self._kept.pop(key).counted
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

    def _fresh(self, group: str, start: int) -> SharePartition:
        settings = self._groups.settings_of(group)
        return SharePartition(
            start,
            lock_ms=settings.share_record_lock_ms,
            deliveries_max=settings.share_deliveries_max,
            in_flight_max=settings.share_in_flight_max,
        )

    async def _begin(self, key: Key, begins: str | None) -> None:
        if key in self._kept:
            return
        partition = self._partition(key[1:])
        if begins is None or "share.auto.offset.reset" in self._groups.configured.get(key[0], ()):
            begins = self._groups.settings_of(key[0]).share_auto_offset_reset
        start = partition.log_start if begins == "earliest" else partition.high_watermark
        if begins.startswith(BY_DURATION):
            found = await partition.find(self._groups.clock.wall_ns() // 1_000_000 - duration_ms(begins))
            start = start if found is None else found[0]
            if key in self._kept:
                return
        if len(self._kept) >= self._settings.share_partitions_max:
            raise GroupMaxSizeReached(f"Share groups read {self._settings.share_partitions_max:,} partitions here")
        share = self._kept[key] = self._fresh(key[0], start)
        await self._write(key, share, whole=True)

    async def _take(self, key: Key, member: str, records_max: int, bytes_max: int, *, strictly: bool) -> Given | None:
        """Reads on where all that was read may not be given out: held back, or aborted."""
        share = self._kept[key]
        partition = self._partition(key[1:])
        while True:
            end = share.end
            at = max(share.next_offset(self._now_ms()) or 0, partition.log_start)
            if at < partition.high_watermark:
                await partition.warm(at, bytes_max)
            given = await self._take_next(key, share, member, records_max, bytes_max, strictly=strictly)
            if given is not None or share.end == end:
                return given

    async def _take_next(
        self, key: Key, share: SharePartition, member: str, records_max: int, bytes_max: int, *, strictly: bool
    ) -> Given | None:
        partition = self._partition(key[1:])
        share.expire(self._now_ms())
        share.truncate(partition.log_start)
        settings = self._groups.settings_of(key[0])
        share.lock_ms = settings.share_record_lock_ms
        crowded = self._in_flight >= settings.share_in_flight_all_max
        share.in_flight_max = share.end - share.start if crowded else settings.share_in_flight_max
        committed = settings.share_isolation_level == "read_committed"
        now_ms = self._now_ms()
        at = share.next_offset(now_ms)
        if at is None or at >= (partition.last_stable if committed else partition.high_watermark):
            await self._write(key, share)
            return None
        fetched = partition.read(at, bytes_max, committed=committed)
        data = b"".join(fetched.buffers)
        wall_ms = self._groups.clock.wall_ns() // 1_000_000
        found = offered(data, fetched.aborted, wall_ms, settings.share_delay_ms_max)
        if found and found[0].first > at:
            share.skip(at, found[0].first - 1)
        acquired: list[Acquired] = []
        left = records_max
        for is_aborted, batches in groupby(found, key=lambda one: one.aborted):
            if left <= 0:
                break
            ranges, due_ms = [], dict[int, int]()
            for batch in batches:
                ranges.append((batch.first, batch.last))
                due_ms.update((offset, now_ms + due - wall_ms) for offset, due in batch.delays.items())
            if is_aborted:
                share.pass_over(ranges)
                continue
            runs = share.acquire(member, ranges, left, now_ms, strictly=strictly, due_ms=due_ms)
            left -= sum(run.last - run.first + 1 for run in runs)
            acquired += runs
        await self._write(key, share)
        if not acquired:
            return None
        begin = min(batch.begins for batch in found if batch.last >= acquired[0].first)
        end = max(batch.ends for batch in found if batch.first <= acquired[-1].last)
        return Given(key[1:], data[begin:end], acquired)

    async def _wait(self, wake: asyncio.Event, group: str, slots: Sequence[Slot], until_ms: int) -> None:
        """Until there are new records, some have come back, a lock ends, or the time is over."""
        locks = [
            share.next_ms(self._now_ms()) for slot in slots if (share := self._kept.get((group, *slot))) is not None
        ]
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
        self._in_flight += len(share.records) - share.counted
        share.counted = len(share.records)
        if share.worn:
            worn, share.worn = share.worn, []
            if self._settings.share_dead_letters and self._exists(key[1:]):
                await bury(self._groups.engine, self._partition(key[1:]), worn, key[0])
        changed = share.changes()
        if changed is None and not whole:
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
            "batches": changed or [],
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
            self._do_aside(partition.delete_records(before), "pruning share states")

    def _do_aside(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._aside.add(task)
        task.add_done_callback(self._done_aside)

    def _done_aside(self, task: asyncio.Task[Any]) -> None:
        self._aside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s failed: %s", task.get_name(), error)

    async def _open(self) -> None:
        await self._groups.opened()
        await self._topic.open("delete")
        for index in range(self._topic.partitions):
            await self._topic.replay(index, lambda record, _: self._replay(record))

    def _replay(self, record: Record) -> None:
        schema, key, value = record
        if value is None:
            gone = self._kept.pop(key, None)
            self._in_flight -= gone.counted if gone is not None else 0
            return
        name, topic, number = key
        share = self._kept.setdefault((name, topic, number), self._fresh(name, value["start_offset"]))
        share.restore(value["start_offset"], value["batches"], whole=schema is SHARE_SNAPSHOT)
        share.snapshot_epoch = value["snapshot_epoch"]
        self._in_flight += len(share.records) - share.counted
        share.counted = len(share.records)
        if schema is SHARE_SNAPSHOT:
            share.state_epoch = value["state_epoch"]
            self._snapshots.setdefault(self._topic.index(_coordinator_key((name, topic, number))), {})[
                name, topic, number
            ] = 0


def _coordinator_key(key: Key) -> str:
    """As Kafka spells it: the group, the topic's id in its base64, the partition."""
    return f"{key[0]}:{base64.urlsafe_b64encode(key[1].bytes).decode().rstrip('=')}:{key[2]}"
