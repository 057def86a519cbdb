"""What only the cache in process promises: a bound in bytes, and the clock it is given."""

from mainspring.core.cache import MemoryCache
from mainspring.core.cache.memory import ENTRY_BYTES
from mainspring.core.clock import VirtualClock
from mainspring.core.telemetry.metrics import Metrics


async def test_it_never_takes_more_bytes_than_it_may() -> None:
    cache = MemoryCache(VirtualClock(), bytes_max=10_000)
    for n in range(500):
        await cache.set(f"key {n}", bytes(n), 60)
        await cache.increment(f"counter {n}", ttl_s=60)
        assert cache.size_bytes <= 10_000
    assert cache.evictions > 0


async def test_a_value_that_alone_is_over_the_bound_is_dropped_and_counted() -> None:
    cache = MemoryCache(VirtualClock(), bytes_max=ENTRY_BYTES + 200)
    await cache.set("key", bytes(50), 60)
    await cache.set("key", bytes(500), 60)
    assert await cache.get("key") is None
    assert cache.counts.drops == 1


async def test_a_value_lives_exactly_as_long_as_the_clock_says() -> None:
    clock = VirtualClock()
    cache = MemoryCache(clock)
    await cache.set("key", b"value", 1.5)
    await cache.increment("n", 7, ttl_s=2)
    await clock.advance(1.499)
    assert await cache.get("key") == b"value"
    await clock.advance(0.001)
    assert await cache.get("key") is None
    assert await cache.increment("n", ttl_s=2) == 8
    await clock.advance(0.5)
    assert await cache.increment("n", ttl_s=2) == 1, "its time began with the first count"


async def test_stepping_the_wall_clock_changes_nothing() -> None:
    clock = VirtualClock()
    cache = MemoryCache(clock)
    await cache.set("key", b"value", 1)
    clock.set_wall(clock.wall_ns() + 10**18)
    assert await cache.get("key") == b"value"


async def test_a_lock_ends_with_its_time() -> None:
    clock = VirtualClock()
    cache = MemoryCache(clock)
    async with cache.best_effort_lock("work", 10) as first:
        await clock.advance(10)
        async with cache.best_effort_lock("work", 10) as second:
            assert first and second


async def test_the_figures_an_operator_asks_for_are_on_the_metrics_page() -> None:
    metrics = Metrics()
    cache = MemoryCache(VirtualClock(), bytes_max=2_000, metrics=metrics)
    for n in range(20):
        await cache.set(f"key {n}", b"", 60)
    await cache.get("key 19")
    await cache.get("nothing")
    page = metrics.exposition().decode()
    assert 'cache_hits_total{cache="memory"} 1' in page
    assert 'cache_misses_total{cache="memory"} 1' in page
    assert f'cache_bytes{{cache="memory"}} {cache.size_bytes}' in page
    assert f'cache_evictions_total{{cache="memory"}} {cache.evictions}' in page


async def test_stopping_ends_subscriptions() -> None:
    cache = MemoryCache(VirtualClock())
    async with cache.subscribe("news") as news:
        await cache.stop()
        assert [message async for message in news] == []
