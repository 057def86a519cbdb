"""The checker accepts what an order explains, refuses what none does, and agrees with trying every order."""

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import linear
from mainspring.core.linear import (
    NEVER,
    UNKNOWN,
    History,
    Model,
    Operation,
    append_only_log,
    check,
    compare_and_set,
    refs,
    register,
)

Seen = tuple[float, float, str, Any, Any]


def history(*seen: Seen, key: str = "k") -> list[Operation]:
    return [
        Operation(number, key, name, argument, called, result, returned)
        for number, (called, returned, name, argument, result) in enumerate(seen)
    ]


ACCEPTED: list[tuple[str, Model, list[Operation]]] = [
    ("nothing at all", register(), []),
    ("one after the other", register(), history((0, 1, "write", 1, None), (2, 3, "read", None, 1))),
    ("a read beside a write sees the old", register(0), history((0, 9, "write", 1, None), (1, 2, "read", None, 0))),
    ("a read beside a write sees the new", register(0), history((0, 9, "write", 1, None), (1, 2, "read", None, 1))),
    (
        "a lost write that took effect late",
        register(0),
        history((0, NEVER, "write", 1, UNKNOWN), (1, 2, "read", None, 0), (3, 4, "read", None, 1)),
    ),
    ("a lost write that never did", register(0), history((0, NEVER, "write", 1, UNKNOWN), (3, 4, "read", None, 0))),
    (
        "one of two wins",
        compare_and_set(0),
        history((0, 5, "cas", (0, 1), False), (0, 5, "cas", (0, 2), True), (6, 7, "read", None, 2)),
    ),
    (
        "appends beside each other",
        append_only_log(),
        history((0, 5, "append", "a", 1), (0, 5, "append", "b", 0), (6, 7, "read", 1, "a"), (6, 7, "read", 2, None)),
    ),
    (
        "a ref is made, moved and deleted",
        refs(),
        history((0, 1, "update", (None, "x"), True), (2, 3, "update", ("x", None), True), (4, 5, "read", None, None)),
    ),
]
REFUSED: list[tuple[str, Model, list[Operation]]] = [
    ("a stale read", register(0), history((0, 1, "write", 1, None), (2, 3, "read", None, 0))),
    (
        "time runs back between two reads",
        register(0),
        history((0, 9, "write", 1, None), (1, 2, "read", None, 1), (3, 4, "read", None, 0)),
    ),
    (
        "two winners",
        compare_and_set(0),
        history((0, 5, "cas", (0, 1), True), (0, 5, "cas", (0, 2), True)),
    ),
    ("an offset given twice", append_only_log(), history((0, 5, "append", "a", 0), (0, 5, "append", "b", 0))),
    ("a lost record", append_only_log(), history((0, 1, "append", "a", 0), (2, 3, "read", 0, None))),
    (
        "an update from what it no longer was",
        refs(),
        history((0, 1, "update", (None, "x"), True), (2, 3, "update", (None, "y"), True)),
    ),
    ("a value from nowhere", register(0), history((0, 1, "read", None, 7))),
]


@pytest.mark.parametrize(("model", "operations"), [one[1:] for one in ACCEPTED], ids=[one[0] for one in ACCEPTED])
def test_a_history_that_an_order_explains_is_accepted(model: Model, operations: list[Operation]) -> None:
    assert check(operations, model) is None


@pytest.mark.parametrize(("model", "operations"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_a_history_that_no_order_explains_is_refused(model: Model, operations: list[Operation]) -> None:
    violation = check(operations, model)
    assert violation is not None and violation.key == "k" and "not linearizable" in str(violation)


def test_keys_are_judged_one_by_one() -> None:
    good = history((0, 1, "write", 1, None), (2, 3, "read", None, 1), key="good")
    bad = history((0, 1, "write", 1, None), (2, 3, "read", None, 0), key="bad")
    assert check(good, register(0)) is None
    violation = check([*good, *bad], register(0))
    assert violation is not None and violation.key == "bad"


def explained(operations: list[Operation], model: Model) -> bool:
    """The definition itself: some order of some of the unknown and all of the known ones, tried one after the other."""
    known = [one for one in operations if one.result is not UNKNOWN]
    unknown = [one for one in operations if one.result is UNKNOWN]
    for chosen in range(1 << len(unknown)):
        some = known + [one for at, one in enumerate(unknown) if chosen >> at & 1]
        for order in permutations(some):
            in_time = all(
                order[later].returned_at >= order[earlier].called_at
                for earlier in range(len(order))
                for later in range(earlier + 1, len(order))
            )
            if in_time and follows(order, model):
                return True
    return False


def follows(order: tuple[Operation, ...], model: Model) -> bool:
    state = model.initial
    for one in order:
        right, state = model.step(state, one.name, one.argument, one.result)
        if not right:
            return False
    return True


calls = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.sampled_from([None, UNKNOWN])),
    st.tuples(st.just("read"), st.none(), st.integers(0, 2)),
    st.tuples(st.just("cas"), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from([True, False, UNKNOWN])),
)
spans = st.tuples(st.integers(0, 8), st.integers(0, 6))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(spans, calls), max_size=5))
def test_the_search_agrees_with_trying_every_order(seen: list[tuple[tuple[int, int], tuple[str, Any, Any]]]) -> None:
    operations = [
        Operation(number, "k", name, argument, start, result, NEVER if result is UNKNOWN else start + length)
        for number, ((start, length), (name, argument, result)) in enumerate(seen)
    ]
    assert (check(operations, compare_and_set(0)) is None) == explained(operations, compare_and_set(0))


def long_history(seed: int, operations: int, clients: int) -> History:
    """What clients of a real register see, each operation taking effect somewhere between its call and its return."""
    chance = random.Random(seed)
    made = History()
    state: dict[str, int] = {}
    busy: list[Operation] = []
    for now in range(operations * 2):
        if len(busy) < clients and chance.random() < 0.6:
            key, write = f"k{chance.randrange(4)}", chance.random() < 0.5
            busy.append(made.call(key, "write" if write else "read", now if write else None, at=now))
        elif busy:
            operation = busy.pop(chance.randrange(len(busy)))
            key = str(operation.key)
            if operation.name == "write":
                state[key] = operation.argument
            made.returned(operation, state.get(key) if operation.name == "read" else None, at=now)
    return made


def test_a_long_history_of_many_clients_is_decided_in_a_moment_and_one_wrong_read_is_found() -> None:
    made = long_history(1, 2000, 8)
    assert check(made, register()) is None
    reads = [one for one in made.operations if one.name == "read" and one.result is not UNKNOWN]
    reads[len(reads) // 2].result = -1
    assert check(made, register()) is not None


def test_an_operation_that_certainly_failed_is_taken_out() -> None:
    made = History()
    lost = made.call("k", "write", 1, at=0)
    made.failed(lost)
    made.returned(made.call("k", "read", at=1), None, at=2)
    assert check(made, register()) is None


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "STATES_MAX", 100)
    operations = [Operation(number, "k", "write", number, 0, None, 10) for number in range(12)]
    operations.append(Operation(99, "k", "read", None, 11, -1, 12))
    with pytest.raises(linear.Undecided):
        check(operations, register())
