"""The in-process store: its quick paths are the rules, and its memory is bounded whatever keys come."""

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.primitives.limiter import BadCost, BadKey, MemoryLimiter, Policy, UnknownPolicy
from mainspring.primitives.limiter.decide import Ask, Charge, Limit, answer
from mainspring.primitives.limiter.model import FRESH, Rule, State
from mainspring.primitives.limiter.policies import Clause
from mainspring.primitives.limiter.sketch import Sketch
from mainspring.primitives.limiter.wheel import Wheel
from tests.primitives.limiter import histories as draw

S = 10**9
Hits = list[tuple[int, int]]


class Stepped(VirtualClock):
    """A clock for code that does not await."""

    def step(self, ns: int) -> None:
        self._mono_ns += ns


@draw.steady
@given(draw.histories(draw.timed | draw.slots, length=60), st.data())
def test_the_quick_paths_decide_and_report_as_the_rule_does(history: tuple[Rule, Hits], data: st.DataObject) -> None:
    rule, hits = history
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, api=rule)
    states: dict[str, State] = {}
    for step_ns, cost in hits:
        clock.step(step_ns)
        key = data.draw(st.sampled_from(["a", "b", "k" * 200]))
        cost = data.draw(st.sampled_from([1, 1, 1, cost]))
        states[key], verdict = rule.hit(states.get(key, FRESH), clock.mono_ns(), cost)
        decision = limiter.hit("api", key, cost)
        assert decision.allowed == verdict.allowed
        assert list(decision.verdicts) == [verdict]
        assert decision.at_ns == clock.mono_ns()


@draw.steady
@given(st.data())
def test_several_limits_are_decided_as_one_question_to_the_rules(data: st.DataObject) -> None:
    rules = data.draw(st.lists(draw.timed | draw.slots, min_size=2, max_size=3))
    limits = [Limit(str(at), rule) for at, rule in enumerate(rules)]
    charges = tuple(Charge("", limit, "user") for limit in limits)
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, api=Policy((tuple(Clause(rule) for rule in rules),)))  # type: ignore[arg-type]
    states: tuple[State, ...] = (FRESH,) * len(rules)
    for _ in range(data.draw(st.integers(0, 40))):
        clock.step(data.draw(draw.steps(rules[0])))
        now_ns = clock.mono_ns()
        cost = data.draw(st.integers(1, min(rule.most for rule in rules)))
        expected = answer(Ask(charges, "hit", cost), states, [now_ns] * len(rules), now_ns)
        states = expected.states
        decision = limiter.hit("api", "user", cost)
        assert decision.allowed == expected.allowed
        assert list(decision.verdicts) == list(expected.verdicts)


@draw.steady
@given(draw.histories(draw.timed, length=80))
def test_a_store_that_is_full_never_admits_more_than_the_bound(history: tuple[Rule, Hits]) -> None:
    rule, hits = history
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, max_keys=2, api=rule)
    passed: dict[str, list[tuple[int, int]]] = {}
    for at, (step_ns, cost) in enumerate(hits):
        clock.step(step_ns)
        key = f"key-{at % 5}"
        if limiter.hit("api", key, cost):
            passed.setdefault(key, []).append((clock.mono_ns(), cost))
    for admitted in passed.values():
        draw.assert_bound(rule, admitted)


@pytest.mark.parametrize("text", ["5/minute", "fixed 5/minute", "token 5/minute", "log 5/minute", "5/day UTC"])
def test_a_flood_of_keys_costs_bounded_memory_and_takes_nobodys_state(text: str) -> None:
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, max_keys=2_000, api=text)
    for _ in range(3):
        assert limiter.hit("api", "legitimate")
    for number in range(20_000):
        clock.step(S // 10_000)
        limiter.hit("api", f"flood {number}")
    assert len(limiter) <= 2_000 + 65_536  # the shared states of the log and the quota
    assert limiter.peek("api", "legitimate").remaining == 1
    assert limiter.hit("api", "legitimate") and limiter.hit("api", "legitimate")
    assert not limiter.hit("api", "legitimate")


@pytest.mark.parametrize("text", ["5/minute", "fixed 5/minute", "token 5/minute", "log 5/minute"])
def test_a_flood_of_keys_is_limited_and_never_admitted_free(text: str) -> None:
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, max_keys=100, api=text)
    for number in range(100):
        limiter.hit("api", f"first {number}")
    admitted = sum(bool(limiter.hit("api", f"flood {number % 3}")) for number in range(3_000))
    assert admitted <= 15


@pytest.mark.parametrize("text", ["5/minute", "fixed 5/minute", "token 5/minute", "log 5/minute", "5/day UTC"])
def test_states_that_mean_nothing_any_more_are_forgotten(text: str) -> None:
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, api=text)
    for number in range(3_000):
        limiter.hit("api", f"key {number}")
    assert len(limiter) == 3_000
    for _ in range(60):
        clock.step(3 * 86_400 * S)
        limiter.sweep()
    assert len(limiter) == 0


@pytest.mark.parametrize("text", ["5/minute", "fixed 5/minute", "token 5/minute", "leaky 5/s queue 4", "5/day UTC"])
def test_a_key_costs_at_most_200_bytes(text: str) -> None:
    limiter = MemoryLimiter(max_keys=10**9, api=text)
    keys = [f"user:{number:07}" for number in range(15_000)]
    limiter.hit("api", "somebody")
    tracemalloc.start()
    try:
        for key in keys:
            limiter.hit("api", key)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(keys) + sys.getsizeof(keys[0]) <= 200


def test_a_smaller_burst_does_not_lock_out_who_has_spent_a_greater_one() -> None:
    clock = Stepped(mono_ns=S)
    limiter = MemoryLimiter(clock, api="10/s burst 1000")
    limiter.hit("api", "user", 1000)
    limiter.define("api", "10/s burst 10")
    assert not limiter.hit("api", "user")
    clock.step(3 * S)
    assert limiter.hit("api", "user")


@pytest.mark.parametrize("text", ["5/minute", "fixed 5/minute", "token 5/minute", "log 5/minute", "5/day UTC"])
def test_sweeping_at_any_time_forgets_nothing_that_still_matters(text: str) -> None:
    clock = Stepped(mono_ns=draw.NEW_YEAR_NS)
    limiter = MemoryLimiter(clock, api=text)
    limiter.hit("api", "user", 5)
    for _ in range(10):
        clock.step(S // 10)
        limiter.sweep()
    assert not limiter.hit("api", "user")


def test_overrides_and_shadow_work_without_the_loop_too() -> None:
    limiter = MemoryLimiter(Stepped(mono_ns=S), api="1/minute", quiet="1/minute shadow")
    limiter.override("api", "vip", "3/minute")
    assert [bool(limiter.hit("api", "vip")) for _ in range(4)] == [True] * 3 + [False]
    assert [bool(limiter.hit("api", "user")) for _ in range(2)] == [True, False]
    limiter.restore("api", "vip")
    assert not limiter.hit("api", "vip")
    assert [bool(limiter.hit("quiet", "user")) for _ in range(3)] == [True] * 3


def test_the_synchronous_face() -> None:
    limiter = MemoryLimiter(Stepped(mono_ns=S), login="5/minute", pair="2/minute > 3/minute")
    allow = limiter.bound("login")
    assert allow("user") and limiter.peek("login", "user").remaining == 3
    limiter.refund("login", "user")
    reserved = limiter.hit("login", "user", 4)
    limiter.settle(reserved, 1)
    assert limiter.peek("login", "user", 4)
    limiter.reset("login", "user")
    assert limiter.hit("login", "user", 5)
    assert limiter.hit("pair", ["user", "tenant"]) and limiter.hit("pair", ("user", "tenant"))
    assert not limiter.hit("pair", ["user", "tenant"])
    with pytest.raises(UnknownPolicy):
        limiter.hit("nothing", "user")
    with pytest.raises(UnknownPolicy):
        limiter.bound("nothing")
    with pytest.raises(BadKey):
        limiter.hit("login", 7)  # type: ignore[arg-type]


def test_nothing_is_given_back_by_an_amount_that_is_none() -> None:
    limiter = MemoryLimiter(Stepped(mono_ns=S), api="10/minute")
    reserved, spent = limiter.hit("api", "user", 4), limiter.hit("api", "user", 3)
    assert spent
    for wrong in (-1, 1.5, "1", None, True):
        with pytest.raises(BadCost):
            limiter.settle(reserved, wrong)  # type: ignore[arg-type]
        with pytest.raises(BadCost):
            limiter.refund("api", "user", wrong)  # type: ignore[arg-type]
    with pytest.raises(BadCost):
        limiter.refund("api", "user", 0)
    assert limiter.peek("api", "user").remaining == 2
    limiter.settle(reserved, 0)
    assert limiter.peek("api", "user").remaining == 6


def test_a_policy_may_be_a_policy() -> None:
    limiter = MemoryLimiter(api=Policy(((Clause(draw.TokenBucket(1, per=60)),),)))
    assert limiter.hit("api", "user") and not limiter.hit("api", "user")


@draw.steady
@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 100))))
def test_a_sketch_never_reads_less_than_was_put_in(puts: list[tuple[str, int]]) -> None:
    sketch, highest = Sketch(), dict.fromkeys("abcdefghij", 0)
    for key, value in puts:
        sketch.raise_to(key, value)
        highest[key] = max(highest[key], value)
    assert all(sketch.read(key) >= value for key, value in highest.items())


@draw.steady
@given(st.integers(1, 10**13), st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 3 * 10**13)), max_size=30))
def test_the_wheel_gives_every_key_once_and_none_before_its_slot(horizon_ns: int, adds: list[tuple[int, int]]) -> None:
    now_ns, wheel = 0, Wheel[int](horizon_ns, 0)
    expires: dict[int, int] = {}
    taken: list[int] = []
    for key, (step_ns, ahead_ns) in enumerate(adds):
        now_ns += step_ns
        taken += wheel.take(now_ns, 1_000)
        expires[key] = now_ns + ahead_ns
        wheel.add(key, expires[key])
        assert all(expires[one] <= now_ns or expires[one] - now_ns > horizon_ns // 2 for one in taken[-1:])
    for _ in range(4):
        now_ns += max(horizon_ns, 10**9) * 4
        taken += wheel.take(now_ns, 1_000)
    assert sorted(taken) == sorted(expires)
