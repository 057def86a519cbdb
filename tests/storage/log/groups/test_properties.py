"""Groups under any order of requests: one owner per partition, and the log tells the whole state."""

from contextlib import suppress
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.classic_members import State
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.embedded import read_assignment, write_assignment, write_subscription
from mainspring.storage.log.groups.errors import GroupError, MemberIdRequired
from mainspring.storage.log.groups.messages import Offset, OffsetCommit

from .bench import PENDING, Bench, topic

STEPS = 120


class Consumer:
    """A client of the new protocol. Some of its heartbeats arrive long after it has sent others by another connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.owned: dict = {}
        self.connection = 1
        self.late: list[tuple[int, dict, int]] = []

    def step(self, bench: Bench, random: Random) -> None:
        if random.random() < 0.03:
            self.epoch, self.owned = 0, {}  # it died; another takes its name
            return
        if self.epoch and random.random() < 0.05:
            self.say(bench, -1)
            return
        if self.late and random.random() < 0.2:
            epoch, owned, connection = self.late.pop(random.randrange(len(self.late)))
            with suppress(GroupError):
                bench.heartbeat(self.name, epoch, owned=owned, connection=connection)
        if self.epoch and random.random() < 0.1:
            self.late.append((self.epoch, self.owned, self.connection))
            self.connection += 1
        self.say(bench, self.epoch)

    def say(self, bench: Bench, epoch: int) -> None:
        try:
            beat = bench.heartbeat(
                self.name, epoch, connection=self.connection, **({"owned": self.owned} if epoch > 0 else {})
            )
        except CoordinatorError:
            self.epoch, self.owned = 0, {}
            return
        self.epoch = max(0, beat.member_epoch)
        self.owned = {} if epoch < 0 else beat.assigned if beat.assigned is not None else self.owned

    def holds(self, bench: Bench) -> set:
        group = bench.coordinator.groups.get("g")
        if not isinstance(group, ConsumerGroup) or self.name not in group.members:
            return set()  # fenced: whatever it still believes, it can commit nothing
        return {(topic, number) for topic, numbers in self.owned.items() for number in numbers}


def state_of(coordinator) -> dict:
    """What must survive a restart."""
    groups = {}
    for name, group in coordinator.groups.items():
        if isinstance(group, ClassicGroup):
            if group.state in (State.STABLE, State.EMPTY) and (group.members or group.generation):
                groups[name] = ("classic", group.generation, {one.id: one.assignment for one in group.members.values()})
        else:
            members = {
                one.id: (one.current, one.topics, one.regex, one.instance, one.assignor)
                for one in group.members.values()
            }
            groups[name] = ("consumer", group.epoch, group.target_epoch, group.target, members)
    return {"groups": groups, "offsets": {name: coordinator.offsets.of(name) for name in coordinator.offsets.groups()}}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_no_partition_has_two_owners_in_a_consumer_group_and_the_log_tells_it_all(seed):
    random = Random(seed)
    bench = Bench({"orders": topic(1, random.randint(1, 6))})
    consumers = [Consumer(name) for name in "abcd"]
    for _ in range(STEPS):
        consumer = random.choice(consumers)
        consumer.step(bench, random)
        if consumer.epoch and random.random() < 0.2:
            request = OffsetCommit(
                group="g",
                member_id=consumer.name,
                generation=consumer.epoch,
                offsets={("orders", 0): Offset(random.randint(0, 9))},
            )
            try:
                bench.ask(request)
            except CoordinatorError:
                consumer.epoch, consumer.owned = 0, {}
        if random.random() < 0.1:
            bench.advance(random.choice((100, 10_000, 50_000)))
        if random.random() < 0.03:
            bench.topics["orders"] = topic(1, len(bench.topics["orders"].partitions) + 1)
        holdings = [consumer.holds(bench) for consumer in consumers]
        assert sum(map(len, holdings)) == len(set().union(*holdings)), f"two owners at once, seed {seed}"
        group = bench.coordinator.groups.get("g")
        assigned = [slot for one in group.members.values() for slot in slots(one.current.assigned)] if group else []
        assert len(assigned) == len(set(assigned))
    assert state_of(bench.replayed()) == state_of(bench.coordinator)
    for _ in range(60):
        bench.advance(2_000)
        for consumer in consumers:
            consumer.say(bench, consumer.epoch)
    held = set().union(*(consumer.holds(bench) for consumer in consumers))
    assert held == {(topic(1, 1).id, number) for number in range(len(bench.topics["orders"].partitions))}


def slots(partitions) -> list:
    return [(topic, number) for topic, numbers in partitions.items() for number in numbers]


class Classic:
    """A client of the classic protocol that gives everything up before it joins again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.forget()

    def forget(self) -> None:
        self.id, self.generation, self.owned = "", -1, frozenset()
        self.joining = self.syncing = None

    def step(self, bench: Bench, random: Random) -> None:
        if random.random() < 0.03:
            self.forget()
        elif self.joining is not None:
            self.take_joined(bench, bench.answers.get(self.joining, PENDING))
        elif self.syncing is not None:
            self.take_synced(bench.answers.get(self.syncing, PENDING))
        elif self.generation >= 0:
            try:
                if random.random() < 0.05:
                    bench.leave(self.id)
                    self.forget()
                else:
                    bench.beat(self.id, self.generation)
            except CoordinatorError:
                self.owned, self.generation = frozenset(), -1
        else:
            self.join(bench)

    def join(self, bench: Bench) -> None:
        protocols = (("range", write_subscription(["orders"])),)
        try:
            answer = bench.join(self.id, protocols=protocols, rebalance_timeout_ms=20_000)
        except MemberIdRequired as required:
            self.id = required.member_id
            return
        except CoordinatorError:
            self.forget()
            return
        self.joining = bench.token
        self.take_joined(bench, answer)

    def take_joined(self, bench: Bench, joined) -> None:
        if joined is PENDING:
            return
        self.joining = None
        if isinstance(joined, Exception):
            self.forget()
            return
        self.id, self.generation = joined.member_id, joined.generation
        count = len(bench.topics["orders"].partitions)
        names = [id for id, _, _ in joined.members]
        assignments = tuple(
            (name, write_assignment({"orders": range(place, count, len(names))})) for place, name in enumerate(names)
        )
        try:
            answer = bench.sync(self.id, self.generation, assignments=assignments)
        except CoordinatorError:
            self.generation = -1
            return
        self.syncing = bench.token
        self.take_synced(answer)

    def take_synced(self, synced) -> None:
        if synced is PENDING:
            return
        self.syncing = None
        if isinstance(synced, Exception):
            self.generation = -1
            return
        self.owned = frozenset(number for _, numbers in read_assignment(synced.assignment) or () for number in numbers)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_no_partition_has_two_owners_of_one_generation_in_a_classic_group(seed):
    random = Random(seed)
    bench = Bench({"orders": topic(1, random.randint(1, 6))})
    members = [Classic(name) for name in "abcd"]
    for _ in range(STEPS):
        random.choice(members).step(bench, random)
        if random.random() < 0.1:
            bench.advance(random.choice((100, 3_000, 12_000)))
        by_generation: dict[int, list[int]] = {}
        for member in members:
            by_generation.setdefault(member.generation, []).extend(member.owned if member.generation >= 0 else ())
        for generation, owned in by_generation.items():
            assert len(owned) == len(set(owned)), f"two owners in generation {generation}, seed {seed}"
        group = bench.coordinator.groups.get("g")
        if group is not None and group.state is State.STABLE:
            assert state_of(bench.replayed()) == state_of(bench.coordinator)
    for _ in range(80):
        bench.advance(1_000)
        for member in members:
            if member.joining is None and member.syncing is None and member.generation < 0:
                member.join(bench)
            else:
                member.step(bench, Random(1))
    owned = [number for member in members for number in member.owned]
    assert sorted(owned) == list(range(len(bench.topics["orders"].partitions)))
