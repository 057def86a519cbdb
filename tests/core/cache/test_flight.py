"""Single flight, early refresh and stale while error, under a clock and chance of our own."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.cache import MemoryCache, SingleFlight
from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.ports import Cache
from mainspring.core.telemetry.metrics import Metrics


class Chance(Random):
    """Draws what it is told to."""

    def __init__(self, draw: float = 0.0) -> None:
        super().__init__()
        self.draw = draw

    def random(self) -> float:
        return self.draw


class Source:
    """Something slow to load: each load gives the next number, takes `took_s` and fails when told to."""

    def __init__(self, clock: VirtualClock, took_s: float = 0.0) -> None:
        self.loads = 0
        self.took_s = took_s
        self.error: Exception | None = None
        self._clock = clock

    async def __call__(self) -> bytes:
        self.loads += 1
        mine = self.loads
        if self.took_s:
            await self._clock.sleep(self.took_s)
        if self.error is not None:
            raise self.error
        return b"%d" % mine


def made(draw: float = 0.0, took_s: float = 0.0, **options: float) -> tuple[VirtualClock, SingleFlight, Source]:
    clock = VirtualClock()
    flight = SingleFlight(MemoryCache(clock), clock, random=Chance(draw), **options)  # type: ignore[arg-type]
    return clock, flight, Source(clock, took_s)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_who_miss_together_share_one_load() -> None:
    clock, flight, source = made(took_s=1)
    waiting = asyncio.gather(*(flight.get("key", source, 60) for _ in range(450)))
    await settle()
    await clock.advance(1)
    assert await waiting == [b"1"] * 450
    assert await flight.get("key", source, 60) == b"1"
    assert source.loads == 1


async def test_different_keys_load_at_the_same_time() -> None:
    clock, flight, source = made(took_s=1)
    waiting = asyncio.gather(flight.get("a", source, 60), flight.get("b", source, 60))
    await settle()
    await clock.advance(1)
    assert sorted(await waiting) == [b"1", b"2"]


async def test_a_value_is_loaded_again_when_it_is_no_longer_fresh() -> None:
    clock, flight, source = made()
    assert await flight.get("key", source, 60) == b"1"
    await clock.advance(59.9)
    assert await flight.get("key", source, 60) == b"1"
    await clock.advance(0.1)
    assert await flight.get("key", source, 60) == b"2"


async def test_a_failed_load_reaches_all_who_wait_and_is_not_remembered() -> None:
    clock, flight, source = made(took_s=1)
    source.error = LookupError("nothing there")
    waiting = asyncio.gather(*(flight.get("key", source, 60) for _ in range(5)), return_exceptions=True)
    await settle()
    await clock.advance(1)
    assert {type(answer) for answer in await waiting} == {LookupError}
    source.error, source.took_s = None, 0
    assert await flight.get("key", source, 60) == b"2"


async def test_the_old_value_is_given_where_loading_fails_but_only_for_so_long() -> None:
    clock, flight, source = made()
    assert await flight.get("key", source, 60, stale_s=30) == b"1"
    source.error = LookupError("away")
    await clock.advance(60)
    assert await flight.get("key", source, 60, stale_s=30) == b"1"
    await clock.advance(29.9)
    assert await flight.get("key", source, 60, stale_s=30) == b"1"
    await clock.advance(0.1)
    with pytest.raises(LookupError):
        await flight.get("key", source, 60, stale_s=30)
    assert flight.stale == 2


async def test_after_a_failure_the_old_value_is_given_at_once_for_a_while() -> None:
    clock, flight, source = made(error_pause_s=1)
    await flight.get("key", source, 60, stale_s=30)
    source.error = LookupError("away")
    await clock.advance(60)
    for _ in range(100):
        assert await flight.get("key", source, 60, stale_s=30) == b"1"
    assert source.loads == 2, "one attempt, not a hundred"
    source.error = None
    await clock.advance(1)
    assert await flight.get("key", source, 60, stale_s=30) == b"3"


async def test_a_load_that_hangs_is_ended() -> None:
    flight = SingleFlight(MemoryCache(VirtualClock()), VirtualClock(), load_s_max=0.01)
    with pytest.raises(TimeoutError):
        await flight.get("key", asyncio.Event().wait, 60)  # type: ignore[arg-type]


async def test_who_draws_an_early_refresh_still_gets_the_old_value_at_once() -> None:
    # With u = 1 - draw, the gap is -took * ln(u): here 2 s * 2.3 = 4.6 s before the end.
    clock, flight, source = made(draw=0.9, took_s=2)
    first = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await clock.advance(2)
    assert await first == b"1"
    await clock.advance(55)
    assert await flight.get("key", source, 60) == b"1"
    assert source.loads == 1, "five seconds before the end it is too early"
    await clock.advance(1)
    for _ in range(10):
        assert await flight.get("key", source, 60) == b"1"
    assert (source.loads, flight.early) == (1, 1)
    await settle()
    assert source.loads == 2, "one refresh, however many drew it"
    await clock.advance(2)
    assert await flight.get("key", source, 60) == b"2"


async def test_an_early_refresh_that_fails_is_tried_again_after_a_while_and_nobody_notices() -> None:
    clock, flight, source = made(draw=0.999999, took_s=1, error_pause_s=1)
    first = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await clock.advance(1)
    await first
    source.error = LookupError("away")
    await clock.advance(50)
    for _ in range(20):
        assert await flight.get("key", source, 60) == b"1"
        await clock.advance(0.1)
    assert (flight.failures, flight.stale) == (1, 0)
    await flight.stop()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(), took_s=st.floats(0.01, 5))
async def test_a_popular_value_is_refreshed_before_it_expires(seed: int, took_s: float) -> None:
    clock = VirtualClock()
    flight = SingleFlight(MemoryCache(clock), clock, random=Random(seed), beta=2)
    source = Source(clock)

    async def load() -> bytes:
        await clock.sleep(took_s)
        return await source()

    first = asyncio.ensure_future(flight.get("key", load, 60))
    await settle()
    await clock.advance(took_s)
    await first
    await clock.advance(60 - 10 * took_s)
    for _ in range(500):
        reader = asyncio.ensure_future(flight.get("key", load, 60))
        await settle()
        assert reader.done(), "a reader waited"
        if flight.loads > 1:
            break
        await clock.advance(took_s / 50)
    assert flight.early == 1
    await flight.stop()


async def test_what_is_forgotten_during_a_load_is_not_kept() -> None:
    clock, flight, source = made(took_s=1)
    old = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await flight.forget("key")
    new = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await clock.advance(1)
    assert (await old, await new) == (b"1", b"2")
    assert await flight.get("key", source, 60) == b"2"


class SlowToStore:
    """A cache whose `set` takes a while, as over a network."""

    def __init__(self, cache: Cache) -> None:
        self.storing, self.go_on = asyncio.Event(), asyncio.Event()
        self.get, self.delete = cache.get, cache.delete
        self._set: Callable[..., Awaitable[None]] = cache.set

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        self.storing.set()
        await self.go_on.wait()
        await self._set(key, value, ttl_s)


async def test_what_is_forgotten_while_it_is_being_stored_is_not_kept() -> None:
    clock = VirtualClock()
    slow = SlowToStore(MemoryCache(clock))
    flight = SingleFlight(slow, clock)  # type: ignore[arg-type]
    source = Source(clock)
    reader = asyncio.ensure_future(flight.get("key", source, 60))
    await slow.storing.wait()
    await flight.forget("key")
    slow.go_on.set()
    assert await reader == b"1"
    assert await slow.get("key") is None


class SlowToAnswer:
    """A cache whose answers are on their way for a while."""

    def __init__(self, cache: Cache) -> None:
        self.answers = asyncio.Semaphore(0)
        self.set, self.delete = cache.set, cache.delete
        self._get: Callable[[str], Awaitable[bytes | None]] = cache.get

    async def get(self, key: str) -> bytes | None:
        answer = await self._get(key)
        await self.answers.acquire()
        return answer


async def test_who_hears_of_the_miss_only_after_the_load_does_not_load_again() -> None:
    clock = VirtualClock()
    slow = SlowToAnswer(MemoryCache(clock))
    flight, source = SingleFlight(slow, clock), Source(clock)  # type: ignore[arg-type]
    readers = [asyncio.ensure_future(flight.get("key", source, 60)) for _ in range(3)]
    await settle()
    for _ in readers:
        slow.answers.release()
        await settle()
    assert await asyncio.gather(*readers) == [b"1"] * 3
    late = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await flight.forget("key")
    slow.answers.release()
    assert await late == b"1", "what the cache said before"
    assert not flight._landed and not flight._asking


async def test_what_is_forgotten_is_not_given_to_who_waits_for_the_caches_answer() -> None:
    clock = VirtualClock()
    slow = SlowToAnswer(MemoryCache(clock))
    flight, source = SingleFlight(slow, clock), Source(clock)  # type: ignore[arg-type]
    first, second = (asyncio.ensure_future(flight.get("key", source, 60)) for _ in range(2))
    await settle()
    slow.answers.release()
    assert await first == b"1"
    await flight.forget("key")
    slow.answers.release()
    assert await second == b"2"


async def test_a_caller_who_gives_up_does_not_end_the_load_of_the_others() -> None:
    clock, flight, source = made(took_s=1)
    impatient = asyncio.ensure_future(flight.get("key", source, 60))
    patient = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    impatient.cancel()
    await clock.advance(1)
    assert await patient == b"1"
    assert impatient.cancelled()


async def test_bytes_of_somebody_else_under_the_key_are_a_miss() -> None:
    clock = VirtualClock()
    cache = MemoryCache(clock)
    flight, source = SingleFlight(cache, clock), Source(clock)
    for foreign in (b"", b"text", b"\x93\x01", b"\x94\x09\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x00\xc4\x01x"):
        await cache.set("key", foreign, 60)
        assert await flight.get("key", source, 60) == b"%d" % source.loads
        await flight.forget("key")


async def test_stopping_ends_what_is_being_loaded() -> None:
    _, flight, source = made(took_s=10**9)
    reader = asyncio.ensure_future(flight.get("key", source, 60))
    await settle()
    await flight.stop()
    await asyncio.wait([reader])
    assert reader.cancelled()


async def test_it_works_over_any_cache(cache: Cache) -> None:
    flight = SingleFlight(cache, SystemClock())
    source = Source(VirtualClock())
    assert await asyncio.gather(*(flight.get("key", source, 3600) for _ in range(20))) == [b"1"] * 20
    other = SingleFlight(cache, SystemClock())
    assert await other.get("key", source, 3600) == b"1"
    await other.forget("key")
    assert await flight.get("key", source, 3600) == b"2"


async def test_what_it_did_is_on_the_metrics_page() -> None:
    clock, metrics = VirtualClock(), Metrics()
    flight = SingleFlight(MemoryCache(clock), clock, name="links", metrics=metrics)
    await flight.get("key", Source(clock), 60)
    assert 'single_flight_loads_total{flight="links"} 1' in metrics.exposition().decode()
