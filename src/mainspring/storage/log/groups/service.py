"""The coordinators of groups, bound to the engine: every transition is in `__consumer_offsets` before its answer leaves.

The state machine has moved on as soon as it was asked; what it answered waits until everything written to the group's partition
so far is durable, reads included, so nobody ever hears of a state that a crash could take back. Where a write fails, the groups
of that partition are forgotten and read anew, and whoever waits is told to try again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.timer_wheel import Timer, Timers
from mainspring.storage.log.coordinator_errors import CoordinatorError, CoordinatorLoading, CoordinatorNotAvailable
from mainspring.storage.log.errors import InvalidConfig, LogError
from mainspring.storage.log.groups.catalog import Catalog
from mainspring.storage.log.groups.configs import overridden
from mainspring.storage.log.groups.coordinator import Coordinator
from mainspring.storage.log.groups.member import Member
from mainspring.storage.log.groups.messages import GroupDelete, Offset, OffsetCommit, OffsetFetch, TopicPartition
from mainspring.storage.log.groups.room import Group
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.shares import Shares
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS, InternalTopic
from mainspring.storage.log.model import Appending
from mainspring.storage.log.record_schemas import GROUP_RECORDS, Record

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine

log = logging.getLogger(__name__)
PartitionsCallback = Callable[[Sequence[TopicPartition]], Awaitable[None]]


class Groups:
    """All groups of a node, between `start` and `stop`. Errors are `LogError`s with their Kafka code."""

    def __init__(
        self, engine: "Engine", clock: Clock, settings: GroupSettings | None = None, random: Random | None = None
    ) -> None:
        self.settings = settings or GroupSettings()
        self.engine = engine
        self.clock = clock
        self._random = random or SystemRandom()
        self._topic = InternalTopic(engine, CONSUMER_OFFSETS, GROUP_RECORDS, self.settings.internal_partitions)
        self._coordinator = Coordinator(self.settings, Catalog(engine.topics), self.random_id)
        self.rebalances = 0
        self.configured: Mapping[str, Mapping[str, str]] = {}
        """The settings that single groups have of their own."""
        self._timers = Timers(clock)
        self._wakes: dict[str, Timer] = {}
        self._written: dict[int, Appending] = {}
        self._waiting: dict[int, set[asyncio.Future[Any]]] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._opening: asyncio.Task[None] | None = None
        self._members: set[Member] = set()
        self._shares: Shares | None = None

    async def start(self) -> None:
        """Reads what there is; the topic is made when the first group needs it."""
        await self._timers.start()
        self._timers.call_after(self.settings.offsets_check_interval_ms, self._sweep)
        if self._topic.exists():
            await self.opened()

    async def stop(self) -> None:
        """Members in this process leave; whoever waits at a barrier is told to find the coordinator again."""
        for member in tuple(self._members):
            await member.close()
        if self._shares is not None:
            await self._shares.stop()
        await self._timers.stop()
        tasks = [*self._loading.values(), *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for index in list(self._waiting):
            self._refuse_waiting(index, CoordinatorNotAvailable())

    def random_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    # For members in this process

    def member(
        self,
        group: str,
        topics: Sequence[str],
        *,
        regex: str | None = None,
        instance: str | None = None,
        client_id: str = "python",
        rebalance_timeout_ms: int = 300_000,
        on_assigned: PartitionsCallback | None = None,
        on_revoked: PartitionsCallback | None = None,
        on_lost: PartitionsCallback | None = None,
    ) -> Member:
        """A member to be started; see the package's docstring."""
        return Member(
            self,
            group,
            topics,
            regex=regex,
            instance=instance,
            client_id=client_id,
            rebalance_timeout_ms=rebalance_timeout_ms,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            on_lost=on_lost,
        )

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Sets a group's positions without being a member. Raises `UnknownMemberId` while the group has members."""
        await self.ask(OffsetCommit(group=group, offsets=self.offsets_now(offsets)))

    async def committed(
        self, group: str, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int | None]:
        """The next offset to read of each partition, None where none was committed; `partitions` None: all that were."""
        found = await self.ask(OffsetFetch(group=group, partitions=None if partitions is None else tuple(partitions)))
        return {one: None if offset is None else offset.offset for one, (offset, _) in found.items()}

    async def delete(self, group: str) -> None:
        """Raises `NonEmptyGroup` or `GroupIdNotFound`."""
        await self.ask(GroupDelete(group=group))

    def offsets_now(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Offset]:
        """Positions as a commit carries them, with the time and the topics' ids of now."""
        now_ms, catalog = self._wall_ms(), self._coordinator.catalog
        return {
            one: Offset(offset, committed_at_ms=now_ms, topic_id=catalog.id(one[0])) for one, offset in offsets.items()
        }

    def configure(self, given: Mapping[str, Mapping[str, str]]) -> None:
        """Settings of single groups by Kafka's names, in place of those before; they act from now on."""
        own: dict[str, GroupSettings] = {}
        for group, configs in given.items():
            try:
                own[group] = overridden(self.settings, configs)
            except InvalidConfig as error:
                # Valid when it was set: the node's bounds have been drawn closer since.
                log.warning("the settings of group %s do not count: %s", group, error.detail)
        self.configured = {group: given[group] for group in own}
        self._coordinator.configure(own)

    def settings_of(self, group: str) -> GroupSettings:
        return self._coordinator.settings_of(group)

    # For the wire

    async def opened(self) -> Coordinator:
        """The state machine, for reading, once its topic is there and has been read."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="groups")
        await asyncio.shield(self._opening)
        return self._coordinator

    async def ask(self, message: Any) -> Any:
        """Puts a message to its group; gives the answer when it is durable. Raises `CoordinatorError`."""
        if self._opening is None or not self._opening.done() or self._opening.exception() is not None:
            await self._retry_opened()
        index = self._topic.index(message.group)
        if index in self._loading:
            raise CoordinatorLoading
        turn = self._turn()
        token: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._coordinator.handle(message, token, turn)
        except CoordinatorError:
            self._schedule(turn)
            raise
        producer = getattr(message, "producer_id", -1), getattr(message, "producer_epoch", -1)
        self._conclude(index, turn, *producer)
        self._tell(message.group)
        if not token.done():
            waiting = self._waiting.setdefault(index, set())
            waiting.add(token)
            token.add_done_callback(waiting.discard)
        return await token

    @property
    def shares(self) -> Shares:
        """The records of share groups."""
        if self._shares is None:
            self._shares = Shares(self)
        return self._shares

    def find(self, name: str) -> Group | None:
        return self._coordinator.groups.get(name)

    @property
    def known(self) -> Coordinator:
        """The state machine, for reading, as far as it has been read: empty before the topic is opened."""
        return self._coordinator

    @property
    def topic(self) -> InternalTopic:
        return self._topic

    def ended(self, index: int, producer_id: int, commit: bool) -> None:
        """A producer's marker stands in partition `index` of `__consumer_offsets`, durably."""
        self._coordinator.ended(producer_id, partial(self._is_in, index), commit)

    def watch(self, group: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` when the group may have changed; gives what ends this."""
        callbacks = self._watchers.setdefault(group, [])
        callbacks.append(callback)

        def end() -> None:
            callbacks.remove(callback)
            if not callbacks:
                self._watchers.pop(group, None)

        return end

    def joined(self, member: Member) -> None:
        self._members.add(member)

    def left(self, member: Member) -> None:
        self._members.discard(member)

    # Turns

    def _turn(self) -> Turn:
        return Turn(self._timers.now_ms(), self._wall_ms())

    def _wall_ms(self) -> int:
        return self.clock.wall_ns() // 1_000_000

    def _conclude(self, index: int, turn: Turn, producer_id: int = -1, epoch: int = -1) -> None:
        """Writes a turn's records; answers when all that was written before is durable too."""
        self._schedule(turn)
        self.rebalances += turn.rebalances
        for group, member in turn.left:
            self.shares.abandon(group, member)
        if turn.records:
            try:
                self._written[index] = self._topic.write(
                    index, turn.records, turn.wall_ms, producer_id=producer_id, epoch=epoch
                )
            except LogError:
                log.exception("%s-%d does not take a record", CONSUMER_OFFSETS, index)
                self._lost(index, turn)
                return
        written = self._written.get(index)
        if written is None or (written.settled and written.error is None):
            self._answer(turn)
        else:
            written.when_durable(partial(self._settled, index, written, turn))

    def _settled(self, index: int, written: Appending, turn: Turn) -> None:
        if written.error is None:
            self._answer(turn)
        else:
            self._lost(index, turn)

    def _answer(self, turn: Turn) -> None:
        for token, answer in turn.answers:
            if token.done():
                continue
            if isinstance(answer, Exception):
                token.set_exception(answer)
            else:
                token.set_result(answer)

    def _lost(self, index: int, turn: Turn) -> None:
        for token, _ in turn.answers:
            if not token.done():
                token.set_exception(CoordinatorNotAvailable())
        if index not in self._loading:
            self._written.pop(index, None)
            self._refuse_waiting(index, CoordinatorNotAvailable())
            self._loading[index] = asyncio.create_task(self._reload(index), name=f"{CONSUMER_OFFSETS}-{index}")

    def _refuse_waiting(self, index: int, error: CoordinatorError) -> None:
        for token in tuple(self._waiting.pop(index, ())):
            if not token.done():
                token.set_exception(error)

    def _schedule(self, turn: Turn) -> None:
        for group, at_ms in turn.wakes.items():
            timer = self._wakes.get(group)
            if at_ms >= NEVER_MS or (timer is not None and timer.at_ms <= at_ms):
                continue
            if timer is not None:
                timer.cancel()
            self._wakes[group] = self._timers.call_at(at_ms, partial(self._wake, group))

    def _wake(self, group: str) -> None:
        self._wakes.pop(group, None)
        index = self._topic.index(group)
        if index in self._loading:
            return
        turn = self._turn()
        self._coordinator.tick(group, turn)
        self._conclude(index, turn)
        self._tell(group)

    def _sweep(self) -> None:
        self._timers.call_after(self.settings.offsets_check_interval_ms, self._sweep)
        turn = self._turn()
        self._coordinator.sweep(turn)
        by_index: dict[int, list[Record]] = {}
        for record in turn.records:
            by_index.setdefault(self._topic.index(record.key[0]), []).append(record)
        for index, records in by_index.items():
            part = Turn(turn.now_ms, turn.wall_ms)
            part.records = records
            self._conclude(index, part)

    def _tell(self, group: str) -> None:
        for callback in tuple(self._watchers.get(group, ())):
            callback()

    # Loading

    async def _retry_opened(self) -> None:
        opening = self._opening
        if opening is not None and opening.done() and (opening.cancelled() or opening.exception() is not None):
            self._opening = None
        await self.opened()

    async def _open(self) -> None:
        await self._topic.open()
        for index in range(self._topic.partitions):
            await self._load(index)

    async def _load(self, index: int) -> None:
        turn = self._turn()
        await self._topic.replay(
            index,
            lambda record, producer_id: self._coordinator.replay(record, producer_id, turn),
            lambda producer_id, commit: self.ended(index, producer_id, commit),
        )
        self._schedule(turn)

    async def _reload(self, index: int) -> None:
        backoff = Backoff(0.05, 5.0)
        try:
            while True:
                try:
                    self._coordinator.forget(partial(self._is_in, index))
                    await self._load(index)
                    return
                except LogError:
                    log.exception("%s-%d cannot be read", CONSUMER_OFFSETS, index)
                    await self.clock.sleep(backoff.next_s())
        finally:
            self._loading.pop(index, None)

    def _is_in(self, index: int, group: str) -> bool:
        return self._topic.index(group) == index
