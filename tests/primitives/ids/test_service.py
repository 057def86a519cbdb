"""`Ids` on both databases: worker ids taken, kept, lost and given back, and minting through a database that goes away."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.telemetry import Metrics
from mainspring.primitives.ids import (
    LAYOUTS,
    MAINSPRING,
    ClockBehind,
    Ids,
    IdsSettings,
    NotReserved,
    NoWorkerLeft,
    parse,
)
from mainspring.primitives.ids.errors import LayoutTooNarrow

from .conftest import MS, START_MS, Line, MakeIds, WatchedClock


async def test_ids_are_minted_from_the_moment_of_the_start(make_ids: MakeIds) -> None:
    ids = await make_ids()
    many = [ids.next(), *ids.take(1_000), ids.next()]
    assert many == sorted(set(many))
    one = parse(many[0])
    assert (one.kind, one.worker, one.time) == ("mainspring", 0, datetime(2026, 1, 1, tzinfo=UTC))
    assert ids.unready() is None and ids.minted == 1_002


async def test_before_the_start_only_kinds_without_a_worker_are_minted(line: Line, clock: WatchedClock) -> None:
    ids = Ids(line, clock)
    with pytest.raises(NotReserved):
        ids.next()
    assert ids.unready() == "no worker id is held" and ids.worker is None
    texts = [str(ids.uuid7()), ids.ulid(), ids.ksuid(), ids.xid(), ids.typeid("user"), ids.nano()]
    assert [parse(text).kind for text in texts] == ["uuid7", "ulid", "ksuid", "xid", "typeid", "nanoid"]


async def test_processes_that_start_together_get_workers_of_their_own(line: Line, clock: WatchedClock) -> None:
    several = [Ids(line, clock, holder=f"host/{number}") for number in range(20)]
    await asyncio.gather(*(ids.start() for ids in several))
    assert sorted(ids.worker or 0 for ids in several) == list(range(20))
    everything = [one for ids in several for one in ids.take(5_000)]
    assert len(set(everything)) == 100_000
    for ids in several:
        await ids.stop()


async def test_a_clean_stop_gives_the_worker_back_and_ids_go_on_increasing(
    make_ids: MakeIds, clock: WatchedClock
) -> None:
    first = await make_ids()
    last = first.take(5_000)[-1]
    await first.stop()
    with pytest.raises(NotReserved):
        first.next()
    await clock.advance(0.002)
    second = await make_ids()
    assert second.worker == 0
    assert second.next() > last


async def test_a_stopped_service_can_be_started_again(make_ids: MakeIds) -> None:
    ids = await make_ids()
    last = ids.next()
    await ids.stop()
    await ids.stop()
    await ids.start()
    assert ids.next() > last


async def test_without_a_stop_a_worker_is_taken_again_after_half_a_minute(
    line: Line, make_ids: MakeIds, clock: WatchedClock
) -> None:
    died = Ids(line, clock, holder="dead")
    await died.start()
    assert died._renewing is not None
    died._renewing.cancel()
    last = died.take(4_000)[-1]
    assert (await make_ids()).worker == 1
    await clock.beat()
    clock.set_wall(clock.wall_ns() + 30_000 * MS)
    heir = await make_ids()
    assert heir.worker == 0
    # What was reserved remains the old one's, and is all before the new one's first millisecond; now it is in the past.
    assert last < heir.next()
    with pytest.raises(NotReserved):
        died.next()


async def test_two_processes_with_one_fixed_worker_mint_disjointly(make_ids: MakeIds, clock: WatchedClock) -> None:
    both = [await make_ids(worker=7)]
    await clock.beat()
    await clock.advance(0.1)
    both.append(await make_ids(worker=7))
    minted: list[list[int]] = [[], []]
    for _ in range(20):
        for ids, mine in zip(both, minted, strict=True):
            try:
                mine += ids.take(50)
            except (NotReserved, ClockBehind):
                continue
        await clock.beat(2, 0.3)
    assert len(minted[0]) > 50 and len(minted[1]) > 50
    assert set(minted[0]).isdisjoint(minted[1])
    assert both[0]._lease.lost + both[1]._lease.lost > 2
    assert {MAINSPRING.split(one)[1] for mine in minted for one in mine} == {7}


async def test_a_worker_fixed_and_restarted_at_once_mints_in_an_instant_or_soon(
    make_ids: MakeIds, line: Line, clock: WatchedClock
) -> None:
    first = await make_ids(worker=7)
    last = first.take(10)[-1]
    second = await make_ids(worker=7)
    # In the same millisecond nothing is left to reserve; the next try comes after a twentieth of a second.
    await clock.beat(2, 0.06)
    assert second.next() > last


async def test_all_workers_held_is_said_with_the_holders(make_ids: MakeIds, line: Line, clock: WatchedClock) -> None:
    for number in range(32):
        await make_ids(layout="js53", holder=f"host/{number}")
    late = Ids(line, clock, IdsSettings(layout="js53"))
    with pytest.raises(NoWorkerLeft) as refused:
        await late.start()
    holders = refused.value.body()["holders"]
    assert [row["holder"] for row in holders] == [f"host/{number}" for number in range(32)]
    assert refused.value.status == 503


async def test_minting_goes_on_for_three_seconds_without_the_database_and_comes_back_with_it(
    make_ids: MakeIds, line: Line, clock: WatchedClock
) -> None:
    ids = await make_ids()
    minted = [ids.next()]
    line.cut = True
    for tenth in range(1, 101):
        await clock.advance(0.1)
        if tenth <= 30:
            minted.append(ids.next())
        elif tenth > 30:
            with pytest.raises(NotReserved):
                ids.next()
    assert "renewals" in (ids.unready() or "")
    line.cut = False
    await clock.beat()
    minted.append(ids.next())
    assert ids.unready() is None
    assert minted == sorted(set(minted))


async def test_a_clock_set_back_is_waited_out_and_the_node_says_that_it_is_unwell(
    make_ids: MakeIds, line: Line, clock: WatchedClock
) -> None:
    ids = await make_ids()
    minted = ids.take(10)
    clock.set_wall((START_MS - 4_000) * MS)
    minted += ids.take(10)
    assert ids.unready() is None
    clock.set_wall((START_MS - 60_000) * MS)
    with pytest.raises(ClockBehind):
        ids.next()
    assert "behind" in (ids.unready() or "")
    await clock.beat()
    clock.set_wall(START_MS * MS)
    await clock.beat()
    minted += ids.take(10)
    assert minted == sorted(set(minted))


async def test_a_clock_set_back_across_a_restart_repeats_nothing(
    make_ids: MakeIds, line: Line, clock: WatchedClock
) -> None:
    before = await make_ids()
    minted = set(before.take(5_000))
    await clock.beat()
    minted |= set(before.take(5_000))
    # Killed: nothing was given back.
    assert before._renewing is not None
    before._renewing.cancel()
    clock.set_wall((START_MS - 300_000) * MS)
    after = await make_ids()
    again = after.take(5_000)
    assert minted.isdisjoint(again)
    fixed = await make_ids(worker=before.worker)
    with pytest.raises((ClockBehind, NotReserved)):
        fixed.next()


async def test_a_stolen_worker_is_replaced_by_itself(make_ids: MakeIds, line: Line, clock: WatchedClock) -> None:
    victim = await make_ids()
    fast = WatchedClock((START_MS + 40_000) * MS)
    thief = await make_ids(by=fast)
    assert thief.worker == victim.worker == 0
    minted = victim.take(100)
    await clock.beat()
    # The next worker is asked for without waiting for the next beat.
    await clock.beat(1, 0.001)
    assert victim.worker == 1
    minted += victim.take(100)
    assert minted == sorted(set(minted)) and set(minted).isdisjoint(thief.take(100))


async def test_a_range_scan_from_an_instant_finds_what_was_minted_since(make_ids: MakeIds, clock: WatchedClock) -> None:
    ids = await make_ids()
    old = ids.take(10)
    clock.set_wall((START_MS + 1_000) * MS)
    new = ids.take(10)
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=1)
    assert [one for one in old + new if one >= ids.first_at(at)] == new
    assert [one for one in old + new if ids.first_at(at) <= one <= ids.last_at(at)] == new
    assert ids.first_at(START_MS * 1000) <= old[0]


async def test_an_id_tells_which_process_minted_it_even_after_its_worker_has_changed_hands(
    make_ids: MakeIds, clock: WatchedClock
) -> None:
    first = await make_ids(holder="alpha/1")
    of_first = parse(first.next())
    await first.stop()
    clock.set_wall((START_MS + 10) * MS)
    second = await make_ids(holder="beta/2")
    of_second = parse(second.next())
    assert await second.minted_by(of_first) == ("alpha/1", 1)
    assert await second.minted_by(of_second) == ("beta/2", 2)
    assert await second.minted_by(parse(second.ulid())) is None
    assert await second.minted_by(parse(LAYOUTS["mainspring"].join(5, 900, 0))) is None


async def test_a_number_that_nobody_can_have_minted_is_nobodys(make_ids: MakeIds, clock: WatchedClock) -> None:
    ids = await make_ids(holder="alpha/1")
    layout = LAYOUTS["mainspring"]
    tick, worker, _ = layout.split(ids.next())
    for beyond in (5, tick - 60_000, tick + ids.settings.reserve_ms + 1, layout.tick_max):
        assert await ids.minted_by(parse(layout.join(beyond, worker, 0))) is None, beyond
    assert await ids.minted_by(parse(layout.join(tick, worker, 0))) == ("alpha/1", 1)
    last = ids.next()
    await ids.stop()
    await clock.advance(0.002)
    heir = await make_ids(holder="beta/2")
    assert heir.worker == worker
    assert await heir.minted_by(parse(last)) == ("alpha/1", 1)
    assert await heir.minted_by(parse(heir.next())) == ("beta/2", 2)


async def test_other_layouts_mint_in_the_same_range(make_ids: MakeIds, line: Line, clock: WatchedClock) -> None:
    ids = await make_ids()
    for name in LAYOUTS:
        many = ids.minter(name).take(100)
        assert many == sorted(set(many))
        assert all(parse(one, LAYOUTS[name]).time == datetime(2026, 1, 1, tzinfo=UTC) for one in many)
    await clock.beat()
    assert ids.minter("twitter").take(10)
    with pytest.raises(KeyError):
        ids.minter("nonsense")
    second = await make_ids()
    with pytest.raises(LayoutTooNarrow):
        second.minter("mastodon")
    second.minter("discord").take(5)
    await second.stop()
    await second.start()
    assert second.minter("discord").take(5)


async def test_a_fixed_worker_that_does_not_fit_the_layout_is_refused(line: Line, clock: WatchedClock) -> None:
    with pytest.raises(ValueError, match="32 does not fit"):
        Ids(line, clock, IdsSettings(layout="js53", worker=32))


async def test_what_an_operator_asks_first_is_measured(line: Line, clock: WatchedClock) -> None:
    metrics = Metrics()
    ids = Ids(line, clock, metrics=metrics)
    before = metrics.exposition().decode()
    assert "ids_worker -1" in before
    await ids.start()
    ids.take(500)
    after = metrics.exposition().decode()
    for row in ("ids_minted_total 500", "ids_worker 0", "ids_reserved_seconds 3", "ids_renewal_failures 0"):
        assert row in after
    line.cut = True
    await clock.beat()
    assert "ids_renewal_failures 1" in metrics.exposition().decode()
    line.cut = False
    await ids.stop()


async def test_a_stop_without_the_database_ends_all_the_same(make_ids: MakeIds, line: Line) -> None:
    ids = await make_ids()
    line.cut = True
    await ids.stop()
    with pytest.raises(NotReserved):
        ids.next()


async def test_the_machines_clock_works_too(make_ids: MakeIds) -> None:
    ids = await make_ids(by=SystemClock(), reserve_ms=60_000)
    many = ids.take(20_000)
    assert many == sorted(set(many))
    assert abs((parse(many[0]).time or datetime.min.replace(tzinfo=UTC)) - datetime.now(UTC)) < timedelta(minutes=5)


async def test_the_pure_minter_is_what_the_service_gives(make_ids: MakeIds) -> None:
    ids = await make_ids()
    runs: Any = ids.runs(10_000)
    assert sum(count for _, count in runs) == 10_000
    assert {MAINSPRING.split(first)[1] for first, _ in runs} == {0}
