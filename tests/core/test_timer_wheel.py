"""The timer wheel against a sorted list, and its driver on a virtual clock."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.core.timer_wheel import LEVELS, SLOTS, TICK_MS, Timers, TimerWheel

FAR_MS = TICK_MS * SLOTS**LEVELS
DELAYS = st.one_of(st.integers(0, 200), st.integers(0, 100_000), st.integers(0, 2 * FAR_MS))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.tuples(DELAYS, DELAYS, st.booleans()), max_size=40))
def test_every_timer_fires_once_never_early_and_at_most_a_tick_late(start_ms, steps):
    wheel, now_ms = TimerWheel(start_ms), start_ms
    waiting, fired = {}, []
    for number, (delay_ms, step_ms, cancels) in enumerate(steps):
        timer = wheel.add(now_ms + delay_ms, lambda number=number: number)
        if cancels:
            timer.cancel()
        else:
            waiting[number] = now_ms + delay_ms
        now_ms += step_ms
        due = [one.call() for one in wheel.advance(now_ms)]
        fired += due
        assert len(set(fired)) == len(fired)
        for one in due:
            assert waiting.pop(one) <= now_ms
        assert all(at_ms > now_ms - 2 * TICK_MS for at_ms in waiting.values())
    upcoming = wheel.next_ms()
    assert upcoming is None or not waiting or upcoming <= min(waiting.values()) + 2 * TICK_MS


async def test_the_driver_calls_in_order_of_time_and_wakes_for_an_earlier_timer():
    clock, called = VirtualClock(), []
    timers = Timers(clock)
    await timers.start()
    timers.call_after(60_000, lambda: called.append("late"))
    await clock.advance(0.001)
    timers.call_after(100, lambda: called.append("soon"))
    cancelled = timers.call_after(200, lambda: called.append("never"))
    cancelled.cancel()
    await clock.advance(1)
    assert called == ["soon"]
    await clock.advance(60)
    assert called == ["soon", "late"]
    await timers.stop()


async def test_a_call_that_fails_does_not_stop_the_others(caplog):
    clock, called = VirtualClock(), asyncio.Event()
    timers = Timers(clock)
    await timers.start()
    timers.call_after(10, lambda: 1 // 0)
    timers.call_after(40, called.set)
    await clock.advance(1)
    assert called.is_set()
    assert "a timer's call failed" in caplog.text
    await timers.stop()
