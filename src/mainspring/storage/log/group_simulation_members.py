"""The members of the simulated groups: each does as a client library does, and believes no more than that may.

A member owns what it was told until its session, counted from when it sent the request that was answered, is over. It tries
again on a new connection where no answer came, gives up where it is refused, and now and then it dies, pauses or leaves.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from mainspring.storage.log.coordinator_errors import CoordinatorLoading, CoordinatorNotAvailable
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.embedded import PROTOCOL_TYPE, read_assignment, write_assignment, write_subscription
from mainspring.storage.log.groups.errors import (
    MemberIdRequired,
    RebalanceInProgress,
    StaleMemberEpoch,
    UnknownMemberId,
)
from mainspring.storage.log.groups.messages import (
    ConsumerBeat,
    ConsumerHeartbeat,
    Heartbeat,
    Joined,
    JoinGroup,
    LeaveGroup,
    Leaving,
    OffsetCommit,
    Partitions,
    SyncGroup,
)
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.turn import NEVER_MS
from mainspring.storage.log.simulated_broker import GIVE_UP_S, PARTITIONS, Lost, SimulatedBroker

SESSION_MS = 6_000
BEAT_S = 1.5
LOCK_MS = 2_000
TRIES_MAX = 6
TRANSACTION_TIMEOUT_MS = 4_000
EVERY_PARTITION = range(PARTITIONS)
T = TypeVar("T")


class World(SimulatedBroker):
    """What all members know together, which no one of them does. Without `orders` nobody tells connections apart."""

    def __init__(self, seed: int, *, orders: bool = True) -> None:
        settings = GroupSettings(
            internal_partitions=2,
            session_timeout_ms_min=SESSION_MS,
            consumer_session_timeout_ms=SESSION_MS,
            consumer_heartbeat_interval_ms=int(BEAT_S * 1000),
            share_session_timeout_ms=SESSION_MS,
            share_heartbeat_interval_ms=int(BEAT_S * 1000),
            share_record_lock_ms=LOCK_MS,
            share_deliveries_max=1_000_000,
            share_in_flight_max=40,
            share_auto_offset_reset="earliest",
        )
        super().__init__(seed, settings)
        self.calm = False
        self.orders = orders
        self.generation = 0
        """The newest of the classic group that a member was assigned something in."""
        self.owners: dict[tuple[int, int], str] = {}
        """Of the classic group: who was given a partition in a generation."""
        self.consumers: list[ConsumerMember] = []
        self.locks: dict[tuple[int, int], tuple[GroupMember, int]] = {}
        self.accepted: set[tuple[int, int]] = set()
        self._violation: str | None = None

    async def crash(self) -> None:
        await super().crash()
        self.locks.clear()  # they are not written down: what was locked is available again

    @property
    def now_ms(self) -> int:
        return self.clock.mono_ns() // 1_000_000

    def violated(self, what: str) -> None:
        """A promise is broken; whoever found out may be a task whose errors nobody sees."""
        self._violation = self._violation or what

    def fail_if_broken(self) -> None:
        assert self._violation is None, self._violation

    def ids(self, owned: Iterable[int]) -> Partitions:
        numbers = frozenset(owned)
        return {self.engine.topics["in"].id: numbers} if numbers else {}

    def end(self, index: int) -> int:
        return self.engine.partition("in", index).high_watermark


class GroupMember(ABC):
    """What members of all kinds have in common."""

    group = ""
    member_id = ""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.connection = world.connection()
        self.owned: frozenset[int] = frozenset()
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """As a process that has just started."""

    async def run(self) -> None:
        """Until the world ends; what it is refused makes it begin anew."""
        world = self.world
        while not world.ends:
            try:
                await self.live()
            except (LogError, Lost):
                self.give_up()
            await world.clock.sleep(world.random.uniform(0.05, 0.4))
        await self.leave()

    @abstractmethod
    async def live(self) -> None:
        """Joins, and goes on until something is refused or the world ends."""

    @abstractmethod
    async def leave(self) -> None:
        """Says good-bye, where it has joined."""

    def give_up(self) -> None:
        self.owned = frozenset()
        self.begin()

    async def misfortune(self) -> None:
        """Now and then, while the world is not calm."""
        world = self.world
        if world.calm:
            return
        chance = world.random.random()
        if chance < 0.01:
            self.give_up()
            raise Lost
        if chance < 0.02:
            await world.clock.sleep(world.random.uniform(0, 2.5) * SESSION_MS / 1000)
        elif chance < 0.03:
            await self.leave()
            self.give_up()
            raise Lost

    async def ask(self, request: Callable[[int], Awaitable[T]], patience_s: float = GIVE_UP_S) -> T:
        """`request` is given the connection that it is sent on."""
        for _ in range(TRIES_MAX):
            try:
                return await self.world.call(request, self.connection, patience_s)
            except Lost:
                self.connection = self.world.connection()
            except (CoordinatorLoading, CoordinatorNotAvailable):
                await self.world.clock.sleep(self.world.random.uniform(0.02, 0.3))
        raise Lost

    async def tell(self, message: Any, patience_s: float = GIVE_UP_S) -> Any:
        return await self.ask(lambda connection: self.world.groups.ask(message), patience_s)


class ClassicMember(GroupMember):
    """The first member is static."""

    group = "classic"

    def begin(self) -> None:
        self.member_id = ""
        self.generation = -1
        self.instance = "static" if self.number == 0 else None

    def give_up(self) -> None:
        self.owned = frozenset()
        self.generation = -1
        if self.world.random.random() < 0.7:
            self.begin()

    async def live(self) -> None:
        try:
            await self.join()
            while not self.world.ends:
                await self.misfortune()
                await self.tell(Heartbeat(group=self.group, generation=self.generation, **self.names()))
                if self.owned and self.world.random.random() < 0.5:
                    await self.commit()
                await self.world.clock.sleep(self.world.random.uniform(0.3, BEAT_S))
        except RebalanceInProgress:
            self.owned = frozenset()
        except UnknownMemberId:
            self.owned = frozenset()
            self.begin()

    def names(self) -> dict[str, Any]:
        return {"member_id": self.member_id, "instance": self.instance}

    async def join(self) -> None:
        ask = JoinGroup(
            group=self.group,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=SESSION_MS,
            protocol_type=PROTOCOL_TYPE,
            protocols=(("range", write_subscription(["in"])),),
            **self.names(),
        )
        try:
            joined: Joined = await self.tell(ask, 2 * SESSION_MS / 1000)
        except MemberIdRequired as required:
            self.member_id = required.member_id
            joined = await self.tell(msgspec.structs.replace(ask, member_id=self.member_id), 2 * SESSION_MS / 1000)
        self.member_id, self.generation = joined.member_id, joined.generation
        shares = {id: EVERY_PARTITION[at :: len(joined.members)] for at, (id, _, _) in enumerate(joined.members)}
        assignments = tuple((id, write_assignment({"in": numbers})) for id, numbers in shares.items())
        synced = await self.tell(
            SyncGroup(group=self.group, generation=self.generation, assignments=assignments, **self.names()),
            SESSION_MS / 1000,
        )
        read = read_assignment(synced.assignment) if synced.assignment else ()
        self.take(frozenset(number for _, numbers in read or () for number in numbers))

    def take(self, owned: frozenset[int]) -> None:
        world, name = self.world, self.instance or self.member_id
        self.owned = owned
        for index in owned:
            owner = world.owners.setdefault((self.generation, index), name)
            if owner != name:
                world.violated(f"{owner} and {name} both own partition {index} in generation {self.generation}")
        world.generation = max(world.generation, self.generation)

    async def commit(self) -> None:
        world, generation = self.world, self.generation
        offsets = {("in", index): world.end(index) for index in self.owned if world.up}

        async def arrive(connection: int) -> None:
            newest = world.generation
            await world.groups.ask(
                OffsetCommit(
                    group=self.group,
                    generation=generation,
                    offsets=world.groups.offsets_now(offsets),
                    **self.names(),
                )
            )
            if generation < newest:
                world.violated(f"a member of generation {generation} commits while {newest} is assigned")

        await self.ask(arrive)

    async def leave(self) -> None:
        if self.member_id:
            try:
                await self.tell(LeaveGroup(group=self.group, members=(Leaving(self.member_id, self.instance),)))
            except (LogError, Lost):
                self.owned = frozenset()
        self.owned = frozenset()


class ConsumerMember(GroupMember):
    """Owns something from when it is told until it gives it up, is refused, or has not been answered for its session.

    An answer that it did not hear may have asked it to give something up; from when that may have been it has no longer than
    the rebalance's time, which is as long here.
    """

    group = "consumer"

    def __init__(self, world: World, number: int) -> None:
        self.session_ms = 0
        self.unheard_ms = NEVER_MS
        super().__init__(world, number)
        world.consumers.append(self)

    def begin(self) -> None:
        self.member_id = f"consumer-{self.number}-{self.world.connection()}"
        self.epoch = 0
        self.whole = True
        self.unheard_ms = NEVER_MS
        self.owned = frozenset()

    def owns(self, index: int) -> bool:
        return index in self.owned and self.world.now_ms < self.until_ms

    @property
    def until_ms(self) -> int:
        return min(self.session_ms, self.unheard_ms + SESSION_MS)

    async def live(self) -> None:
        while not self.world.ends:
            await self.misfortune()
            if not await self.beat():
                continue
            if self.owned and self.world.random.random() < 0.4:
                await self.commit()
            await self.world.clock.sleep(self.world.random.uniform(0.3, BEAT_S))

    async def beat(self) -> bool:
        """Gives whether there is nothing to be told at once."""
        world, sent_ms = self.world, self.world.now_ms
        if self.epoch and sent_ms >= self.until_ms:
            self.owned, self.epoch, self.whole, self.unheard_ms = frozenset(), 0, True, NEVER_MS
        if not world.up:
            raise Lost
        message = ConsumerHeartbeat(
            group=self.group,
            member_id=self.member_id,
            member_epoch=self.epoch,
            rebalance_timeout_ms=SESSION_MS if self.whole else -1,
            topics=("in",) if self.whole else None,
            owned=world.ids(self.owned),
        )
        self.whole = True  # until an answer says that this was heard
        self.unheard_ms = min(self.unheard_ms, sent_ms)

        async def arrive(connection: int) -> ConsumerBeat:
            by = connection if world.orders else -1
            beat: ConsumerBeat = await world.groups.ask(msgspec.structs.replace(message, connection=by))
            return beat

        try:
            beat = await world.call(arrive, self.connection)
        except Lost:
            self.connection = world.connection()
            return False
        except (CoordinatorLoading, CoordinatorNotAvailable):
            await world.clock.sleep(world.random.uniform(0.02, 0.3))
            return False
        self.session_ms = sent_ms + SESSION_MS
        self.epoch = beat.member_epoch
        self.whole = False
        if beat.assigned is None:
            self.unheard_ms = NEVER_MS
            return True
        target = frozenset(number for numbers in beat.assigned.values() for number in numbers)
        gives_up = self.owned - target
        self.take(target)
        if not gives_up:
            self.unheard_ms = NEVER_MS
        return not gives_up

    def take(self, target: frozenset[int]) -> None:
        for index in target - self.owned:
            for other in self.world.consumers:
                if other is not self and other.owns(index):
                    self.world.violated(f"{other.member_id} and {self.member_id} own partition {index} at once")
        self.owned = target

    async def commit(self) -> None:
        world, epoch, member_id = self.world, self.epoch, self.member_id
        offsets = {("in", index): world.end(index) for index in self.owned if world.up}

        async def arrive(connection: int) -> None:
            others = [
                one for one in world.consumers if one is not self and any(one.owns(index) for _, index in offsets)
            ]
            await world.groups.ask(
                OffsetCommit(
                    group=self.group,
                    member_id=member_id,
                    generation=epoch,
                    offsets=world.groups.offsets_now(offsets),
                )
            )
            if others:
                world.violated(f"{member_id} commits in epoch {epoch} to what {others[0].member_id} owns")

        try:
            await self.ask(arrive)
        except StaleMemberEpoch:
            return  # it comes again with the epoch that its next heartbeat tells

    async def leave(self) -> None:
        self.owned = frozenset()  # given up before anybody is told
        if self.epoch:
            try:
                await self.tell(ConsumerHeartbeat(group=self.group, member_id=self.member_id, member_epoch=-1))
            except (LogError, Lost):
                self.epoch = 0
        self.epoch = 0
