"""What happens to the callers of a Redis that goes away, comes back, or answers nonsense."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mainspring.core.problems import Unavailable
from tests.fixtures_cache import PATIENCE_S, RedisServer
from tests.needs import need_module
from tests.waiting import until

need_module("redis")
from mainspring.core.cache.redis import RedisCache  # noqa: E402  only where its library is there

pytestmark = pytest.mark.redis
HOUR_S = 3600.0


@pytest.fixture
def server() -> AsyncIterator[RedisServer]:
    """A server of this test's own, to be killed."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisCache]:
    cache = RedisCache(server.url, timeout_s=PATIENCE_S)
    yield cache
    await cache.stop()


async def test_without_the_server_it_is_an_empty_cache_that_counts(server: RedisServer, cache: RedisCache) -> None:
    await cache.set("key", b"value", HOUR_S)
    server.kill()
    assert await cache.get("key") is None
    await cache.set("key", b"value", HOUR_S)
    assert not await cache.add("key", b"value", HOUR_S)
    await cache.delete("key")
    await cache.publish("news", b"")
    async with cache.best_effort_lock("work", HOUR_S) as got:
        assert not got
    with pytest.raises(Unavailable):
        await cache.increment("n", ttl_s=HOUR_S)
    assert cache.counts.errors == 7
    assert cache.counts.drops == 3


async def test_an_address_where_nobody_ever_was_is_an_empty_cache_too() -> None:
    cache = RedisCache("unix:///nonexistent/redis.sock")
    assert await cache.get("key") is None
    async with cache.subscribe("news") as news:
        await cache.stop()
        assert [message async for message in news] == []


async def test_a_server_that_comes_back_is_used_again(server: RedisServer, cache: RedisCache) -> None:
    await cache.set("key", b"value", HOUR_S)
    server.kill()
    assert await cache.get("key") is None
    server.start()

    async def is_back() -> bool:
        await cache.set("key", b"again", HOUR_S)
        return await cache.get("key") == b"again"

    await until(is_back)
    assert await cache.increment("n", ttl_s=HOUR_S) == 1, "scripts are loaded again"


async def test_while_it_rests_calls_fail_without_touching_the_network(server: RedisServer, cache: RedisCache) -> None:
    server.kill()
    resting = Rest()
    cache._clock = resting
    assert await cache.get("key") is None
    server.start()
    assert await cache.get("key") is None, "the clock stands still, so the back-off has not passed"
    resting.now_ns += 10**9
    await cache.set("key", b"value", HOUR_S)
    assert await cache.get("key") == b"value"


class Rest:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()

    def wall_ns(self) -> int:
        return self.now_ns

    def mono_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_subscription_goes_on_after_the_server_was_away(server: RedisServer, cache: RedisCache) -> None:
    async with asyncio.timeout(2 * PATIENCE_S), cache.subscribe("news") as news:
        await cache.publish("news", b"before")
        assert await anext(news) == b"before"
        server.kill()
        server.start()
        waiting = asyncio.ensure_future(anext(news))

        async def is_heard() -> bool:
            await cache.publish("news", b"after")
            return waiting.done()

        await until(is_heard)
        assert await waiting == b"after"


async def test_one_can_subscribe_while_the_server_is_away(server: RedisServer, cache: RedisCache) -> None:
    server.kill()
    async with asyncio.timeout(2 * PATIENCE_S), cache.subscribe("news") as news, cache.subscribe("others"):
        server.start()
        waiting = asyncio.ensure_future(anext(news))

        async def is_heard() -> bool:
            await cache.publish("news", b"at last")
            return waiting.done()

        await until(is_heard)
        assert await waiting == b"at last"


async def test_a_server_that_accepts_and_says_nothing_costs_no_more_than_the_bound() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    cache = RedisCache(f"redis://127.0.0.1:{port}", timeout_s=0.05)
    async with asyncio.timeout(PATIENCE_S):
        assert await cache.get("key") is None
    assert cache.counts.errors == 1
    await cache.stop()
    listener.close()


async def test_a_cancelled_call_leaves_nothing_behind_for_the_next_one(cache: RedisCache) -> None:
    await cache.set("a", b"for a", HOUR_S)
    await cache.set("b", b"for b", HOUR_S)
    for turns in range(30):
        call = asyncio.ensure_future(cache.get("a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert await cache.get("b") == b"for b"


async def test_a_server_that_refuses_to_write_is_as_good_as_away(cache: RedisCache) -> None:
    await cache._client.execute_command("CONFIG", "SET", "maxmemory", "1")
    await cache.set("key", b"value", HOUR_S)
    assert cache.counts.drops == 1
    assert await cache.get("key") is None


async def test_a_foreign_value_of_another_type_is_not_an_error_for_the_caller(cache: RedisCache) -> None:
    await cache._client.execute_command("LPUSH", "mainspring:v:key", "x")
    assert await cache.get("key") is None
    await cache.set("other", b"value", HOUR_S)
    assert await cache.get("other") == b"value", "the server is not taken for lost because of it"


async def test_two_caches_of_one_server_share_values_counters_locks_and_channels(
    server: RedisServer, cache: RedisCache
) -> None:
    other = RedisCache(server.url, timeout_s=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), other.subscribe("news") as news:
        await cache.set("key", b"value", HOUR_S)
        await cache.increment("n", ttl_s=HOUR_S)
        await cache.publish("news", b"message")
        assert await other.get("key") == b"value"
        assert await other.increment("n", ttl_s=HOUR_S) == 2
        assert await anext(news) == b"message"
        async with cache.best_effort_lock("work", HOUR_S), other.best_effort_lock("work", HOUR_S) as got:
            assert not got
    await other.stop()


async def test_more_callers_than_connections_are_all_answered(server: RedisServer) -> None:
    cache = RedisCache(server.url, timeout_s=PATIENCE_S, connections_max=2)
    assert sorted(await asyncio.gather(*(cache.increment("n", ttl_s=HOUR_S) for _ in range(100)))) == [*range(1, 101)]
    await cache.stop()


@pytest.mark.parametrize("timeout_s", [0, 0.049, 30.1])
def test_a_bound_out_of_reason_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="cache call"):
        RedisCache("redis://127.0.0.1", timeout_s=timeout_s)


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="URL"):
        RedisCache("http://127.0.0.1")
