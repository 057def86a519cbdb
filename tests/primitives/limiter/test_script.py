"""The Lua transcription says what the Python rules say: every verb, every algorithm, hierarchies, clocks set back."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.decide import Ask, Charge, Limit, answer
from mainspring.primitives.limiter.model import FRESH, State
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.redis import RedisStore
from tests.fixtures_cache import RedisServer
from tests.primitives.limiter import histories as draw

pytestmark = pytest.mark.redis

US = 1000
rules = draw.rules | st.builds(Penalty, st.integers(1, 3), st.sampled_from([1.0, 60.0]), st.just(1.0), st.just(8.0))


@st.composite
def conversations(draw_: st.DrawFn) -> tuple[list[Limit], list[tuple[int, str, int, int]]]:
    """Some limits, and asks as (microseconds since the one before, verb, amount, how long ago what it gives back was)."""
    limits = draw_(st.lists(st.builds(Limit, st.just("limit"), rules, st.booleans()), min_size=1, max_size=3))
    whole_us = max(draw.span(one.rule) if not isinstance(one.rule, Penalty) else 10**9 for one in limits) // US
    step = st.one_of(
        st.just(0), st.integers(0, whole_us // 4), st.integers(0, 2 * whole_us), st.just(-whole_us * 3 // 2)
    )
    verbs = ["hit", "hit", "hit", "peek", "adjust", "reset"]
    if all(isinstance(one.rule, Concurrency) for one in limits):
        verbs += ["release", "renew"]
    most = max(one.rule.most for one in limits)
    ask = st.tuples(step, st.sampled_from(verbs), st.integers(-most, most), st.one_of(st.just(0), step.map(abs)))
    return limits, draw_(st.lists(ask, max_size=25))


@draw.steady
@given(conversations())
def test_the_script_answers_as_the_rules_do(
    redis_server: RedisServer, conversation: tuple[list[Limit], list[tuple[int, str, int, int]]]
) -> None:
    asyncio.run(_compare(redis_server.url, *conversation))


async def _compare(url: str, limits: list[Limit], asks: list[tuple[int, str, int, int]]) -> None:
    now_us = draw.NEW_YEAR_NS // US
    store = RedisStore(url, VirtualClock(), deadline_s=30, prefix=f"script-{id(asks)}", time_us=lambda: now_us)
    charges = tuple(Charge(f"p/0/{at}/x", limit, "key") for at, limit in enumerate(limits))
    states: list[State] = [FRESH] * len(limits)
    lease, times = 0, [0]
    try:
        await store.ask(Ask(charges, "reset", 0))
        for step_us, verb, amount, at in asks:
            now_us += step_us
            if verb in ("hit", "peek"):
                amount = abs(amount) + 1
            elif verb in ("release", "renew"):
                amount = lease
            ask = Ask(charges, verb, amount, times[at % len(times)] if verb == "adjust" else 0)  # type: ignore[arg-type]
            ours = answer(ask, states, [now_us * US] * len(limits), now_us * US)
            theirs = await store.ask(ask)
            assert (theirs.allowed, theirs.at_ns) == (ours.allowed, ours.at_ns)
            assert list(theirs.verdicts) == list(ours.verdicts)
            states = list(ours.states)
            if verb == "hit":
                times.append(now_us * US)
                lease = max((one.lease for one in ours.verdicts), default=0) or lease
    finally:
        await store.stop()
