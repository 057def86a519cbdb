"""One step of a coordinator: the time goes in; records, answers and the next wake-up come out.

The state machines change their state at once and put here what the world must do about it. The driver writes `records` to the
internal topic as one batch and gives `answers` when they are durable; where the write fails it forgets the group and reads it
anew from the log, so that nobody was told of a state that is gone.
"""

from collections.abc import Mapping
from typing import Any

from mainspring.storage.log.record_schemas import Record, Schema

NEVER_MS = 1 << 62


class Turn:
    """`now_ms` is monotonic and for deadlines; `wall_ms` is milliseconds UTC and for data.

    A token stands for a request that is to be answered, whatever the driver takes for it; an answer that is an exception
    refuses. `wakes` are groups and the monotonic milliseconds at which they want a tick. `rebalances` counts the generations
    and epochs that this step has begun; `left` are (group, member) of share groups' members that are none any more.
    """

    __slots__ = ("answers", "left", "now_ms", "rebalances", "records", "wakes", "wall_ms")

    def __init__(self, now_ms: int, wall_ms: int) -> None:
        self.now_ms = now_ms
        self.wall_ms = wall_ms
        self.rebalances = 0
        self.left: list[tuple[str, str]] = []
        self.records: list[Record] = []
        self.answers: list[tuple[Any, Any]] = []
        self.wakes: dict[str, int] = {}

    def write(self, schema: Schema, key: tuple[Any, ...], value: Mapping[str, Any] | None) -> None:
        self.records.append(Record(schema, key, value))

    def answer(self, token: Any, answer: Any) -> None:
        if token is not None:
            self.answers.append((token, answer))

    def wake(self, group: str, at_ms: int) -> None:
        if at_ms < self.wakes.get(group, NEVER_MS):
            self.wakes[group] = at_ms
