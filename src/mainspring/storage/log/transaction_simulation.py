"""Transactions under everything that can happen to them: `mainspring simulate log-transactions`.

The real engine and the real coordinators run on a torn disk and a virtual clock. Producers of both flows commit and abort
across partitions and consumer offsets, over a network where a request may arrive long after its sender has given up, opened
another connection and gone on; instances of one transactional id fence each other; the broker crashes between any two steps.

Checked at the end, when all timeouts have passed: what was acknowledged as committed is read by readers of committed data,
once; what was aborted is not; a transaction whose fate its producer never heard is whole or absent, offsets included; and no
partition holds an open transaction, so that its last stable offset has moved to its end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from mainspring.storage.log.coordinator_errors import CoordinatorLoading, CoordinatorNotAvailable
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.messages import OffsetCommit
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.records import Control, batches_in, build, marker_in, records_in
from mainspring.storage.log.simulated_broker import PARTITIONS, Lost, SimulatedBroker
from mainspring.storage.log.transaction_errors import ConcurrentTransactions
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer

TIMEOUT_MS = 4_000
BUSY_S = 20.0
QUIET_S = 15.0
CRASHES = 0.004
TRIES_MAX = 12
T = TypeVar("T")


class Attempt(msgspec.Struct):
    """One transaction of one producer. `outcome` None: nobody knows."""

    client: str
    number: int
    values: list[tuple[int, bytes]] = []
    offset: int | None = None
    outcome: bool | None = None


class World(SimulatedBroker):
    """And what its producers have tried."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, GroupSettings(internal_partitions=2))
        self.attempts: list[Attempt] = []


class Client:
    """A producer that does as a client library does: tries again on a new connection, gives up where it is refused."""

    def __init__(self, world: World, name: str, follows: bool) -> None:
        self.world = world
        self.name = name
        self.follows = follows
        self.connection = world.connection()
        self.producer: Producer | None = None
        self.sequences: dict[int, int] = {}

    async def run(self) -> None:
        while not self.world.ends:
            try:
                if self.producer is None:
                    self.producer = await self.ask(
                        lambda connection: self.world.transactions.init(self.name, TIMEOUT_MS, None, connection)
                    )
                    self.sequences = {}
                await self.transact()
            except (LogError, Lost):
                self.producer = None  # fenced, or at the end of its patience: as a new instance it begins again
            await self.world.clock.sleep(self.world.random.uniform(0, 0.2))

    async def ask(self, request: Callable[[int], Awaitable[T]]) -> T:
        """`request` is given the connection that it is sent on."""
        for _ in range(TRIES_MAX):
            try:
                return await self.world.call(request, self.connection)
            except Lost:
                self.connection = self.world.connection()
            except (ConcurrentTransactions, CoordinatorLoading, CoordinatorNotAvailable):
                pass
            await self.world.clock.sleep(self.world.random.uniform(0.02, 0.3))
        raise Lost

    async def transact(self) -> None:
        world, random = self.world, self.world.random
        attempt = Attempt(self.name, len(world.attempts))
        world.attempts.append(attempt)
        for partition in random.sample(range(PARTITIONS), random.randint(1, PARTITIONS)):
            for _ in range(random.randint(1, 2)):
                await self.produce(attempt, partition)
        if random.random() < 0.5:
            await self.commit_offset(attempt)
        if random.random() < 0.05:
            await world.clock.sleep(TIMEOUT_MS / 1000 * 1.5)
        commit = random.random() < 0.7
        producer = self.current()
        if not commit:
            attempt.outcome = False
        version = FOLLOWS_EPOCHS if self.follows else 0
        after = await self.ask(
            lambda connection: world.transactions.end(
                self.name, producer, commit=commit, version=version, connection=connection
            )
        )
        attempt.outcome = commit
        if after != producer:
            self.producer, self.sequences = after, {}

    async def produce(self, attempt: Attempt, partition: int) -> None:
        producer, value = self.current(), b"%d.%d" % (attempt.number, len(attempt.values))
        sequence = self.sequences.get(partition, 0)
        batch = build(
            [(0, None, value, ())],
            producer_id=producer.id,
            epoch=producer.epoch,
            sequence=sequence,
            transactional=True,
        )
        slot = ("out", partition)
        if not self.follows:
            await self.ask(lambda connection: self.world.transactions.add(self.name, producer, [slot], connection))

        async def append(connection: int) -> None:
            target = self.world.engine.partition(*slot)
            admission = self.world.transactions.admit(
                self.name, producer.id, producer.epoch, *slot, implicit=self.follows
            )
            appending = target.append(batch)
            if admission is not None:
                await admission
            await appending.durable()

        attempt.values.append((partition, value))
        await self.ask(append)
        self.sequences[partition] = sequence + 1

    async def commit_offset(self, attempt: Attempt) -> None:
        producer, groups = self.current(), self.world.groups
        slot = (CONSUMER_OFFSETS, groups.topic.index(self.name))
        if not self.follows:
            await self.ask(lambda connection: self.world.transactions.add(self.name, producer, [slot], connection))

        async def commit(connection: int) -> None:
            groups = self.world.groups
            await groups.opened()
            admission = self.world.transactions.admit_offsets(
                self.name, producer, self.name, implicit=self.follows, connection=connection
            )
            if admission is not None:
                await admission
            await groups.ask(
                OffsetCommit(
                    group=self.name,
                    offsets=groups.offsets_now({("in", 0): attempt.number}),
                    producer_id=producer.id,
                    producer_epoch=producer.epoch,
                )
            )

        attempt.offset = attempt.number
        await self.ask(commit)

    def current(self) -> Producer:
        assert self.producer is not None
        return self.producer


def run(seed: int) -> None:
    """Raises `AssertionError` where a promise was broken."""
    asyncio.run(_history(World(seed)))


async def _history(world: World) -> None:
    await world.boot()
    # Two instances of one id, so that they fence each other now and then.
    names = [("old", False), ("new", True), ("new-2", True), ("old-2", False)]
    if world.random.random() < 0.3:
        names.append(world.random.choice(names))
    clients = [asyncio.ensure_future(Client(world, *name).run()) for name in names]
    await world.run(BUSY_S, crashes=CRASHES)
    world.ends = True
    await world.run(QUIET_S)
    for client in clients:
        assert client.done(), "a producer hangs"
        client.result()
    await _check(world)
    await world.crash()


async def _check(world: World) -> None:
    partitions = [world.engine.partition("out", index) for index in range(PARTITIONS)]
    world.check_moved_on([*partitions, *world.engine.topics[CONSUMER_OFFSETS].partitions])
    read = [_committed(partition) for partition in partitions]
    last_offset: dict[str, int] = {}
    for attempt in world.attempts:
        seen = [read[partition].count(value) for partition, value in attempt.values]
        assert max(seen, default=0) <= 1, f"{attempt} is read twice"
        if attempt.outcome is True:
            assert all(seen), f"{attempt} was committed and is lost: {seen}"
        elif attempt.outcome is False:
            assert not any(seen), f"{attempt} was aborted and is read: {seen}"
        else:
            assert len(set(seen)) <= 1, f"{attempt} is torn: {seen}"
        if attempt.offset is not None and attempt.values and all(seen):
            last_offset[attempt.client] = attempt.offset
    for client, offset in last_offset.items():
        found = (await world.groups.committed(client, [("in", 0)]))[("in", 0)]
        assert found == offset, f"{client} committed {offset} with its records and {found} is read"


def _committed(partition: Partition) -> list[bytes]:
    """What a reader of committed data sees, by the rules that Kafka's clients follow."""
    values: list[bytes] = []
    offset = partition.log_start
    while offset < partition.last_stable:
        fetched = partition.read(offset, 1 << 20, committed=True)
        aborted = sorted(fetched.aborted, key=lambda one: one[1])
        skipped: set[int] = set()
        for buffer in fetched.buffers:
            for at, batch in batches_in(buffer):
                offset = batch.next_offset
                while aborted and aborted[0][1] <= batch.last_offset:
                    skipped.add(aborted.pop(0)[0])
                if batch.control:
                    said = marker_in(buffer, at, batch)
                    if said is not None and said[0] is Control.ABORT:
                        skipped.discard(batch.producer_id)
                elif batch.producer_id not in skipped:
                    values += [one.value or b"" for one in records_in(memoryview(buffer)[at : at + batch.size_bytes])]
    return values
