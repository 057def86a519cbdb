"""The minter's rules, against clocks that do anything and beside a model that is obviously right."""

import os
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.primitives.ids import (
    LAYOUTS,
    MAINSPRING,
    BadCount,
    ClockBehind,
    Layout,
    Minter,
    NotReserved,
    TooFast,
)
from mainspring.primitives.ids.chance import Chance

MS = 1_000_000
START_MS = 1_767_225_600_000


def at(ms: int) -> VirtualClock:
    return VirtualClock(wall_ns=ms * MS)


def set_ms(clock: VirtualClock, ms: int) -> None:
    clock.set_wall(ms * MS)


def minter(clock: VirtualClock, *, low: int = START_MS - 1, high: int = START_MS + 3_000, worker: int = 7) -> Minter:
    return Minter(MAINSPRING, worker, clock, low, high)


def tick_of(value: int) -> int:
    return MAINSPRING.at_ms(value)


def test_an_id_holds_its_millisecond_its_worker_and_a_sequence_that_starts_low_at_random() -> None:
    starts = set()
    for seed in range(64):
        mint = Minter(
            MAINSPRING, 7, at(START_MS), 0, START_MS + 1, chance=Chance(lambda n, seed=seed: bytes([seed]) * n)
        )
        tick, worker, sequence = MAINSPRING.split(mint.next())
        assert (tick + MAINSPRING.epoch_ms, worker) == (START_MS, 7)
        starts.add(sequence)
    assert starts == set(range(16))


def test_ids_of_one_millisecond_count_up_by_one() -> None:
    mint = minter(at(START_MS))
    ids = [mint.next() for _ in range(100)]
    assert ids == list(range(ids[0], ids[0] + 100))


def test_a_full_millisecond_goes_on_in_the_next_one() -> None:
    mint = minter(at(START_MS))
    ids = [mint.next() for _ in range(4_096 + 10)]
    assert len(set(ids)) == len(ids) and ids == sorted(ids)
    assert {tick_of(one) for one in ids} == {START_MS, START_MS + 1}


def test_logical_time_runs_ahead_by_one_second_and_no_more() -> None:
    clock = at(START_MS)
    mint = minter(clock, high=START_MS + 10_000)
    mint.take(1_000_000)
    mint.take(1_000_000)
    mint.take(1_000_000)
    mint.take(1_000_000)
    with pytest.raises(TooFast) as refused:
        mint.take(1_000_000)
    assert refused.value.retry_after_ms > 0
    assert mint.ahead_ms <= 1_000
    set_ms(clock, START_MS + refused.value.retry_after_ms)
    assert len(mint.take(1_000_000)) == 1_000_000


def test_a_refused_take_mints_nothing() -> None:
    mint = minter(at(START_MS), high=START_MS + 10)
    first = mint.next()
    with pytest.raises(NotReserved):
        mint.take(100_000)
    assert mint.next() == first + 1
    assert mint.minted == 2


def test_a_clock_set_back_is_waited_out_at_the_last_millisecond() -> None:
    clock = at(START_MS)
    mint = minter(clock)
    ids = [mint.next()]
    set_ms(clock, START_MS - 4_990)
    ids += [mint.next() for _ in range(5_000)]
    assert ids == sorted(set(ids))
    assert [tick_of(one) for one in ids[:4_000]] == [START_MS] * 4_000
    assert tick_of(ids[-1]) == START_MS + 1


def test_five_seconds_of_drift_are_too_much_and_pass_by_themselves() -> None:
    clock = at(START_MS)
    mint = minter(clock)
    first = mint.next()
    set_ms(clock, START_MS - 5_001)
    with pytest.raises(ClockBehind) as refused:
        mint.next()
    assert refused.value.behind_ms == 5_001
    with pytest.raises(ClockBehind):
        mint.take(10)
    set_ms(clock, START_MS - 5_000)
    assert mint.next() == first + 1


def test_a_range_is_never_left() -> None:
    clock = at(START_MS)
    mint = minter(clock, low=START_MS + 1, high=START_MS + 2)
    ids = [mint.next() for _ in range(4_096)]
    assert {tick_of(one) for one in ids} == {START_MS + 2}
    with pytest.raises(NotReserved):
        mint.next()
    set_ms(clock, START_MS + 5)
    with pytest.raises(NotReserved):
        mint.next()
    mint.extend(START_MS + 5)
    assert tick_of(mint.next()) == START_MS + 5


def test_a_minter_that_was_closed_mints_only_after_its_next_grant() -> None:
    clock = at(START_MS)
    mint = minter(clock)
    last = mint.next()
    assert mint.close() == START_MS
    for call in (mint.next, lambda: mint.take(1), lambda: mint.extend(START_MS + 9) or mint.next()):
        with pytest.raises(NotReserved):
            call()
    mint.grant(3, START_MS - 1_000, START_MS + 3_000)
    assert mint.next() > last


def test_ids_go_on_increasing_under_a_lower_worker_number() -> None:
    mint = minter(at(START_MS), worker=1_023)
    last = mint.take(10)[-1]
    mint.grant(0, START_MS - 500, START_MS + 3_000)
    assert mint.next() > last
    assert mint.worker == 0


def test_two_owners_of_one_worker_mint_disjoint_milliseconds_whatever_their_clocks_say() -> None:
    here, there = at(START_MS), at(START_MS - 3_000)
    first = minter(here)
    second = minter(there, low=START_MS + 3_000, high=START_MS + 6_000)
    with pytest.raises(ClockBehind):
        second.next()
    set_ms(there, START_MS + 2_000)
    assert {tick_of(one) for one in first.take(4_000)}.isdisjoint(tick_of(one) for one in second.take(4_000))


@pytest.mark.parametrize("count", [0, -1, 1_000_001, 1.0, "1", None, True])
def test_a_count_that_is_none_is_refused(count: object) -> None:
    with pytest.raises(BadCount):
        minter(at(START_MS)).take(count)  # type: ignore[arg-type]


def test_a_worker_that_does_not_fit_the_layout_is_refused() -> None:
    for worker in (-1, 1_024):
        with pytest.raises(ValueError):
            Minter(MAINSPRING, worker, at(START_MS), 0, START_MS)


def test_a_time_field_that_is_used_up_refuses_and_never_wraps() -> None:
    layout = Layout(epoch_ms=START_MS, time=10, worker=2, sequence=2)
    mint = Minter(layout, 3, at(START_MS + 1_023), 0, START_MS + 9_000)
    assert [layout.split(one)[:2] for one in mint.take(2)] == [(1_023, 3)] * 2
    with pytest.raises(NotReserved, match="used up"):
        mint.take(10)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_named_layout_mints_what_it_can_take_apart(name: str) -> None:
    layout = LAYOUTS[name]
    clock = at(START_MS)
    worker = min(5, layout.worker_max)
    mint = Minter(layout, worker, clock, START_MS - 1_000, START_MS + 3_000)
    ids = [mint.next() for _ in range(layout.sequence_max + 2)] + mint.take(3 * layout.sequence_max)
    assert ids == sorted(set(ids))
    for one in ids:
        tick, who, sequence = layout.split(one)
        assert layout.join(tick, who, sequence) == one and who == worker
        assert START_MS - layout.tick_ms < layout.at_ms(one) <= START_MS + 1_000
        assert one < 1 << 63


def test_what_was_minted_is_counted() -> None:
    clock = at(START_MS)
    mint = minter(clock)
    for _ in range(3):
        mint.next()
    mint.take(10_000)
    set_ms(clock, START_MS + 500)
    mint.next()
    mint.grant(8, START_MS + 3_000, START_MS + 9_000)
    set_ms(clock, START_MS + 4_000)
    mint.next()
    assert mint.minted == 10_005


class Model:
    """The specification, word for word, one id at a time and slowly."""

    def __init__(self, low: int, high: int) -> None:
        self.last, self.peak, self.high, self.sequence = low, low, high, 4_095

    def next(self, wall: int, start: int) -> tuple[int, int]:
        self.peak = max(self.peak, wall)
        if wall > self.last:
            self.last, self.sequence = wall, start - 1
        if self.last - wall > 5_000:
            raise ClockBehind(self.last - wall)
        after, sequence = (self.last, self.sequence + 1) if self.sequence < 4_095 else (self.last + 1, 0)
        if after > self.peak + 1_000:
            raise TooFast(after - self.peak - 1_000)
        if after > self.high:
            raise NotReserved("")
        self.last, self.sequence = after, sequence
        return after, sequence


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("wall"), st.integers(-7_000, 7_000)),
            st.tuples(st.just("mint"), st.sampled_from([1, 2, 50, 5_000])),
            st.tuples(st.just("extend"), st.integers(0, 4_000)),
        ),
        max_size=40,
    ),
    st.integers(-2_000, 2_000),
)
def test_the_minter_does_what_the_specification_says_whatever_the_clock_does(
    steps: list[tuple[str, int]], low: int
) -> None:
    clock = at(START_MS)
    high = START_MS + low + 3_000
    mint = Minter(MAINSPRING, 7, clock, START_MS + low, high, chance=Chance(lambda count: bytes(count)))
    model = Model(START_MS + low, high)
    wall = START_MS
    given_ids: list[int] = []
    for step, number in steps:
        if step == "wall":
            wall += number
            set_ms(clock, wall)
        elif step == "extend":
            model.high = max(model.high, model.high + number - 500)
            mint.extend(model.high)
        else:
            for _ in range(number):
                try:
                    expected: object = model.next(wall, 0)
                except (ClockBehind, TooFast, NotReserved) as error:
                    expected = type(error)
                try:
                    one = mint.next()
                    tick, worker, sequence = MAINSPRING.split(one)
                    given_ids.append(one)
                    found: object = (tick + MAINSPRING.epoch_ms, sequence)
                    assert worker == 7
                except (ClockBehind, TooFast, NotReserved) as error:
                    found = type(error)
                assert found == expected
                if isinstance(found, type):
                    break
    assert given_ids == sorted(set(given_ids))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-3_000, 3_000), st.integers(0, 9_000)), min_size=1, max_size=30), st.data())
def test_taking_many_at_once_is_minting_one_by_one(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    clock = at(START_MS)
    mint = minter(clock, high=START_MS + 50_000)
    ids: list[int] = []
    wall = START_MS
    for move, count in steps:
        wall += move
        set_ms(clock, wall)
        try:
            if not count:
                ids.append(mint.next())
            elif data.draw(st.booleans()):
                ids += mint.take(count)
            else:
                for first, size in mint.runs(count):
                    ids += range(first, first + size)
        except (ClockBehind, TooFast, NotReserved):
            continue
    assert ids == sorted(set(ids))
    assert mint.minted == len(ids)


def test_threads_share_a_minter_without_a_lock() -> None:
    mint = Minter(MAINSPRING, 7, SystemClock(), 0, 1 << 42)
    found: list[list[int]] = [[] for _ in range(4)]

    def work(mine: list[int]) -> None:
        for turn in range(20_000):
            try:
                mine.extend(mint.take(3) if turn % 50 == 0 else [mint.next()])
            except TooFast:
                continue

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    everything = [one for mine in found for one in mine]
    assert len(set(everything)) == len(everything)
    assert mint.minted == len(everything)
    for mine in found:
        assert mine == sorted(mine)


def test_an_interpreter_without_a_global_lock_mints_under_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    mint = minter(at(START_MS))
    assert mint.next.__name__ == "next_locked"
    assert mint.next() + 1 == mint.next()


def test_a_forked_child_mints_only_after_it_has_a_range_of_its_own() -> None:
    clock = at(START_MS)
    mint = minter(clock)
    mint.next()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            mint.next()
            answer = b"minted"
        except NotReserved as error:
            mint.grant(9, START_MS, START_MS + 3_000)
            answer = f"{error.detail} then {mint.next() >> 12 & 1023}".encode()
        os.write(write, answer)
        os._exit(0)
    os.close(write)
    answer = os.read(read, 1_000).decode()
    os.close(read)
    os.waitpid(child, 0)
    assert "fork" in answer and answer.endswith("then 9")
    assert mint.next()
