"""Sparse indexes and the newest batches in memory, each beside the plain list that it stands for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.indexes import Aborted, OffsetIndex, TimeIndex, from_txnindex, to_txnindex
from mainspring.storage.log.newest import Tails

STEPS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 500)), max_size=40)


@settings(max_examples=50, deadline=None)
@given(STEPS, st.integers(0, 400))
def test_an_offset_is_looked_for_from_the_last_entry_at_or_before_it(steps, wanted):
    index, entries = OffsetIndex(1_000), []
    offset, position = 1_000, 0
    for offsets, size in steps:
        offset += offsets
        index.append(offset, position)
        entries.append((offset, position))
        position += size
    expected = max((at for known, at in entries if known <= 1_000 + wanted), default=0)
    assert index.position(1_000 + wanted) == expected
    assert OffsetIndex(1_000, bytes(index.data)).position(1_000 + wanted) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(0, 1_100))
def test_a_time_is_looked_for_behind_every_batch_that_is_older(times, wanted):
    index, entries = TimeIndex(50), []
    for at, time_ms in enumerate(times):
        index.append(time_ms, 51 + at)
        if time_ms > max((known for known, _ in entries), default=-1):
            entries.append((time_ms, 51 + at))
    assert len(index) == len(entries)
    assert index.offset(wanted) == max((offset for known, offset in entries if known < wanted), default=50)
    assert index.last() == (entries[-1] if entries else (-1, 50))


def test_aborted_transactions_come_back_from_their_index():
    entries = [Aborted(7, 10, 20, 15), Aborted(8, 15, 30, 31)]
    assert from_txnindex(to_txnindex(entries)) == entries


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 3)), max_size=120),
    st.integers(20, 200),
    st.integers(10, 120),
)
def test_the_newest_batches_are_those_that_were_added_last_within_both_bounds(adds, bytes_max, partition_bytes_max):
    tails = Tails(bytes_max, partition_bytes_max)
    plain: dict[int, list[tuple[int, bytes]]] = {owner: [] for owner in range(4)}
    for owner, size, offsets in adds:
        end = plain[owner][-1][0] + 3 if plain[owner] else 0
        plain[owner].append((end, bytes([owner]) * size))
        tails.add(owner, end, plain[owner][-1][1])
        assert tails.size <= bytes_max
        for known, batches in plain.items():
            tail = tails.get(known)
            if tail is None:
                continue
            assert tail.size <= partition_bytes_max
            for at, (base, _) in enumerate(batches):
                found = tail.read(base + offsets - 1, batches[-1][0] + 3, 1 << 20)
                if found is not None:
                    assert found[0] == [data for _, data in batches[at:]]
                    assert found[1] == sum(map(len, found[0]))
    kept = [tails.get(owner) for owner in range(4)]
    assert tails.size == sum(tail.size for tail in kept if tail is not None)
