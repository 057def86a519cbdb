"""The transaction coordinator: all or nothing across partitions and consumer offsets, and never for ever.

    transactions = Transactions(engine, groups, clock, settings, random)
    await transactions.start()                                   # and stop()

    async with transactions.transaction("copier") as t:          # fences every other holder of the id
        position = await t.append("out", 0, [(key, value, headers, timestamp_ms)])      # gives the first offset; -1 ms: now
        await t.commit_offsets(member, {("in", 0): 43})          # `member` of groups.member(...), or a group's name
        await t.abort()                                          # optional: the block, which would commit, then does nothing

    producer = await transactions.producer("copier")             # the same without a new fence at each transaction
    async with producer.transaction() as t: ...

The driver of `transaction_machine`: each of its transitions is in `__transaction_state` before it is answered. An end is
decided by the record of PREPARE; a task then writes the markers, tries again where a partition's disk fails, and writes
COMPLETE. What a crash leaves open is ended at the next start: prepared transactions by their record, ongoing ones at their
timeout, and records that no transaction knows (their partition's record was lost with the crash) at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import msgspec

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.timer_wheel import Timer, Timers
from mainspring.storage.log.coordinator_errors import CoordinatorLoading, CoordinatorNotAvailable
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.turn import Turn
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE, InternalTopic
from mainspring.storage.log.model import Appending
from mainspring.storage.log.record_schemas import TRANSACTION_RECORDS
from mainspring.storage.log.transaction_errors import ConcurrentTransactions, InvalidTxnState
from mainspring.storage.log.transaction_machine import (
    NO_CONNECTION,
    Producer,
    Slot,
    State,
    Transaction,
    connection_number,
)
from mainspring.storage.log.transaction_machine import Transactions as Machine
from mainspring.storage.log.transaction_markers import Markers
from mainspring.storage.log.transaction_producer import OpenTransaction, TransactionalProducer

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine
    from mainspring.storage.log.groups.service import Groups

log = logging.getLogger(__name__)


class TransactionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka's broker property names, with the unit at the end. `settle_wait_ms`: how long a request waits while the transaction
    before it is being ended."""

    transaction_timeout_ms_max: int = 900_000
    transactional_id_expiration_ms: int = 604_800_000
    transactional_ids_max: int = 100_000
    expiration_check_interval_ms: int = 3_600_000
    settle_wait_ms: int = 5_000
    internal_partitions: int = 50


class Transactions:
    """All transactions of a node, between `start` and `stop`. Errors are `LogError`s with their Kafka code."""

    def __init__(
        self,
        engine: "Engine",
        groups: "Groups",
        clock: Clock,
        settings: TransactionSettings | None = None,
        random: Random | None = None,
    ) -> None:
        self.settings = settings or TransactionSettings()
        self.engine = engine
        self.groups = groups
        self.clock = clock
        self._random = random or SystemRandom()
        self._topic = InternalTopic(engine, TRANSACTION_STATE, TRANSACTION_RECORDS, self.settings.internal_partitions)
        self._machine = Machine(
            self._new_id,
            self.settings.transaction_timeout_ms_max,
            self.settings.transactional_id_expiration_ms,
            self.settings.transactional_ids_max,
        )
        self.committed = self.aborted = self.timed_out = 0
        self._markers = Markers(engine, groups, clock)
        self._timers = Timers(clock)
        self._wakes: dict[str, Timer] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads what there is and ends what a crash has left."""
        await self._timers.start()
        self._timers.call_after(self.settings.expiration_check_interval_ms, self._sweep)
        if self._topic.exists():
            await self.opened()

    async def stop(self) -> None:
        """Leaves open what is open: the next start goes on with it."""
        await self._timers.stop()
        tasks = [
            *self._following,
            *self._ending.values(),
            *self._loading.values(),
            *([self._opening] if self._opening else []),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # In this process

    def transaction(self, transactional_id: str, *, timeout_ms: int = 60_000) -> OpenTransaction:
        """One transaction as a fresh producer of the id: whoever held the id before is fenced."""
        return OpenTransaction(self, transactional_id, timeout_ms, None)

    async def producer(self, transactional_id: str, *, timeout_ms: int = 60_000) -> TransactionalProducer:
        """A producer of the id for many transactions, one after the other. Raises `CoordinatorError`."""
        connection = connection_number()
        made = await self.init(transactional_id, timeout_ms, connection=connection)
        return TransactionalProducer(self, transactional_id, timeout_ms, made, connection)

    # Requests

    async def init(
        self, id: str | None, timeout_ms: int, expected: Producer | None = None, connection: int = NO_CONNECTION
    ) -> Producer:
        """InitProducerId: a new producer where `id` is None, else the id's, with whatever was open before aborted.

        Raises `InvalidRequest`, `InvalidTransactionTimeout`, `ProducerFenced` or `ConcurrentTransactions`.
        """
        if id is None:
            return Producer(self._new_id(), 0)
        index = await self._ready(id)
        await self._settled(id)
        turn = self._turn()
        made = self._machine.init(id, timeout_ms, expected, connection, turn)
        await self._conclude(index, turn, id)
        if made is not None:
            return made
        await self._settled(id)
        turn = self._turn()
        made = self._machine.init(id, timeout_ms, expected, connection, turn)
        if made is None:
            raise ConcurrentTransactions
        await self._conclude(index, turn, id)
        return made

    async def add(
        self, id: str, producer: Producer, slots: Iterable[Slot], connection: int = NO_CONNECTION, version: int = 0
    ) -> None:
        """AddPartitionsToTxn. Raises `InvalidProducerIdMapping`, `ProducerFenced` or `ConcurrentTransactions`."""
        index = await self._ready(id)
        await self._settled(id)
        turn = self._turn()
        self._machine.add(id, producer, slots, connection, version, turn)
        await self._conclude(index, turn, id)

    async def holds(self, id: str, producer: Producer, slots: Iterable[Slot]) -> list[bool]:
        """Whether each of the partitions is in the producer's open transaction."""
        await self._ready(id)
        return self._machine.holds(id, producer, slots)

    def admit(
        self, transactional_id: str, producer_id: int, epoch: int, topic: str, partition: int, *, implicit: bool
    ) -> Awaitable[None] | None:
        """Whether a transactional batch may be appended now. Never waits: what is returned must be awaited before the answer.

        `implicit` takes the partition into the transaction; without, it must be there (the older flow has said so before).
        """
        if self._opening is None or not self._opening.done():
            raise CoordinatorLoading
        index = self._topic.index(transactional_id)
        if index in self._loading:
            raise CoordinatorLoading
        producer, slot = Producer(producer_id, epoch), (topic, partition)
        if not implicit:
            if not self._machine.holds(transactional_id, producer, (slot,))[0]:
                raise InvalidTxnState(f"{topic}-{partition} is not in the transaction")
            return None
        turn = self._turn()
        self._machine.add(transactional_id, producer, (slot,), NO_CONNECTION, 2, turn)
        if not turn.records:
            return None
        return self._written(index, turn, transactional_id)

    def admit_offsets(
        self,
        transactional_id: str,
        producer: Producer,
        group: str,
        *,
        implicit: bool,
        connection: int = NO_CONNECTION,
    ) -> Awaitable[None] | None:
        """The same for positions of a group, before they are committed as part of the transaction."""
        if self._opening is None or not self._opening.done():
            raise CoordinatorLoading
        self._machine.take_offsets(transactional_id, producer, connection)
        index = self.groups.topic.index(group)
        return self.admit(transactional_id, producer.id, producer.epoch, CONSUMER_OFFSETS, index, implicit=implicit)

    async def end(
        self, id: str, producer: Producer, *, commit: bool, version: int = 0, connection: int = NO_CONNECTION
    ) -> Producer:
        """EndTxn: decides, durably; gives the producer of the next transaction.

        Waits a bounded time for the markers, so that most callers read what they committed. Raises `InvalidTxnState`,
        `InvalidProducerIdMapping`, `ProducerFenced` or `ConcurrentTransactions`.
        """
        index = await self._ready(id)
        turn = self._turn()
        after = self._machine.end(id, producer, commit, version, connection, turn)
        await self._conclude(index, turn, id)
        await self._settled(id)
        return after

    async def abort(self, id: str) -> None:
        """An operator's: aborts what is open and fences its producer. Raises `TransactionalIdNotFound` or `InvalidTxnState`."""
        index = await self._ready(id)
        turn = self._turn()
        self._machine.abort(id, turn)
        await self._conclude(index, turn, id)
        await self._settled(id)

    @property
    def known(self) -> dict[str, Transaction]:
        """Every transactional id, for reading, as far as the topic has been read: none before it is opened."""
        return self._machine.by_id

    async def opened(self) -> dict[str, Transaction]:
        """Every transactional id, for reading, once the topic is there and has been read."""
        if self._opening is not None and self._opening.done() and self._opening.exception() is not None:
            self._opening = None
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="transactions")
        await asyncio.shield(self._opening)
        return self._machine.by_id

    async def write_markers(
        self, producer: Producer, slots: Iterable[Slot], *, commit: bool, coordinator_epoch: int, raised: bool
    ) -> dict[Slot, int]:
        """WriteTxnMarkers, the tool for what hangs: the Kafka code of each partition."""
        codes: dict[Slot, int] = {}
        for slot in slots:
            try:
                await self._markers.write(
                    producer, slot, commit=commit, coordinator_epoch=coordinator_epoch, raised=raised
                )
                codes[slot] = 0
            except LogError as error:
                codes[slot] = error.kafka_code
        return codes

    # Turns

    def _turn(self) -> Turn:
        return Turn(self._timers.now_ms(), self.clock.wall_ns() // 1_000_000)

    def _new_id(self) -> int:
        return self._random.getrandbits(62)

    async def _ready(self, id: str) -> int:
        if self._opening is None or not self._opening.done():
            await self.opened()
        index = self._topic.index(id)
        if index in self._loading:
            raise CoordinatorLoading
        return index

    def _written(self, index: int, turn: Turn, id: str) -> Awaitable[None]:
        """Appends the turn's records now; what is returned waits until they are durable."""
        for name, at_ms in turn.wakes.items():
            self._wake_at(name, at_ms)
        try:
            appending = self._topic.write(index, turn.records, turn.wall_ms)
        except LogError as error:
            self._lost(index)
            raise CoordinatorNotAvailable from error
        return self._durable(index, appending, id)

    async def _durable(self, index: int, appending: Appending, id: str) -> None:
        try:
            await appending.durable()
        except LogError as error:
            self._lost(index)
            raise CoordinatorNotAvailable from error

    async def _conclude(self, index: int, turn: Turn, id: str) -> None:
        """Makes a turn durable; ends what it has prepared."""
        if not turn.records:
            return
        written = asyncio.ensure_future(self._written(index, turn, id))
        # A caller that goes away must not leave a decided transaction without its end.
        task = asyncio.create_task(self._follow_up(written, id), name=f"writing {id}")
        self._following.add(task)
        task.add_done_callback(self._followed)
        await asyncio.shield(task)

    def _followed(self, task: "asyncio.Task[None]") -> None:
        self._following.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, where there still is one

    async def _follow_up(self, written: Awaitable[None], id: str) -> None:
        await written
        found = self._machine.by_id.get(id)
        if found is not None and found.state.prepared and id not in self._ending:
            self._begin_ending(id)

    def _begin_ending(self, id: str) -> None:
        self._ending[id] = asyncio.create_task(self._end(id), name=f"ending {id}")

    async def _settled(self, id: str) -> None:
        """Waits a bounded time while the transaction before is being ended."""
        ending = self._ending.get(id)
        if ending is None:
            return
        limit = asyncio.ensure_future(self.clock.sleep(self.settings.settle_wait_ms / 1000))
        try:
            await asyncio.wait((ending, limit), return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()

    def _wake_at(self, id: str, at_ms: int) -> None:
        timer = self._wakes.get(id)
        if timer is not None:
            timer.cancel()
        self._wakes[id] = self._timers.call_at(at_ms, partial(self._expire, id))

    def _expire(self, id: str) -> None:
        self._wakes.pop(id, None)
        index = self._topic.index(id)
        if index in self._loading:
            return
        turn = self._turn()
        self._machine.expire(id, turn)
        for name, at_ms in turn.wakes.items():
            self._wake_at(name, at_ms)
        if turn.records:
            log.info("the transaction of %s has run out of its time", id)
            self.timed_out += 1
            self._ending[id] = asyncio.create_task(self._expired(index, turn, id), name=f"expiring {id}")

    async def _expired(self, index: int, turn: Turn, id: str) -> None:
        try:
            await self._written(index, turn, id)
        except CoordinatorNotAvailable:
            self._ending.pop(id, None)  # read anew, it is ongoing with its time over
            return
        await self._end(id)

    def _sweep(self) -> None:
        self._timers.call_after(self.settings.expiration_check_interval_ms, self._sweep)
        turn = self._turn()
        self._machine.sweep(turn)
        for record in turn.records:
            index = self._topic.index(record.key[0])
            try:
                self._topic.write(index, (record,), turn.wall_ms)
            except LogError:
                self._lost(index)

    # Endings

    async def _end(self, id: str) -> None:
        """Markers to every partition, then COMPLETE; tries until it is done."""
        backoff = Backoff(0.02, 5.0, self._random)
        try:
            crash_point("log.transaction.prepared")
            found = self._machine.by_id[id]
            producer, commit = Producer(found.producer_id, found.epoch), found.state is State.PREPARE_COMMIT
            left = set(found.slots)
            while left:
                left = await self._markers.write_all(producer, left, commit=commit, raised=found.raised)
                if left:
                    await self.clock.sleep(backoff.next_s())
            crash_point("log.transaction.marked")
            turn = self._turn()
            self._machine.complete(id, turn)
            try:
                await self._written(self._topic.index(id), turn, id)
            except CoordinatorNotAvailable:
                return  # read anew, it is prepared, and is ended then
            self._machine.completed(id)
            self.committed += commit
            self.aborted += not commit
            crash_point("log.transaction.completed")
        finally:
            if self._ending.get(id) is asyncio.current_task():
                del self._ending[id]

    # Loading

    async def _open(self) -> None:
        await self.groups.opened()
        await self._topic.open()
        for index in range(self._topic.partitions):
            await self._load(index)
        await self._markers.end_unknown(self._machine.by_id.values())

    async def _load(self, index: int) -> None:
        turn = self._turn()
        await self._topic.replay(index, lambda record, producer_id: self._machine.replay(record, turn))
        for id, found in self._machine.by_id.items():
            if self._topic.index(id) != index:
                continue
            if found.state.prepared and id not in self._ending:
                self._begin_ending(id)
            elif found.state is State.ONGOING:
                self._wake_at(id, found.deadline_ms)

    def _lost(self, index: int) -> None:
        log.error("%s-%d does not take a record", TRANSACTION_STATE, index)
        if index not in self._loading:
            self._loading[index] = asyncio.create_task(self._reload(index), name=f"{TRANSACTION_STATE}-{index}")

    async def _reload(self, index: int) -> None:
        backoff = Backoff(0.05, 5.0, self._random)
        try:
            while True:
                for id in [one for one in self._machine.by_id if self._topic.index(one) == index]:
                    del self._machine.by_id[id]
                try:
                    await self._load(index)
                    await self._markers.end_unknown(self._machine.by_id.values())
                    return
                except LogError:
                    log.exception("%s-%d cannot be read", TRANSACTION_STATE, index)
                    await self.clock.sleep(backoff.next_s())
        finally:
            self._loading.pop(index, None)
