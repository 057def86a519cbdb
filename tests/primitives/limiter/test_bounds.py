"""Every algorithm's bound, over every window of every length, and its agreement with a model that is obviously right."""

from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import FRESH, Rule, State
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow
from tests.primitives.limiter import histories as draw

S = draw.S
Hits = list[tuple[int, int]]


@draw.steady
@given(draw.histories(draw.rules))
def test_no_window_of_any_length_admits_more_than_the_bound(history: tuple[Rule, Hits]) -> None:
    rule, hits = history
    draw.assert_bound(rule, draw.admitted(rule, hits))


@draw.steady
@given(draw.histories(draw.timed, length=30), st.data())
def test_a_clock_that_is_set_back_again_and_again_never_admits_more(
    history: tuple[Rule, Hits], data: st.DataObject
) -> None:
    rule, hits = history
    state: State = FRESH
    real_ns, behind_ns, passed = draw.NEW_YEAR_NS, 0, []
    for step_ns, cost in hits:
        real_ns += step_ns
        if data.draw(st.booleans()):
            behind_ns += data.draw(st.sampled_from([1, draw.span(rule) // 2, 3 * draw.span(rule), 3600 * S]))
        state, verdict = rule.hit(state, real_ns - behind_ns, cost)
        if verdict.allowed:
            passed.append((real_ns, cost))
    draw.assert_bound(rule, passed)


@draw.steady
@given(draw.histories(draw.timed | draw.slots, length=10), st.integers(1, 10**6))
def test_a_clock_that_is_set_back_refuses_for_at_most_three_windows(history: tuple[Rule, Hits], behind_s: int) -> None:
    rule, hits = history
    state, now_ns = FRESH, draw.NEW_YEAR_NS
    for step_ns, cost in hits:
        now_ns += step_ns
        state, _ = rule.hit(state, now_ns, cost)
    now_ns -= behind_s * S
    state, verdict = rule.hit(state, now_ns, 1)
    for _ in range(3):
        if verdict.allowed:
            return
        waited_ns = verdict.retry_ns
        now_ns += waited_ns
        assert waited_ns <= 3 * draw.span(rule) + S // 1000
        state, verdict = rule.hit(state, now_ns, 1)
    assert verdict.allowed


@draw.steady
@given(draw.histories(draw.rules))
def test_what_is_refused_would_pass_after_the_time_that_it_names_and_not_a_tick_sooner(
    history: tuple[Rule, Hits],
) -> None:
    rule, hits = history
    state, now_ns = FRESH, draw.NEW_YEAR_NS
    for step_ns, cost in hits:
        now_ns += step_ns
        state, verdict = rule.hit(state, now_ns, cost)
        assert (verdict.retry_ns == 0) == verdict.allowed
        if not verdict.allowed:
            assert rule.hit(state, now_ns + verdict.retry_ns, cost)[1].allowed
            sooner_ns = now_ns + verdict.retry_ns - (rule.tick_ns if isinstance(rule, SlidingWindow) else 1)
            if sooner_ns >= now_ns:
                assert not rule.hit(state, sooner_ns, cost)[1].allowed


@draw.steady
@given(draw.histories(draw.rules))
def test_remaining_is_exactly_what_can_still_be_spent_and_reset_is_when_all_of_it_can(
    history: tuple[Rule, Hits],
) -> None:
    rule, hits = history
    state, now_ns = FRESH, draw.NEW_YEAR_NS
    for step_ns, cost in hits:
        now_ns += step_ns
        state, verdict = rule.hit(state, now_ns, cost)
        if verdict.remaining:
            assert rule.hit(state, now_ns, verdict.remaining)[1].allowed
        if verdict.remaining < rule.most:
            assert not rule.hit(state, now_ns, verdict.remaining + 1)[1].allowed
        assert rule.hit(state, now_ns + verdict.reset_ns, rule.most)[1].allowed
        assert rule.hit(state, max(now_ns, rule.expires_ns(state)), rule.most)[1].allowed


@draw.steady
@given(draw.histories(draw.rules))
def test_a_peek_of_nothing_changes_no_later_decision(history: tuple[Rule, Hits]) -> None:
    rule, hits = history
    state, looked, now_ns = FRESH, FRESH, draw.NEW_YEAR_NS
    for step_ns, cost in hits:
        looked, _ = rule.hit(looked, now_ns + step_ns // 2, 0)
        now_ns += step_ns
        state, plain = rule.hit(state, now_ns, cost)
        looked, told = rule.hit(looked, now_ns, cost)
        assert plain == told


@draw.steady
@given(draw.histories(draw.timed | draw.quotas, length=25), st.data())
def test_bounds_hold_for_what_was_truly_spent_when_reservations_are_settled_later(
    history: tuple[Rule, Hits], data: st.DataObject
) -> None:
    rule, hits = history
    state, now_ns = FRESH, draw.NEW_YEAR_NS
    spent: list[list[int]] = []
    owed: list[tuple[int, int]] = []
    for step_ns, cost in hits:
        now_ns += step_ns
        if owed and data.draw(st.booleans()):
            index, back = owed.pop(data.draw(st.integers(0, len(owed) - 1)))
            state = rule.adjust(state, now_ns, -back, spent[index][0])
            spent[index][1] -= back
        state, verdict = rule.hit(state, now_ns, cost)
        if verdict.allowed:
            spent.append([now_ns, cost])
            if cost > 1:
                owed.append((len(spent) - 1, data.draw(st.integers(1, cost))))
    draw.assert_bound(rule, [(at_ns, cost) for at_ns, cost in spent if cost])


@draw.steady
@given(draw.histories(draw.timed | draw.quotas, length=15), st.integers(1, 50))
def test_a_charge_by_force_puts_a_key_at_most_one_limit_into_debt(history: tuple[Rule, Hits], more: int) -> None:
    rule, hits = history
    state, now_ns = FRESH, draw.NEW_YEAR_NS
    for step_ns, cost in hits:
        now_ns += step_ns
        state, _ = rule.hit(state, now_ns, cost)
    before = rule.hit(state, now_ns, 0)[1].remaining
    after = rule.hit(rule.adjust(state, now_ns, more, now_ns), now_ns, 0)[1]
    assert after.remaining == max(0, before - more)
    worst = rule.adjust(state, now_ns, 10**6, now_ns)
    assert rule.hit(worst, now_ns, 0)[1].reset_ns <= 2 * max(draw.span(rule), rule.span_ns) + S // 1000


# Against models that are obviously right.


@draw.steady
@given(draw.histories(draw.token_buckets))
def test_a_token_bucket_is_a_bucket_of_tokens(history: tuple[TokenBucket, Hits]) -> None:
    rule, hits = history
    assert draw.admitted(rule, hits) == _bucket(Fraction(rule.rate, rule.span_ns), rule.most, hits)


@draw.steady
@given(draw.histories(draw.leaky_buckets))
def test_a_leaky_bucket_admits_its_queue_and_lets_one_go_each_interval(history: tuple[LeakyBucket, Hits]) -> None:
    rule, hits = history
    assert draw.admitted(rule, hits) == _bucket(Fraction(rule.rate, rule.span_ns), rule.queue + 1, hits)
    state, now_ns, interval = FRESH, draw.NEW_YEAR_NS, Fraction(rule.span_ns, rule.rate)
    departures: list[int] = []
    for step_ns, _ in hits:
        now_ns += step_ns
        state, verdict = rule.hit(state, now_ns, 1)
        if verdict.allowed:
            departures.append(now_ns + verdict.delay_ns)
    for earlier, later in pairwise(departures):
        assert later - earlier > interval - 1


def _bucket(per_ns: Fraction, burst: int, hits: Hits) -> list[tuple[int, int]]:
    tokens, now_ns, passed = Fraction(burst), draw.NEW_YEAR_NS, []
    for step_ns, cost in hits:
        now_ns += step_ns
        tokens = min(Fraction(burst), tokens + step_ns * per_ns)
        if tokens >= cost:
            tokens -= cost
            passed.append((now_ns, cost))
    return passed


@draw.steady
@given(draw.histories(draw.fixed_windows))
def test_a_fixed_window_counts_by_the_number_of_the_window(history: tuple[FixedWindow, Hits]) -> None:
    rule, hits = history
    counts: dict[int, int] = {}
    now_ns, passed = draw.NEW_YEAR_NS, []
    for step_ns, cost in hits:
        now_ns += step_ns
        window = now_ns // rule.span_ns
        if counts.get(window, 0) + cost <= rule.limit:
            counts[window] = counts.get(window, 0) + cost
            passed.append((now_ns, cost))
    assert draw.admitted(rule, hits) == passed


@draw.steady
@given(draw.histories(draw.sliding_windows))
def test_a_sliding_window_weighs_the_last_window_by_what_of_it_overlaps(history: tuple[SlidingWindow, Hits]) -> None:
    rule, hits = history
    counts: dict[int, int] = {}
    now_ns, passed = draw.NEW_YEAR_NS, []
    for step_ns, cost in hits:
        now_ns += step_ns
        window, into_ns = divmod(now_ns, rule.span_ns)
        into_ns -= into_ns % rule.tick_ns
        share = 1 - Fraction(into_ns, rule.span_ns)
        if counts.get(window - 1, 0) * share + counts.get(window, 0) + cost <= rule.limit:
            counts[window] = counts.get(window, 0) + cost
            passed.append((now_ns, cost))
    assert draw.admitted(rule, hits) == passed


@draw.steady
@given(draw.histories(draw.sliding_logs))
def test_a_sliding_log_is_the_definition_itself(history: tuple[SlidingLog, Hits]) -> None:
    rule, hits = history
    now_ns, passed = draw.NEW_YEAR_NS, []
    for step_ns, cost in hits:
        now_ns += step_ns
        used = sum(spent for at_ns, spent in passed if at_ns > now_ns - rule.span_ns)
        if used + cost <= rule.limit:
            passed.append((now_ns, cost))
    assert draw.admitted(rule, hits) == passed


@draw.steady
@given(draw.histories(draw.quotas))
def test_a_quota_counts_by_the_local_date(history: tuple[Quota, Hits]) -> None:
    rule, hits = history
    counts: dict[tuple[int, ...], int] = {}
    now_ns, passed = draw.NEW_YEAR_NS, []
    for step_ns, cost in hits:
        now_ns += step_ns
        local = datetime.fromtimestamp(now_ns // S, ZoneInfo(rule.zone))
        period = {
            "day": (local.year, local.month, local.day),
            "week": tuple(local.isocalendar())[:2],
            "month": (local.year, local.month),
            "year": (local.year,),
        }[rule.unit]
        if counts.get(period, 0) + cost <= rule.limit:
            counts[period] = counts.get(period, 0) + cost
            passed.append((now_ns, cost))
    assert draw.admitted(rule, hits) == passed


@draw.steady
@given(draw.slots, st.data())
def test_no_more_leases_than_slots_are_ever_alive(rule: Concurrency, data: st.DataObject) -> None:
    state: State = FRESH
    now_ns = draw.NEW_YEAR_NS
    alive: dict[int, tuple[int, int]] = {}
    for _ in range(data.draw(st.integers(0, 30))):
        now_ns += data.draw(draw.steps(rule))
        alive = {lease: held for lease, held in alive.items() if held[0] > now_ns}
        deed = data.draw(st.sampled_from(["take", "take", "release", "renew"]))
        if deed == "take":
            weight = data.draw(st.integers(1, rule.limit))
            state, verdict = rule.hit(state, now_ns, weight)
            assert verdict.allowed == (sum(w for _, w in alive.values()) + weight <= rule.limit)
            if verdict.allowed:
                assert verdict.lease not in alive
                alive[verdict.lease] = now_ns + rule.ttl_ns, weight
        elif alive:
            lease = data.draw(st.sampled_from(sorted(alive)))
            if deed == "release":
                state = rule.release(state, now_ns, lease)
                del alive[lease]
            else:
                state, kept = rule.renew(state, now_ns, lease)
                assert kept
                alive[lease] = now_ns + rule.ttl_ns, alive[lease][1]
        assert sum(weight for _, weight in alive.values()) <= rule.limit


def test_a_lease_that_ran_out_cannot_be_renewed_and_its_release_frees_nobody_elses_slot() -> None:
    rule = Concurrency(1, ttl=1)
    state, first = rule.hit(FRESH, 5 * S, 1)
    state, second = rule.hit(state, 7 * S, 1)
    assert first.allowed and second.allowed and second.lease > first.lease
    assert rule.renew(state, 7 * S, first.lease)[1] is False
    state = rule.release(state, 7 * S, first.lease)
    assert not rule.hit(state, 7 * S, 1)[1].allowed


# Calendars.


@pytest.mark.parametrize(
    ("zone", "unit", "at", "start", "end"),
    [
        ("Europe/Berlin", "day", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("Europe/Berlin", "day", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("America/Havana", "day", "2026-03-08T12:00", "2026-03-08T05:00", "2026-03-09T04:00"),  # midnight is skipped
        ("America/Havana", "day", "2026-11-01T12:00", "2026-11-01T04:00", "2026-11-02T05:00"),  # midnight comes twice
        ("Asia/Kolkata", "month", "2026-02-28T18:29", "2026-01-31T18:30", "2026-02-28T18:30"),
        ("UTC", "week", "2026-01-01T00:00", "2025-12-29T00:00", "2026-01-05T00:00"),
        ("UTC", "year", "2028-02-29T00:00", "2028-01-01T00:00", "2029-01-01T00:00"),
        ("UTC", "month", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("Pacific/Apia", "day", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),  # the 30th was left out
    ],
)
def test_calendar_periods_follow_the_clocks_of_the_zone(zone: str, unit: str, at: str, start: str, end: str) -> None:
    quota = Quota(1, unit, zone)  # type: ignore[arg-type]
    assert quota.period(_ns(at)) == (_ns(start), _ns(end))


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


@draw.steady
@given(draw.quotas, st.lists(st.integers(0, 20 * 366 * 86_400), min_size=1, max_size=20))
def test_periods_hold_their_time_and_follow_each_other_without_a_gap(rule: Quota, seconds: list[int]) -> None:
    for second in seconds:
        at_ns = draw.NEW_YEAR_NS + second * S
        start_ns, end_ns = rule.period(at_ns)
        assert start_ns <= at_ns < end_ns
        assert rule.period(end_ns)[0] == end_ns
        assert rule.period(start_ns) == (start_ns, end_ns)


def test_a_quota_whose_clock_is_set_back_over_midnight_stays_in_the_later_day() -> None:
    quota = Quota(3, "day")
    state, _ = quota.hit(FRESH, draw.NEW_YEAR_NS + S, 2)
    state, verdict = quota.hit(state, draw.NEW_YEAR_NS - 3600 * S, 1)
    assert verdict.allowed and verdict.remaining == 0
    assert not quota.hit(state, draw.NEW_YEAR_NS - 1800 * S, 1)[1].allowed
    assert not quota.hit(state, draw.NEW_YEAR_NS + 3600 * S, 1)[1].allowed
    assert quota.hit(state, draw.NEW_YEAR_NS + 86_400 * S, 1)[1].allowed
