"""Records of a share group's partition: given out once at a time, again where they come back, and never lost."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.errors import InvalidRecordState
from mainspring.storage.log.groups.share_partition import Acknowledge, Acquired, DeliveryState, SharePartition

ACCEPT, RELEASE, REJECT, RENEW = [int(one) for one in list(Acknowledge)[1:]]


def partition(start: int = 0, **limits) -> SharePartition:
    return SharePartition(start, **({"lock_ms": 30_000, "deliveries_max": 5, "in_flight_max": 2_000} | limits))


def test_a_record_is_with_one_member_at_a_time():
    share = partition()
    assert share.acquire("a", [(0, 4), (5, 9)], 5, 0) == [Acquired(0, 4, 1)]
    assert share.acquire("b", [(0, 4), (5, 9)], 10, 0) == [Acquired(5, 9, 1)]
    assert share.next_offset(0) == 10


def test_accepted_records_are_done_with_and_the_window_moves():
    share = partition()
    share.acquire("a", [(0, 9)], 10, 0)
    share.acknowledge("a", 5, 9, [ACCEPT], 0)
    assert share.start == 0
    share.acknowledge("a", 0, 4, [ACCEPT], 0)
    assert (share.start, share.end, share.records) == (10, 10, {})


def test_a_released_record_is_given_out_again_until_its_deliveries_are_used_up():
    share = partition(deliveries_max=2)
    for delivery in (1, 2):
        assert share.acquire("a", [(0, 0)], 1, 0) == [Acquired(0, 0, delivery)]
        share.acknowledge("a", 0, 0, [RELEASE], 0)
    assert share.start == 1


def test_a_rejected_record_and_a_gap_never_come_again():
    share = partition()
    share.acquire("a", [(0, 1)], 2, 0)
    share.acknowledge("a", 0, 1, [REJECT, int(Acknowledge.GAP)], 0)
    assert share.start == 2


def test_a_lock_ends_and_may_be_renewed():
    share = partition(lock_ms=1_000)
    share.acquire("a", [(0, 1)], 2, 0)
    share.acknowledge("a", 1, 1, [RENEW], 500)
    assert share.next_ms(0) == 1_000
    share.expire(1_000)
    assert share.acquire("b", [(0, 1)], 2, 1_000) == [Acquired(0, 0, 2)]
    with pytest.raises(InvalidRecordState):
        share.acknowledge("a", 0, 1, [ACCEPT], 1_000)
    share.acknowledge("a", 1, 1, [ACCEPT], 1_000)


@pytest.mark.parametrize(
    ("first", "last", "kinds"), [(1, 0, [1]), (0, 1, [1, 1, 1]), (0, 1, []), (0, 1, [5]), (0, 9_999, [1])]
)
def test_an_acknowledgement_that_makes_no_sense_is_refused(first, last, kinds):
    share = partition()
    share.acquire("a", [(0, 1)], 2, 0)
    with pytest.raises(InvalidRequest):
        share.acknowledge("a", first, last, kinds, 0)


def test_somebody_elses_record_cannot_be_acknowledged_and_nothing_is_changed():
    share = partition()
    share.acquire("a", [(0, 0)], 1, 0)
    share.acquire("b", [(1, 1)], 1, 0)
    with pytest.raises(InvalidRecordState):
        share.acknowledge("a", 0, 1, [ACCEPT], 0)
    assert share.records[0].state is DeliveryState.ACQUIRED


def test_no_more_than_the_window_is_given_out():
    share = partition(in_flight_max=3)
    assert share.acquire("a", [(0, 9)], 10, 0) == [Acquired(0, 2, 1)]
    assert share.next_offset(0) is None
    share.acknowledge("a", 0, 0, [ACCEPT], 0)
    assert share.next_offset(0) == 3


def test_a_strict_limit_cuts_a_batch():
    assert partition().acquire("a", [(0, 9)], 3, 0, strictly=True) == [Acquired(0, 2, 1)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_every_record_is_accepted_once_and_the_log_tells_what_is_done_with(seed):
    random = Random(seed)
    share = partition(lock_ms=1_000, deliveries_max=10**6, in_flight_max=16)
    total, now_ms, log = 40, 0, []
    accepted: list[int] = []
    held: dict[str, set[int]] = {"a": set(), "b": set(), "c": set()}
    batches = [(at, at + 3) for at in range(0, total, 4)]
    for step in range(2_000):
        now_ms += random.randint(0, 50)
        share.expire(now_ms)
        member = random.choice("abc")
        held = {
            name: {o for o in offsets if (found := share.records.get(o)) and found.member == name}
            for name, offsets in held.items()
        }
        at = share.next_offset(0)
        if at is not None and random.random() < 0.5:
            for run in share.acquire(member, [one for one in batches if one[1] >= at], random.randint(1, 6), now_ms):
                assert not any(set(range(run.first, run.last + 1)) & offsets for offsets in held.values())
                held[member] |= set(range(run.first, run.last + 1))
        elif held[member]:
            offset = random.choice(sorted(held[member]))
            kind = random.choice((ACCEPT, ACCEPT, RELEASE, RENEW))
            share.acknowledge(member, offset, offset, [kind], now_ms)
            accepted += [offset] if kind == ACCEPT else []
        if random.random() < 0.02:
            share.release(member)
        changed = share.changes()
        if changed is not None or step % 50 == 0:
            log.append((share.start, changed or []))
        if random.random() < 0.02:
            again = partition(lock_ms=1_000, deliveries_max=10**6, in_flight_max=16)
            for start, batch in log:
                again.restore(start, batch, whole=False)
            again.restore(share.start, [], whole=False)
            done = {offset for offset in accepted if offset >= again.start}
            assert again.start == share.start
            assert {o for o, one in again.records.items() if one.state is DeliveryState.ACKNOWLEDGED} == done
        if share.start == total:
            break
    assert sorted(accepted) == list(range(total))


def test_what_is_accepted_at_the_front_is_written_though_no_record_of_it_is_left():
    share = partition()
    share.acquire("a", [(10, 10)], 5, 0)
    share.acknowledge("a", 10, 10, [ACCEPT], 0)
    assert share.changes() == [] and share.start == 11
    assert share.changes() is None
