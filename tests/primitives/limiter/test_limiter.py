"""The limiter's behaviour, the same on every store."""

import asyncio
from datetime import UTC, datetime

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.primitives.limiter import (
    BadCost,
    BadKey,
    BadPolicy,
    Limiter,
    MemoryStore,
    Penalty,
    Quota,
    QuotaExceeded,
    SlidingWindow,
    TokenBucket,
    UnknownPolicy,
    lines,
)
from mainspring.primitives.limiter.decide import Ask, Outcome
from tests.primitives.limiter.conftest import PATIENCE_S, Limiters
from tests.waiting import until


async def test_what_is_spent_is_spent_until_it_is_refilled(limiters: Limiters) -> None:
    limiter = limiters(api="3/s burst 5")
    taken = [await limiter.hit("api", "user") for _ in range(6)]
    assert [decision.allowed for decision in taken] == [True] * 5 + [False]
    assert [decision.remaining for decision in taken] == [4, 3, 2, 1, 0, 0]
    refused = taken[-1]
    assert refused.violated == ("api",) and refused.limit == 5
    assert refused.retry_after == pytest.approx(1 / 3, abs=1e-6)
    assert await limiter.hit("api", "somebody else")
    await limiters.clock.advance(1)
    assert [bool(await limiter.hit("api", "user")) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    "text",
    ["7/s", "token 7/minute", "7/minute", "fixed 7/minute", "log 7/minute", "leaky 7/s queue 6", "7/day Asia/Kolkata"],
)
async def test_every_algorithm_admits_its_limit_at_once_and_all_of_it_again_after_the_reset(
    limiters: Limiters, text: str
) -> None:
    limiter = limiters(api=text)
    assert [bool(await limiter.hit("api", "user")) for _ in range(8)] == [True] * 7 + [False]
    refused = await limiter.peek("api", "user")
    await limiters.clock.advance(refused.retry_after + 1e-6)  # servers count microseconds
    assert await limiter.hit("api", "user")
    await limiters.clock.advance((await limiter.peek("api", "user")).reset + 1e-6)
    assert await limiter.hit("api", "user", cost=7)


async def test_a_hit_on_several_limits_is_charged_to_all_or_none(limiters: Limiters) -> None:
    limiter = limiters(api="10/minute; 3/hour; log 20/minute")
    for _ in range(3):
        assert await limiter.hit("api", "user")
    refused = await limiter.hit("api", "user")
    assert not refused and refused.violated == ("api 3/hour",)
    assert [verdict.remaining for verdict in refused.verdicts] == [7, 0, 17]


async def test_a_hierarchy_never_leaves_one_level_charged_alone(limiters: Limiters) -> None:
    limiter = limiters(api="2/minute > 3/minute > 100/minute")
    for user in ("ann", "ann", "bob"):
        assert await limiter.hit("api", [user, "acme", "all"])
    refused = await limiter.hit("api", ["bob", "acme", "all"])
    assert refused.violated == ("api 3/minute",)
    assert [verdict.remaining for verdict in refused.verdicts] == [1, 0, 97]
    assert (await limiter.hit("api", ["cid", "other", "all"])).verdicts[2].remaining == 96


async def test_one_policy_for_several_keys_charges_each_of_them(limiters: Limiters) -> None:
    limiter = limiters(api="2/minute")
    assert await limiter.hit("api", ["user", "tenant"])
    assert await limiter.hit("api", "user")
    refused = await limiter.hit("api", ["user", "tenant"])
    assert not refused and [verdict.remaining for verdict in refused.verdicts] == [0, 1]


async def test_racing_callers_get_exactly_the_limit(limiters: Limiters) -> None:
    limiter = limiters(api="20/minute; log 20/minute > 50/minute")
    users = [f"user-{n % 4}" for n in range(200)]
    decisions = await asyncio.gather(*(limiter.hit("api", [user, "all"]) for user in users))
    admitted = [user for user, decision in zip(users, decisions, strict=True) if decision]
    assert len(admitted) == 50
    assert all(admitted.count(user) <= 20 for user in set(users))


async def test_cost_peek_refund_and_reset(limiters: Limiters) -> None:
    limiter = limiters(api="10/minute")
    assert (await limiter.peek("api", "user")).remaining == 9
    assert (await limiter.hit("api", "user", cost=6)).remaining == 4
    assert not await limiter.peek("api", "user", cost=5)
    assert not await limiter.hit("api", "user", cost=5)
    await limiter.refund("api", "user", cost=2)
    assert (await limiter.hit("api", "user", cost=5)).remaining == 1
    await limiter.reset("api", "user")
    assert (await limiter.hit("api", "user", cost=10)).remaining == 0


@pytest.mark.parametrize("text", ["10/s", "10/minute", "fixed 10/minute", "log 10/minute", "10/month", "10/s; 50/hour"])
async def test_a_reservation_is_settled_to_what_it_turned_out_to_cost(limiters: Limiters, text: str) -> None:
    limiter = limiters(tokens=text)
    cheap = await limiter.hit("tokens", "user", cost=8)
    await cheap.settle(3)
    assert (await limiter.hit("tokens", "user", cost=1)).verdicts[0].remaining == 6
    dear = await limiter.hit("tokens", "user", cost=1)
    await dear.settle(12)
    assert not await limiter.hit("tokens", "user")
    with pytest.raises(BadCost):
        await dear.settle(-1)
    with pytest.raises(BadCost):
        await (await limiter.hit("tokens", "user")).settle(0)


async def test_settling_late_does_not_give_back_what_time_has_given_back_already(limiters: Limiters) -> None:
    limiter = limiters(a="fixed 10/minute", b="10/minute", c="10/s", d="log 10/minute")
    decisions = [await limiter.hit(name, "user", cost=10) for name in "abcd"]
    await limiters.clock.advance(120)
    for name, decision in zip("abcd", decisions, strict=True):
        assert await limiter.hit(name, "user", cost=10)
        await decision.settle(0)
        assert not await limiter.hit(name, "user")


@pytest.mark.parametrize("cost", [0, -1, 1.5, float("nan"), "1", None, 11])
async def test_a_cost_that_cannot_be_is_refused_and_charges_nothing(limiters: Limiters, cost: object) -> None:
    limiter = limiters(api="10/minute", pair="20/minute; 10/hour")
    for policy in ("api", "pair"):
        with pytest.raises(BadCost):
            await limiter.hit(policy, "user", cost=cost)  # type: ignore[arg-type]
    assert (await limiter.peek("pair", "user")).remaining == 9


async def test_a_cost_that_can_never_pass_says_so(limiters: Limiters) -> None:
    limiter = limiters(api="10/minute; 5/hour")
    with pytest.raises(BadCost, match="can never pass 'api 5/hour', which allows 5 at once"):
        await limiter.hit("api", "user", cost=6)


async def test_an_unknown_policy_is_named_as_such(limiters: Limiters) -> None:
    with pytest.raises(UnknownPolicy):
        await limiters(api="1/s").hit("ap1", "user")


@pytest.mark.parametrize("keys", [[], ["a", "a"], ["a"], ["a", "b", "c"], [1, 2], [None, "a"]])
async def test_keys_that_do_not_fit_the_policy_are_refused(limiters: Limiters, keys: list[str]) -> None:
    limiter = limiters(flat="10/minute", tall="10/minute > 20/minute")
    if len(keys) == 2 and keys[0] == keys[1]:
        with pytest.raises(BadKey):
            await limiter.hit("flat", keys)
    else:
        with pytest.raises(BadKey):
            await limiter.hit("tall", keys)
    with pytest.raises(BadKey):
        await limiter.hit("flat", 7)  # type: ignore[arg-type]


ODD_KEYS = [
    "",
    "a" * 10_000,
    "a" * 9_999 + "b",
    "line\nbreak",
    "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "nul\x00inside",
    "}{",
    "{tag}",
    "*?[a]\\",
    "'; DROP TABLE limiter_state; --",
    "#hash",
    "##hash",
    "half \ud800 of a pair",
    "ключ 🔑",
    "a:b:c",
    "a/b;c",
]


async def test_keys_are_data_whatever_letters_they_have(limiters: Limiters) -> None:
    limiter = limiters(api="2/minute", tall="2/minute > 100/minute")
    for key in ODD_KEYS:
        assert [bool(await limiter.hit("api", key)) for _ in range(3)] == [True, True, False], repr(key)
        assert [bool(await limiter.hit("tall", [key, "all"])) for _ in range(3)] == [True, True, False], repr(key)
    assert (await limiter.peek("tall", ["fresh", "all"])).verdicts[1].remaining == 100 - 2 * len(ODD_KEYS) - 1


async def test_nobody_can_choose_a_key_that_is_the_digest_of_anothers(limiters: Limiters) -> None:
    limiter = limiters(api="1/minute")
    assert await limiter.hit("api", "v" * 200)
    (victim,) = (await limiter.keys("api"))["api"]
    assert victim.key.startswith("#") and len(victim.key) == 33
    for forged in (victim.key, f"#{victim.key}"):
        assert await limiter.hit("api", forged)
    assert not await limiter.hit("api", "v" * 200)


async def test_the_keys_that_spent_most_are_listed_first(limiters: Limiters) -> None:
    limiter = limiters(api="10/minute > 100/minute")
    for user, times in (("ann", 3), ("b:ob", 5), ("#cid", 1)):
        for _ in range(times):
            await limiter.hit("api", [user, "acme"])
    listed = await limiter.keys("api", top=2)
    assert [(one.key, one.used, one.remaining) for one in listed["api 10/minute"]] == [("b:ob", 5, 5), ("ann", 3, 7)]
    assert [(one.key, one.used) for one in listed["api 100/minute"]] == [("acme", 9)]
    assert {one.key for one in (await limiter.keys("api"))["api 10/minute"]} == {"ann", "b:ob", "#cid"}


async def test_a_limit_in_shadow_decides_and_counts_but_never_refuses(limiters: Limiters) -> None:
    limiter = limiters(api="2/minute shadow; 4/hour")
    decisions = [await limiter.hit("api", "user") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True] * 4 + [False]
    assert [decision.shadowed for decision in decisions[1:4]] == [(), ("api 2/minute",), ("api 2/minute",)]
    assert decisions[2].violated == () and decisions[4].violated == ("api 4/hour",)


async def test_an_override_counts_for_its_key_alone_and_ends(limiters: Limiters) -> None:
    limiter = limiters(api="2/minute", tall="1/minute > 2/minute")
    limiter.override("api", "vip", "4/minute")
    limiter.override("tall", "acme", "3/minute")
    assert [bool(await limiter.hit("api", "vip")) for _ in range(5)] == [True] * 4 + [False]
    assert [bool(await limiter.hit("api", "user")) for _ in range(3)] == [True, True, False]
    assert [bool(await limiter.hit("tall", [f"u{n}", "acme"])) for n in range(4)] == [True] * 3 + [False]
    limiter.restore("api", "vip")
    assert not await limiter.hit("api", "vip")
    await limiters.clock.advance(120)
    assert [bool(await limiter.hit("api", "vip")) for _ in range(3)] == [True, True, False]
    with pytest.raises(BadPolicy):
        limiter.override("api", "vip", "1/s > 2/s")


async def test_a_policy_that_allows_more_or_less_keeps_what_was_spent(limiters: Limiters) -> None:
    limiter = limiters(api="5/minute")
    for _ in range(4):
        await limiter.hit("api", "user")
    limiter.define("api", "6/minute")
    assert [bool(await limiter.hit("api", "user")) for _ in range(3)] == [True, True, False]
    limiter.define("api", "3/minute")
    assert not await limiter.hit("api", "user")
    limiter.undefine("api")
    with pytest.raises(UnknownPolicy):
        await limiter.hit("api", "user")


async def test_who_is_refused_too_often_is_blocked_each_time_for_twice_as_long(limiters: Limiters) -> None:
    limiter = limiters(login="2/minute; penalty 3/minute for 60s to 4 minutes", wide="9/minute; penalty 1/minute")
    assert (await limiter.hit("wide", "user")).remaining == 8  # what a penalty has left is not what can be spent
    blocks = []
    for _ in range(4):
        for _ in range(20):
            decision = await limiter.hit("login", "attacker")
            if "login penalty" in decision.violated:
                break
        penalty = next(v for limit, v in decision.parts if limit.name == "login penalty")
        blocks.append(penalty.retry_ns / 1e9)
        assert not await limiter.hit("login", "attacker")  # hammering does not make it longer
        await limiters.clock.advance(blocks[-1])
    assert blocks == [60, 120, 240, 240]
    await limiters.clock.advance(600)
    decisions = [await limiter.hit("login", "attacker") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True, True, False, False, False]
    assert next(v for limit, v in decisions[4].parts if limit.name == "login penalty").retry_ns == 60 * 10**9
    await limiter.reset("login", "attacker")
    assert await limiter.hit("login", "attacker")


async def test_a_quota_turns_at_midnight_of_its_zone(limiters: Limiters) -> None:
    clock = limiters.clock
    clock.set_wall(int(datetime(2026, 3, 28, 22, 59, 50, tzinfo=UTC).timestamp()) * 10**9)
    limiter = limiters(api=Quota(2, "day", "Europe/Berlin"))
    assert [bool(await limiter.hit("api", "user")) for _ in range(3)] == [True, True, False]
    assert (await limiter.peek("api", "user")).retry_after == 10
    await clock.advance(10)
    assert await limiter.hit("api", "user")
    assert (await limiter.peek("api", "user")).reset == 23 * 3600


async def test_a_leaky_bucket_says_how_long_to_wait_and_wait_waits_that_long(limiters: Limiters) -> None:
    limiter, clock = limiters(shape="leaky 10/s queue 3 delay 1"), limiters.clock
    decisions = [await limiter.hit("shape", "user") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True] * 4 + [False]
    assert [round(decision.delay, 6) for decision in decisions] == [0, 0, 0.1, 0.2, 0]
    await clock.advance(10)
    started_ns = clock.mono_ns()
    waiting = [asyncio.create_task(limiter.wait("shape", "user", timeout=5)) for _ in range(4)]
    done_at = []
    for _ in range(200):
        await clock.advance(0.05)
        await _settle(limiter)
        done_at = [task for task in waiting if task.done()]
        if len(done_at) == 4:
            break
    assert all([await task for task in waiting])
    assert (clock.mono_ns() - started_ns) / 1e9 >= 0.2


async def test_waiting_is_first_come_first_served_and_ends_in_time(limiters: Limiters) -> None:
    limiter, clock = limiters(export="1/s"), limiters.clock
    assert await limiter.wait("export", "acme", timeout=0)
    order: list[int] = []

    async def wait(number: int, timeout: float) -> bool:
        decision = await limiter.wait("export", "acme", timeout=timeout)
        if decision:
            order.append(number)
        return decision.allowed

    waiting = []
    for number in range(3):
        waiting.append(asyncio.create_task(wait(number, 60)))
        await _settle(limiter)
    hopeless = await limiter.wait("export", "acme", timeout=2.5)
    assert not hopeless and hopeless.retry_after == pytest.approx(4, abs=1e-6)
    for _ in range(100):
        await clock.advance(0.25)
        await _settle(limiter)
        if all(task.done() for task in waiting):
            break
    assert [await task for task in waiting] == [True] * 3
    assert order == [0, 1, 2]


async def test_a_cancelled_waiter_makes_room_for_the_next(limiters: Limiters) -> None:
    limiter, clock = limiters(export="1/s"), limiters.clock
    assert await limiter.hit("export", "acme")
    first = asyncio.create_task(limiter.wait("export", "acme", timeout=60))
    await _settle(limiter)
    second = asyncio.create_task(limiter.wait("export", "acme", timeout=60))
    await _settle(limiter)
    first.cancel()
    for _ in range(100):
        await clock.advance(0.25)
        await _settle(limiter)
        if second.done():
            break
    assert await second
    assert first.cancelled()


class Held(MemoryStore):
    """A store whose answers to hits are on their way until `let_through`."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.hits = 0
        self.let_through = asyncio.Event()

    async def ask(self, ask: Ask) -> Outcome:
        outcome = await super().ask(ask)
        if ask.verb == "hit":
            self.hits += 1
            await self.let_through.wait()
        return outcome


async def test_who_comes_while_the_first_question_is_on_its_way_stands_behind_it() -> None:
    clock = VirtualClock(mono_ns=10**9)
    store = Held(clock)
    limiter = Limiter(store, clock, export="1/s")
    limiter._hot.clear()  # as on a store that must be waited for
    await store.ask(limiter._book.ask("export", "acme", "adjust", 1))
    order: list[str] = []

    async def wait(name: str) -> None:
        assert await limiter.wait("export", "acme", timeout=60)
        order.append(name)

    first = asyncio.create_task(wait("first"))
    await until(lambda: store.hits == 1)
    await clock.advance(1)  # now there is room for one, and the first one does not know it yet
    second = asyncio.create_task(wait("second"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert store.hits == 1, "the second one has asked for nothing that it could spend"
    store.let_through.set()

    async def done() -> bool:
        await clock.advance(0.25)
        return first.done() and second.done()

    await until(done)
    assert order == ["first", "second"]


async def test_a_waiter_whose_time_is_up_in_the_line_never_passes_though_there_is_room(limiters: Limiters) -> None:
    limiter, clock = limiters(gpu="concurrency 1 ttl 60s"), limiters.clock
    assert await limiter.hit("gpu", "acme")
    first = asyncio.create_task(limiter.wait("gpu", "acme", timeout=60))
    await _settle(limiter)
    second = asyncio.create_task(limiter.wait("gpu", "acme", timeout=0.2))
    await _settle(limiter)
    await limiters(gpu="concurrency 1 ttl 60s").reset("gpu", "acme")  # as another node does: nobody here is woken
    await clock.advance(0.2)
    async with asyncio.timeout(PATIENCE_S):
        refused = await second
    assert not refused.allowed and not refused.lease and refused.violated == ("gpu",)

    async def done() -> bool:
        await clock.advance(0.25)
        return first.done()

    await until(done)
    assert await first
    assert not await limiter.hit("gpu", "acme"), "one slot was given, to the first"


async def test_more_waiters_than_there_is_room_for_are_refused_at_once_and_charge_nothing(
    limiters: Limiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "WAITERS_MAX", 3)
    limiter, clock = limiters(export="9/s burst 2", gpu="concurrency 1 ttl 60s"), limiters.clock
    assert await limiter.hit("gpu", "acme") and await limiter.hit("export", "acme", cost=2)
    waiting = []
    for key in ("acme", "acme", "other"):
        if key == "other":
            assert await limiter.hit("gpu", key)
        waiting.append(asyncio.create_task(limiter.wait("gpu", key, timeout=60)))
        await _settle(limiter)
    async with asyncio.timeout(PATIENCE_S):
        for policy, key in (("gpu", "acme"), ("export", "acme")):
            assert not await limiter.wait(policy, key, timeout=60), (policy, key)
        assert await limiter.wait("gpu", "a third", timeout=60), "whoever need not wait is not refused"
    await clock.advance(1)
    assert (await limiter.peek("export", "acme")).remaining == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert limiter._lines._lines == {} and limiter._lines._waiting == 0


async def test_what_no_hit_can_be_made_of_is_told_at_once_also_to_who_would_stand_in_line(limiters: Limiters) -> None:
    limiter = limiters(export="1/s")
    assert await limiter.hit("export", "acme")
    waiting = asyncio.create_task(limiter.wait("export", "acme", timeout=60))
    await _settle(limiter)
    for cost in (0, -1, 1.5, "1", 2):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BadCost):
                await limiter.wait("export", "acme", cost=cost, timeout=60)  # type: ignore[arg-type]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_slots_are_taken_kept_alive_and_freed(limiters: Limiters) -> None:
    limiter, clock = limiters(gpu="concurrency 2 ttl 30s"), limiters.clock
    async with limiter.slot("gpu", "acme") as held, limiter.slot("gpu", "acme"):
        with pytest.raises(QuotaExceeded) as refused:
            async with limiter.slot("gpu", "acme"):
                pass
        assert ("retry-after", "30") in refused.value.headers
        for _ in range(10):
            await clock.advance(10)
            await _settle(limiter)
        assert not await limiter.peek("gpu", "acme")
        assert not held.lost.is_set()
    async with limiter.slot("gpu", "acme", cost=2):
        assert not await limiter.peek("gpu", "acme")
    with pytest.raises(BadPolicy):
        limiters(api="1/s").slot("api", "acme")


async def test_where_there_are_no_slots_none_is_renewed_and_none_need_be_released(limiters: Limiters) -> None:
    limiter = limiters(api="5/minute", tall="5/minute > 9/minute")
    for policy, key in (("api", "user"), ("tall", ["user", "acme"])):
        assert not await limiter.renew(policy, key, 7)
        await limiter.release(policy, key, 7)
    assert (await limiter.peek("api", "user")).remaining == 4


@pytest.mark.parametrize("change", ["5/minute", None])
async def test_a_slot_is_lost_and_can_be_left_where_its_policy_is_another_or_gone(change: str | None) -> None:
    clock = VirtualClock(mono_ns=10**9)
    limiter = Limiter(MemoryStore(clock), clock, gpu="concurrency 1 ttl 30s")
    async with limiter.slot("gpu", "acme") as slot:
        if change is None:
            limiter.undefine("gpu")
        else:
            limiter.define("gpu", change)
        await asyncio.sleep(0)
        await clock.advance(10)
        async with asyncio.timeout(PATIENCE_S):
            await slot.lost.wait()


async def test_a_slot_whose_holder_died_is_free_after_its_time(limiters: Limiters) -> None:
    limiter, clock = limiters(gpu="concurrency 1 ttl 30s"), limiters.clock
    dead = await limiter.hit("gpu", "acme")
    assert dead.lease and not await limiter.hit("gpu", "acme")
    await clock.advance(30)
    assert await limiter.hit("gpu", "acme")
    assert not await limiter.renew("gpu", "acme", dead.lease)
    await limiter.release("gpu", "acme", dead.lease)
    assert not await limiter.hit("gpu", "acme")


async def test_a_released_slot_goes_to_who_waits_for_it(limiters: Limiters) -> None:
    limiter = limiters(gpu="concurrency 1 ttl 30s")
    taken = asyncio.Event()

    async def work() -> None:
        async with limiter.slot("gpu", "acme", timeout=20):
            taken.set()

    async with limiter.slot("gpu", "acme"):
        waiting = asyncio.create_task(work())
        await _settle(limiter)
        assert not taken.is_set()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert taken.is_set()


async def test_a_clock_that_is_set_back_admits_no_more(limiters: Limiters) -> None:
    limiter, clock = limiters(a="5/s", b="5/minute", c="fixed 5/minute", d="log 5/minute"), limiters.clock
    for name in "abcd":
        assert await limiter.hit(name, "user", cost=5)
    clock.set_wall(clock.wall_ns() - 3600 * 10**9)
    for name in "abcd":
        assert not await limiter.hit(name, "user")
    await clock.advance(180)
    for name in "abcd":
        assert await limiter.hit(name, "user", cost=5)


async def test_decisions_are_counted_and_watched(limiters: Limiters) -> None:
    limiter = limiters(api="1/minute", pair="1/minute; 5/hour")
    seen = []
    limiter.watchers.append(seen.append)
    for name in ("api", "pair"):
        await limiter.hit(name, "user")
        await limiter.hit(name, "user")
    assert [(one.policy, one.allowed) for one in seen] == [
        ("api", True),
        ("api", False),
        ("pair", True),
        ("pair", False),
    ]


async def test_policies_are_texts_rules_or_lists_of_levels() -> None:
    clock = VirtualClock()
    limiter = Limiter(
        MemoryStore(clock),
        clock,
        text="1/minute",
        rule=TokenBucket(5, per=60),
        levels=["1/minute", SlidingWindow(9, 60), "5/day UTC"],
    )
    limiter.define("login", "5/minute; penalty 5/minute")
    assert limiter.plan("login").limits[1].rule == Penalty(5, 60)
    assert len(limiter.plan("levels").levels) == 3
    with pytest.raises(BadPolicy):
        limiter.define("Not A Name", "1/s")


async def _settle(limiter: Limiter) -> None:
    """Lets tasks that are between two questions to the store come to rest, by asking the store something themselves."""
    for _ in range(4):
        await limiter.store.ask(limiter._book.ask(next(iter(limiter._book.plans)), "nobody", "peek", 1))
        await asyncio.sleep(0)
