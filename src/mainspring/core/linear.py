"""Is a history linearizable? The search of Wing and Gong (1993) with Lowe's memoised states (2017), one key at a time.

A history is what clients saw: for each operation when it was called, when it returned, and what. It is linearizable if every
operation can be given one instant between its call and its return such that, in the order of those instants, a plain
sequential model gives every result that was seen. An operation whose outcome nobody saw (its client died) may have happened
at any time after its call, or never.

Linearizability is local (Herlihy and Wing 1990): a history is linearizable if that of each key is. So `check` searches each
key by itself, which is what makes long histories cheap. A state of the search is the set of operations placed so far and the
model's state after them; each is visited once.

    history = History()
    call = history.call("k", "put", b"1", at=clock.mono_ns())
    history.returned(call, None, at=clock.mono_ns())
    check(history, register())          # None, or the key and the operations that cannot be put in order
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import msgspec

NEVER = float("inf")
Step = Callable[[Any, str, Any, Any], tuple[bool, Any]]

UNKNOWN = object()
"""The result of an operation whose outcome nobody saw."""

STATES_MAX = 5_000_000


class Undecided(Exception):
    """The search gave up: this key's history has too many operations at once."""


class Operation(msgspec.Struct):
    """One call on one key. `returned_at` is infinite while the outcome is unknown."""

    number: int
    key: Hashable
    name: str
    argument: Any
    called_at: float
    result: Any = UNKNOWN
    returned_at: float = NEVER

    def __str__(self) -> str:
        seen = "?" if self.result is UNKNOWN else repr(self.result)
        return f"[{self.called_at}, {self.returned_at}] {self.name}({self.argument!r}) = {seen}"


class Model(msgspec.Struct, frozen=True):
    """A sequential object: its first state, and `step(state, name, argument, result)`, which says whether that result is
    right in that state (any result where it is `UNKNOWN`) and what the state is then. States are hashable."""

    initial: Hashable
    step: Step


class Violation(msgspec.Struct, frozen=True):
    """A key whose operations have no order. `longest` is the longest prefix that has one, in that order."""

    key: Hashable
    operations: tuple[Operation, ...]
    longest: tuple[Operation, ...]

    def __str__(self) -> str:
        placed = {one.number for one in self.longest}
        rest = [one for one in self.operations if one.number not in placed]
        parts = ["in order:", *map(str, self.longest), "and then none of:", *map(str, rest)]
        return f"{self.key!r} is not linearizable\n" + "\n".join(parts)


class History:
    """What clients saw, noted as it happens."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def call(self, key: Hashable, name: str, argument: Any = None, *, at: float) -> Operation:
        """Notes that an operation begins."""
        operation = Operation(len(self.operations), key, name, argument, at)
        self.operations.append(operation)
        return operation

    def returned(self, operation: Operation, result: Any, *, at: float) -> None:
        """Notes what it gave."""
        operation.result, operation.returned_at = result, at

    def failed(self, operation: Operation) -> None:
        """Notes that it certainly had no effect."""
        self.operations.remove(operation)


def check(history: History | Iterable[Operation], model: Model) -> Violation | None:
    """The first key whose operations have no order that `model` allows, None where the history is linearizable.

    Raises `Undecided` where one key's search passes five million states.
    """
    by_key: dict[Hashable, list[Operation]] = {}
    operations = history.operations if isinstance(history, History) else history
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    for key, some in by_key.items():
        violation = _check_key(key, sorted(some, key=lambda one: one.called_at), model)
        if violation is not None:
            return violation
    return None


def _check_key(key: Hashable, operations: list[Operation], model: Model) -> Violation | None:
    """Depth first; `placed` is a bit for each operation. One may be placed next if no other that is still to be placed
    returned before it was called."""
    total = len(operations)
    must = sum(1 << at for at, one in enumerate(operations) if one.result is not UNKNOWN)
    seen: set[tuple[int, Hashable]] = set()
    path: list[int] = []
    longest: list[int] = []
    stack = [_candidates(operations, 0, 0, total)]
    states = [(0, model.initial, 0)]
    while stack:
        placed, state, first = states[-1]
        if placed & must == must:
            return None
        for at in stack[-1]:
            operation = operations[at]
            right, after = model.step(state, operation.name, operation.argument, operation.result)
            now = placed | 1 << at
            if not right or (now, after) in seen:
                continue
            seen.add((now, after))
            if len(seen) > STATES_MAX:
                raise Undecided(f"{key!r}: {total} operations")
            path.append(at)
            if len(path) > len(longest):
                longest = list(path)
            while first < total and now >> first & 1:
                first += 1
            states.append((now, after, first))
            stack.append(_candidates(operations, now, first, total))
            break
        else:
            stack.pop()
            states.pop()
            if path:
                path.pop()
    return Violation(key, tuple(operations), tuple(operations[at] for at in longest))


def _candidates(operations: list[Operation], placed: int, first: int, total: int) -> Any:
    """Operations that may come next, those that were called first before others."""
    earliest_return = NEVER
    for at in range(first, total):
        operation = operations[at]
        if operation.called_at > earliest_return:
            break
        if not placed >> at & 1:
            earliest_return = min(earliest_return, operation.returned_at)
    return iter(
        [at for at in range(first, total) if not placed >> at & 1 and operations[at].called_at <= earliest_return]
    )


def register(initial: Hashable = None) -> Model:
    """`write(value)` gives None; `read()` gives the value last written."""

    def step(state: Any, name: str, argument: Any, result: Any) -> tuple[bool, Any]:
        if name == "write":
            return True, argument
        return result is UNKNOWN or result == state, state

    return Model(initial, step)


def compare_and_set(initial: Hashable = None) -> Model:
    """A register with `cas((expected, new))`, which gives whether it wrote."""

    def step(state: Any, name: str, argument: Any, result: Any) -> tuple[bool, Any]:
        if name == "write":
            return True, argument
        if name == "read":
            return result is UNKNOWN or result == state, state
        expected, new = argument
        wins = state == expected
        return result is UNKNOWN or result == wins, new if wins else state

    return Model(initial, step)


def append_only_log() -> Model:
    """`append(value)` gives the offset it got; `read(offset)` gives the value there, None at the end."""

    def step(state: Any, name: str, argument: Any, result: Any) -> tuple[bool, Any]:
        if name == "append":
            return result is UNKNOWN or result == len(state), (*state, argument)
        there = state[argument] if argument < len(state) else None
        return result is UNKNOWN or result == there, state

    return Model((), step)


def refs(initial: Hashable = None) -> Model:
    """A ref of git: `update((old, new))` gives whether `old` was what it pointed to (None: it did not exist, as `new`: it is
    deleted); `read()` gives what it points to."""
    return Model(
        initial,
        lambda state, name, argument, result: compare_and_set(initial).step(
            state, "cas" if name == "update" else name, argument, result
        ),
    )
