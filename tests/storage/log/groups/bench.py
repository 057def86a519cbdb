"""A coordinator without a log: what it is asked, answers and writes, under a time that the test moves."""

from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from mainspring.storage.log.groups.catalog import Catalog
from mainspring.storage.log.groups.coordinator import Coordinator
from mainspring.storage.log.groups.messages import (
    Client,
    ConsumerHeartbeat,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    Leaving,
    SyncGroup,
)
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.turn import Turn
from mainspring.storage.log.record_schemas import GROUP_RECORDS, Record, decode, encode_key, encode_value

WALL_MS = 1_767_225_600_000
PENDING = object()


def topic(number: int, partitions: int, internal: bool = False) -> SimpleNamespace:
    return SimpleNamespace(id=UUID(int=number), partitions=list(range(partitions)), internal=internal)


class Bench:
    """`topics` may be changed by the test. Records go through their bytes, as on a disk."""

    def __init__(self, topics: dict[str, Any] | None = None, **settings: Any) -> None:
        self.settings = GroupSettings(**settings)
        self.topics = topics if topics is not None else {"orders": topic(1, 4)}
        self.random = Random(7)
        self.now_ms = 1_000
        self.answers: dict[Any, Any] = {}
        self.log: list[tuple[bytes, bytes | None]] = []
        self.wakes: dict[str, int] = {}
        self.coordinator = self.fresh()

    def fresh(self) -> Coordinator:
        return Coordinator(self.settings, Catalog(self.topics), lambda: f"{self.random.getrandbits(64):016x}")

    def turn(self) -> Turn:
        return Turn(self.now_ms, WALL_MS + self.now_ms)

    def conclude(self, turn: Turn) -> None:
        for group, at_ms in turn.wakes.items():
            self.wakes[group] = min(at_ms, self.wakes.get(group, at_ms))
        for one in turn.records:
            value = None if one.value is None else encode_value(one.schema, one.value)
            self.log.append((encode_key(one.schema, one.key), value))
        for token, answer in turn.answers:
            assert token not in self.answers, "a request is answered once"
            self.answers[token] = answer

    def ask(self, message: Any) -> Any:
        """The answer, or `PENDING` with the token in `self.token`; raises what the coordinator refuses."""
        self.token = object()
        turn = self.turn()
        try:
            self.coordinator.handle(message, self.token, turn)
        except Exception:
            turn.records, turn.answers = [], []
            self.conclude(turn)
            raise
        self.conclude(turn)
        answer = self.answers.get(self.token, PENDING)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def advance(self, ms: int) -> None:
        """Moves time, waking groups when they asked to be."""
        until_ms = self.now_ms + ms
        while True:
            due = min(((at_ms, name) for name, at_ms in self.wakes.items()), default=(until_ms + 1, ""))
            if due[0] > until_ms:
                break
            self.now_ms = max(self.now_ms, due[0])
            del self.wakes[due[1]]
            turn = self.turn()
            self.coordinator.tick(due[1], turn)
            self.conclude(turn)
        self.now_ms = until_ms

    def replayed(self) -> Coordinator:
        """Another coordinator that has read the log."""
        fresh = self.fresh()
        turn = self.turn()
        for key, value in self.log:
            record = decode(GROUP_RECORDS, key, value)
            assert isinstance(record, Record)
            fresh.replay(record, -1, turn)
        return fresh

    # Requests with what the tests do not care about filled in

    def join(self, member_id: str = "", **fields: Any) -> Any:
        fields = {
            "group": "g",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": (("range", b"meta"),),
            "client": Client("c", "/127.0.0.1"),
        } | fields
        return self.ask(JoinGroup(member_id=member_id, **fields))

    def sync(self, member_id: str, generation: int, **fields: Any) -> Any:
        return self.ask(SyncGroup(group="g", member_id=member_id, generation=generation, **fields))

    def beat(self, member_id: str, generation: int, **fields: Any) -> Any:
        return self.ask(Heartbeat(group="g", member_id=member_id, generation=generation, **fields))

    def leave(self, *members: str | Leaving) -> Any:
        leaving = tuple(one if isinstance(one, Leaving) else Leaving(one) for one in members)
        return self.ask(LeaveGroup(group="g", members=leaving))

    def heartbeat(self, member_id: str, epoch: int, **fields: Any) -> Any:
        if epoch == 0:
            fields = {"topics": ("orders",), "rebalance_timeout_ms": 30_000, "owned": {}} | fields
        return self.ask(ConsumerHeartbeat(group="g", member_id=member_id, member_epoch=epoch, **fields))
