"""Two more of the simulated groups: members that share records, and a producer that commits positions in transactions."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mainspring.storage.log.errors import LogError
from mainspring.storage.log.group_simulation_members import BEAT_S, LOCK_MS, ClassicMember, GroupMember, World
from mainspring.storage.log.groups.messages import OffsetCommit, ShareHeartbeat
from mainspring.storage.log.groups.share_partition import Acknowledge
from mainspring.storage.log.simulated_broker import PARTITIONS, Lost
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer

TRANSACTION_TIMEOUT_MS = 4_000
T = TypeVar("T")


class ShareMember(GroupMember):
    """Holds a record from when it asked for it until its lock is over."""

    group = "share"

    def begin(self) -> None:
        self.member_id = f"share-{self.number}-{self.world.connection()}"
        self.epoch = 0
        self.session_epoch = 0

    async def live(self) -> None:
        world = self.world
        until_ms = 0
        while not world.ends:
            await self.misfortune()
            if world.now_ms >= until_ms:
                message = ShareHeartbeat(
                    group=self.group, member_id=self.member_id, member_epoch=self.epoch, topics=("in",)
                )
                self.epoch = (await self.tell(message)).member_epoch
                until_ms = world.now_ms + int(BEAT_S * 1000)
            await self.work(world.random.randrange(PARTITIONS))
            await world.clock.sleep(world.random.uniform(0.02, 0.3))

    async def work(self, index: int) -> None:
        world, asked_ms, member_id = self.world, self.world.now_ms, self.member_id
        if not world.up:
            raise Lost
        slot = (world.engine.topics["in"].id, index)
        most = world.random.randint(1, 20)

        epoch = self.session_epoch

        async def fetch(connection: int) -> Any:
            self.check_session(member_id, epoch, connection)
            return await world.groups.shares.fetch(
                self.group, member_id, [slot], records_max=most, bytes_max=1 << 20, wait_ms=0, strictly=True
            )

        # Not asked again where no answer comes: what it was given then, it does not know.
        given = await self.in_session(fetch)
        held = [at for one in given for run in one.acquired for at in range(run.first, run.last + 1)]
        until_ms = asked_ms + LOCK_MS
        for offset in held:
            holder, held_until_ms = world.locks.get((index, offset), (self, 0))
            if holder is not self and world.now_ms < held_until_ms:
                world.violated(f"record {offset} of {index} is {holder.member_id}'s and {member_id}'s")
            if (index, offset) in world.accepted:
                world.violated(f"record {offset} of {index} was accepted and is given to {member_id}")
            world.locks[index, offset] = (self, until_ms)
        await world.clock.sleep(world.random.uniform(0, 0.3))
        for offset in held:
            await self.conclude(slot, offset)

    def check_session(self, member_id: str, epoch: int, connection: int) -> None:
        self.world.groups.shares.session(self.group, member_id, epoch, connection=connection)

    async def in_session(self, request: Callable[[int], Awaitable[T]]) -> T:
        """The next request of the session; where no answer comes, a new connection begins a new one."""
        try:
            answer = await self.world.call(request, self.connection)
        except (Lost, LogError):
            self.connection, self.session_epoch = self.world.connection(), 0
            raise
        self.session_epoch += 1
        return answer

    async def conclude(self, slot: Any, offset: int) -> None:
        world, index = self.world, slot[1]
        kind = Acknowledge.ACCEPT if world.calm or world.random.random() < 0.8 else Acknowledge.RELEASE
        if kind is Acknowledge.RELEASE:
            world.locks.pop((index, offset), None)
        member_id = self.member_id

        epoch = self.session_epoch

        async def say(connection: int) -> None:
            self.check_session(member_id, epoch, connection)
            await world.groups.shares.acknowledge(self.group, member_id, slot, [(offset, offset, [int(kind)])])

        await self.in_session(say)
        if kind is Acknowledge.ACCEPT:
            if (index, offset) in world.accepted:
                world.violated(f"record {offset} of {index} is accepted twice")
            world.accepted.add((index, offset))
            world.locks.pop((index, offset), None)

    async def leave(self) -> None:
        world, member_id = self.world, self.member_id  # a late request still names who sent it
        for key in [key for key, (holder, _) in world.locks.items() if holder is self]:
            del world.locks[key]
        try:
            await self.ask(lambda connection: world.groups.shares.leave(self.group, member_id))
            await self.tell(ShareHeartbeat(group=self.group, member_id=member_id, member_epoch=-1))
        except (LogError, Lost):
            self.epoch = 0

    def give_up(self) -> None:
        for key in [key for key, (holder, _) in self.world.locks.items() if holder is self]:
            del self.world.locks[key]
        self.begin()


class Copier(GroupMember):
    """A transactional producer that commits positions of the classic group, or leaves its transactions open."""

    group = ClassicMember.group

    def begin(self) -> None:
        self.producer: Producer | None = None

    def __init__(self, world: World) -> None:
        super().__init__(world, 0)

    async def live(self) -> None:
        world = self.world
        while not world.ends:
            if self.producer is None:
                self.producer = await self.ask(
                    lambda connection: world.transactions.init("copier", TRANSACTION_TIMEOUT_MS, None, connection)
                )
            await self.commit(self.producer)
            if not world.calm and world.random.random() < 0.2:
                await world.clock.sleep(world.random.uniform(0, 1.5) * TRANSACTION_TIMEOUT_MS / 1000)
            await self.end(self.producer, commit=world.random.random() < 0.7)
            await world.clock.sleep(world.random.uniform(0.1, 1.0))

    async def commit(self, producer: Producer) -> None:
        world = self.world

        async def arrive(connection: int) -> None:
            groups = world.groups
            await groups.opened()
            admission = world.transactions.admit_offsets(
                "copier", producer, self.group, implicit=True, connection=connection
            )
            if admission is not None:
                await admission
            await groups.ask(
                OffsetCommit(
                    group=self.group,
                    offsets=groups.offsets_now({("in", 0): world.end(0)}),
                    producer_id=producer.id,
                    producer_epoch=producer.epoch,
                )
            )

        await self.ask(arrive)

    async def end(self, producer: Producer, *, commit: bool) -> None:
        self.producer = await self.ask(
            lambda connection: self.world.transactions.end(
                "copier", producer, commit=commit, version=FOLLOWS_EPOCHS, connection=connection
            )
        )

    async def leave(self) -> None:
        self.producer = None
