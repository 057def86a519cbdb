"""What every `Cache` promises, on each adapter."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.cache.limits import BACKLOG_MESSAGES_MAX, KEY_LENGTH_MAX, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX
from mainspring.core.ports import Cache
from tests.waiting import PATIENCE_S, until

HOUR_S = 3600.0


async def gone(cache: Cache, key: str) -> None:
    """Returns once the value has expired, on whatever clock the adapter follows."""

    async def is_gone() -> bool:
        return await cache.get(key) is None

    await until(is_gone)


async def test_a_value_is_read_back_as_it_was_set(cache: Cache) -> None:
    await cache.set("key", b"\x00\xff value", HOUR_S)
    assert await cache.get("key") == b"\x00\xff value"
    await cache.set("key", b"", HOUR_S)
    assert await cache.get("key") == b""


async def test_what_was_never_set_is_none(cache: Cache) -> None:
    assert await cache.get("nothing") is None


async def test_keys_may_hold_any_text(cache: Cache) -> None:
    for key in ("a b", "ключ", "\n", "\x00", "\ud800", "x" * KEY_LENGTH_MAX):
        await cache.set(key, key.encode("utf-8", "surrogatepass"), HOUR_S)
        assert await cache.get(key) == key.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("key", ["", "x" * (KEY_LENGTH_MAX + 1)])
async def test_a_key_out_of_bounds_is_refused_by_every_call(cache: Cache, key: str) -> None:
    for call in (
        cache.get(key),
        cache.set(key, b"", HOUR_S),
        cache.add(key, b"", HOUR_S),
        cache.delete("fine", key),
        cache.increment(key, ttl_s=HOUR_S),
        cache.publish(key, b""),
    ):
        with pytest.raises(ValueError, match="cache key"):
            await call
    for context in (cache.subscribe(key), cache.best_effort_lock(key, HOUR_S)):
        with pytest.raises(ValueError, match="cache key"):
            async with context:
                pass


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e12])
async def test_a_time_to_live_out_of_bounds_is_refused(cache: Cache, ttl_s: float) -> None:
    for call in (cache.set("key", b"", ttl_s), cache.add("key", b"", ttl_s), cache.increment("key", ttl_s=ttl_s)):
        with pytest.raises(ValueError, match="time to live"):
            await call
    assert await cache.get("key") is None


async def test_a_value_vanishes_when_its_time_is_up(cache: Cache) -> None:
    await cache.set("short", b"1", 0.0001)
    await cache.set("long", b"2", HOUR_S)
    await gone(cache, "short")
    assert await cache.get("long") == b"2"


async def test_setting_again_starts_the_time_again(cache: Cache) -> None:
    await cache.set("key", b"1", 0.05)
    await cache.set("key", b"2", HOUR_S)
    await cache.set("witness", b"", 0.06)
    await gone(cache, "witness")
    assert await cache.get("key") == b"2"


async def test_a_value_too_large_is_not_kept_and_takes_the_old_one_with_it(cache: Cache) -> None:
    await cache.set("key", b"old", HOUR_S)
    await cache.set("key", bytes(VALUE_BYTES_MAX + 1), HOUR_S)
    assert await cache.get("key") is None
    assert not await cache.add("key", bytes(VALUE_BYTES_MAX + 1), HOUR_S)
    assert await cache.get("key") is None


async def test_the_largest_value_is_kept(cache: Cache) -> None:
    await cache.set("key", bytes(VALUE_BYTES_MAX), HOUR_S)
    assert await cache.get("key") == bytes(VALUE_BYTES_MAX)


async def test_add_sets_only_where_there_is_nothing(cache: Cache) -> None:
    assert await cache.add("key", b"first", HOUR_S)
    assert not await cache.add("key", b"second", HOUR_S)
    assert await cache.get("key") == b"first"


async def test_of_many_racing_adds_one_wins(cache: Cache) -> None:
    won = await asyncio.gather(*(cache.add("key", b"%d" % n, HOUR_S) for n in range(50)))
    assert won.count(True) == 1
    assert await cache.get("key") == b"%d" % won.index(True)


async def test_add_works_again_once_the_value_has_expired(cache: Cache) -> None:
    assert await cache.add("key", b"first", 0.001)
    await gone(cache, "key")
    assert await cache.add("key", b"second", HOUR_S)


async def test_delete_removes_each_key_named_and_no_other(cache: Cache) -> None:
    for key in ("a", "b", "c"):
        await cache.set(key, b"", HOUR_S)
    await cache.delete("a", "b", "never there")
    await cache.delete()
    assert [await cache.get(key) for key in ("a", "b", "c")] == [None, None, b""]


async def test_a_counter_starts_at_nothing_and_counts_in_both_directions(cache: Cache) -> None:
    assert await cache.increment("n", ttl_s=HOUR_S) == 1
    assert await cache.increment("n", 41, ttl_s=HOUR_S) == 42
    assert await cache.increment("n", -50, ttl_s=HOUR_S) == -8
    assert await cache.get("n") == b"-8"


async def test_racing_increments_are_all_counted(cache: Cache) -> None:
    values = await asyncio.gather(*(cache.increment("n", ttl_s=HOUR_S) for _ in range(200)))
    assert sorted(values) == list(range(1, 201))


async def test_a_counter_can_go_on_from_a_value_that_was_set(cache: Cache) -> None:
    await cache.set("n", b"10", HOUR_S)
    assert await cache.increment("n", ttl_s=0.0001) == 11
    await cache.set("witness", b"", 0.01)
    await gone(cache, "witness")
    assert await cache.get("n") == b"11", "the time to live is the one it was set with"


async def test_a_counters_time_starts_with_the_counter_and_not_with_each_count(cache: Cache) -> None:
    ttl_s = 0.05
    await cache.increment("n", 5, ttl_s=ttl_s)
    while await cache.increment("n", -5, ttl_s=HOUR_S) != 0:
        # This machine was too slow for that: the second call has begun another counter.
        ttl_s *= 2
        await cache.delete("n")
        await cache.increment("n", 5, ttl_s=ttl_s)
    await gone(cache, "n")
    assert await cache.increment("n", ttl_s=HOUR_S) == 1


@pytest.mark.parametrize("value", [b"", b"x", b"1.5", b" 1", b"+1", b"01", b"9223372036854775808"])
async def test_what_is_no_counter_is_not_counted(cache: Cache, value: bytes) -> None:
    await cache.set("n", value, HOUR_S)
    with pytest.raises(ValueError, match="64-bit"):
        await cache.increment("n", ttl_s=HOUR_S)
    assert await cache.get("n") == value


async def test_a_counter_does_not_pass_the_ends_of_64_bits(cache: Cache) -> None:
    assert await cache.increment("n", (1 << 63) - 1, ttl_s=HOUR_S) == (1 << 63) - 1
    with pytest.raises(ValueError, match="64-bit"):
        await cache.increment("n", ttl_s=HOUR_S)
    with pytest.raises(ValueError, match="64-bit"):
        await cache.increment("other", 1 << 63, ttl_s=HOUR_S)
    assert await cache.get("n") == b"9223372036854775807"


async def test_subscribers_get_what_is_published_after_they_came_in_order(cache: Cache) -> None:
    await cache.publish("news", b"before")
    async with asyncio.timeout(PATIENCE_S), cache.subscribe("news") as one, cache.subscribe("news") as two:
        for n in range(20):
            await cache.publish("news", b"%d" % n)
        for subscriber in (one, two):
            assert [await anext(subscriber) for _ in range(20)] == [b"%d" % n for n in range(20)]


async def test_channels_do_not_mix(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE_S), cache.subscribe("a") as a, cache.subscribe("b") as b:
        await cache.publish("b", b"for b")
        await cache.publish("a", b"for a")
        await cache.publish("c", b"for nobody")
        assert await anext(a) == b"for a"
        assert await anext(b) == b"for b"


async def test_a_subscription_may_be_ended_and_begun_again(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE_S), cache.subscribe("other") as other:
        for n in range(5):
            async with cache.subscribe("news") as news:
                await cache.publish("news", b"%d" % n)
                assert await anext(news) == b"%d" % n
            await cache.publish("news", b"to nobody")
        await cache.publish("other", b"still here")
        assert await anext(other) == b"still here"


async def test_an_iterator_ends_with_its_subscription(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with cache.subscribe("news") as news:
            waiting = asyncio.ensure_future(anext(news, b"the end"))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting == b"the end"
        assert [message async for message in news] == []


async def test_a_slow_subscriber_loses_the_oldest_messages_and_hurts_nobody(cache: Cache) -> None:
    total = BACKLOG_MESSAGES_MAX + 50
    async with asyncio.timeout(PATIENCE_S * 2), cache.subscribe("news") as slow, cache.subscribe("news") as fast:
        for n in range(total):
            await cache.publish("news", b"%d" % n)
            # The fast one has read everything, so everything has been handed out.
            assert await anext(fast) == b"%d" % n
        assert await anext(slow) == b"%d" % 50
        assert cache.counts.lost_messages == 50  # type: ignore[attr-defined]


async def test_a_message_too_large_is_refused(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE_S), cache.subscribe("news") as news:
        with pytest.raises(ValueError, match="message"):
            await cache.publish("news", bytes(MESSAGE_BYTES_MAX + 1))
        await cache.publish("news", bytes(MESSAGE_BYTES_MAX))
        assert await anext(news) == bytes(MESSAGE_BYTES_MAX)


async def test_of_many_racers_one_gets_the_lock(cache: Cache) -> None:
    async with AsyncExitStack() as stack:
        got = [await stack.enter_async_context(cache.best_effort_lock("work", HOUR_S)) for _ in range(10)]
        assert got == [True] + [False] * 9
    async with cache.best_effort_lock("work", HOUR_S) as again:
        assert again


async def test_a_lock_is_given_back_when_the_work_fails(cache: Cache) -> None:
    with pytest.raises(RuntimeError):
        async with cache.best_effort_lock("work", HOUR_S):
            raise RuntimeError
    async with cache.best_effort_lock("work", HOUR_S) as got:
        assert got


async def test_a_holder_whose_time_was_up_does_not_release_the_next_ones_lock(cache: Cache) -> None:
    async with AsyncExitStack() as next_holder:
        async with cache.best_effort_lock("work", 0.001) as got:
            assert got
            await until(lambda: next_holder.enter_async_context(cache.best_effort_lock("work", HOUR_S)))
        async with cache.best_effort_lock("work", HOUR_S) as third:
            assert not third


async def test_locks_values_and_channels_of_one_name_do_not_meet(cache: Cache) -> None:
    await cache.set("name", b"value", HOUR_S)
    async with cache.best_effort_lock("name", HOUR_S) as got:
        assert got
        assert await cache.get("name") == b"value"
        await cache.delete("name")
        async with cache.best_effort_lock("name", HOUR_S) as second:
            assert not second


async def test_hits_and_misses_are_counted(cache: Cache) -> None:
    await cache.set("key", b"", HOUR_S)
    await cache.get("key")
    await cache.get("key")
    await cache.get("other")
    counts = cache.counts  # type: ignore[attr-defined]
    assert (counts.hits, counts.misses, counts.drops, counts.errors) == (2, 1, 0, 0)


KEYS = st.sampled_from("abc")
CALLS = st.one_of(
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("set"), KEYS, st.sampled_from([b"", b"7", b"-3", b"text"])),
    st.tuples(st.just("add"), KEYS, st.sampled_from([b"", b"7", b"text"])),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("increment"), KEYS, st.integers(-5, 5)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(calls=st.lists(CALLS, max_size=40))
async def test_any_calls_give_what_a_dictionary_would(cache: Cache, calls: list[tuple[object, ...]]) -> None:
    await cache.delete("a", "b", "c")
    model: dict[str, bytes] = {}
    for name, key, *arguments in calls:
        assert isinstance(key, str)
        if name == "get":
            assert await cache.get(key) == model.get(key)
        elif name == "set":
            await cache.set(key, arguments[0], HOUR_S)  # type: ignore[arg-type]
            model[key] = arguments[0]  # type: ignore[assignment]
        elif name == "add":
            assert await cache.add(key, arguments[0], HOUR_S) == (key not in model)  # type: ignore[arg-type]
            model.setdefault(key, arguments[0])  # type: ignore[arg-type]
        elif name == "delete":
            await cache.delete(key)
            model.pop(key, None)
        elif model.get(key, b"0") in (b"", b"text"):
            with pytest.raises(ValueError, match="64-bit"):
                await cache.increment(key, arguments[0], ttl_s=HOUR_S)  # type: ignore[arg-type]
        else:
            model[key] = b"%d" % (int(model.get(key, b"0")) + arguments[0])  # type: ignore[operator]
            assert await cache.increment(key, arguments[0], ttl_s=HOUR_S) == int(model[key])  # type: ignore[arg-type]
