"""Batches and compressions: what is built is read back, what is broken is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.codecs import Codec, TooExpansive, compress, decompress
from mainspring.storage.log.errors import CorruptBatch, InvalidRecord, UnsupportedCompression
from mainspring.storage.log.records import (
    ATTRIBUTES_AT,
    Control,
    Read,
    build,
    is_intact,
    marker,
    marker_in,
    parse,
    placed,
    rebuilt,
    records_in,
    sealed,
    stamped,
)

BYTES = st.none() | st.binary(max_size=40)
RECORDS = st.lists(
    st.tuples(st.integers(0, 1 << 45), BYTES, BYTES, st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=2)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(RECORDS, st.sampled_from(Codec))
def test_records_come_back_as_they_were_built_with_every_codec(records, codec):
    data = build(records, codec=codec)
    header = parse(data)
    assert is_intact(data, 0, header) and header.count == len(records) and header.size_bytes == len(data)
    assert header.max_timestamp == max(record[0] for record in records)
    assert [tuple(read) for read in records_in(data)] == [(at, *record) for at, record in enumerate(records)]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3_000), st.sampled_from(Codec))
def test_what_is_compressed_comes_back(data, codec):
    assert decompress(codec, compress(codec, data)) == data


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec])
def test_a_bomb_is_not_expanded_beyond_the_bound(codec):
    bomb = compress(codec, bytes(4 << 20))
    assert len(bomb) < 300_000
    with pytest.raises(TooExpansive):
        decompress(codec, bomb, 1 << 20)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([codec for codec in Codec if codec]), st.binary(max_size=200))
def test_garbage_is_refused_as_a_corrupt_batch_by_every_codec(codec, garbage):
    try:
        decompress(codec, garbage, 1 << 16)
    except CorruptBatch:
        return


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_flipped_bit_behind_the_checksum_is_found(data):
    whole = build([(1, b"key", b"value", [("h", b"x")])])
    at = data.draw(st.integers(ATTRIBUTES_AT, len(whole) - 1))
    broken = bytearray(whole)
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not is_intact(broken, 0, parse(whole))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_records_that_cannot_be_read_are_a_corrupt_batch_and_nothing_else(data):
    whole = bytearray(build([(1, b"key", b"value", [("h", b"x")]), (5, None, b"", ())]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(61, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(records_in(sealed(whole)))
    except CorruptBatch:
        return


def test_a_batch_that_is_cut_off_or_of_an_old_format_is_refused():
    whole = build([(1, b"k", b"v", ())])
    with pytest.raises(CorruptBatch):
        parse(whole[:-1])
    with pytest.raises(CorruptBatch):
        parse(whole[:30])
    with pytest.raises(InvalidRecord):
        parse(whole[:16] + b"\1" + whole[17:])
    with pytest.raises(InvalidRecord):
        parse((whole[:16] + b"\0" + whole[17:])[:40])


def test_codec_bits_that_mean_nothing_are_refused():
    whole = bytearray(build([(1, b"k", b"v", ())]))
    whole[ATTRIBUTES_AT + 1] |= 7
    with pytest.raises(UnsupportedCompression):
        list(records_in(sealed(whole)))


def test_giving_a_batch_its_offset_leaves_its_checksum_right():
    whole = build([(1, b"k", b"v", ()), (2, b"k", b"w", ())])
    at_home = placed(whole, 0, parse(whole), 1 << 40, 7)
    header = parse(at_home)
    assert (header.base_offset, header.leader_epoch, header.last_offset) == (1 << 40, 7, (1 << 40) + 1)
    assert is_intact(at_home, 0, header)


def test_the_logs_own_time_stands_for_every_record():
    whole = stamped(build([(1, b"k", b"v", ()), (2, b"k", b"w", ())]), 99)
    assert is_intact(whole, 0, parse(whole)) and parse(whole).log_append_time
    assert [record.timestamp_ms for record in records_in(whole)] == [99, 99]


def test_a_marker_says_how_its_transaction_ended():
    for commit in (True, False):
        data = marker(7, 3, commit, 11, 5)
        header = parse(data)
        assert header.control and header.transactional and (header.producer_id, header.producer_epoch) == (7, 3)
        assert marker_in(data, 0, header) == (Control.COMMIT if commit else Control.ABORT, 11)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("horizon", [None, 1, 1 << 44])
def test_a_rebuilt_batch_keeps_offsets_sequence_and_range(codec, horizon):
    whole = build(
        [(5, b"a", b"1", ()), (9, b"b", None, ()), (7, b"c", b"3", [("h", None)])], producer_id=4, epoch=2, sequence=8
    )
    header = parse(placed(whole, 0, parse(whole), 100, 6))
    kept = [Read(100, 5, b"a", b"1", []), Read(102, 7, b"c", b"3", [("h", None)])]
    again = rebuilt(header, kept, codec, horizon)
    after = parse(again)
    assert is_intact(again, 0, after) and list(records_in(again)) == kept
    assert (after.base_offset, after.last_offset, after.leader_epoch) == (100, 102, 6)
    assert (after.producer_id, after.producer_epoch, after.last_sequence) == (4, 2, 10)
    assert after.count == 2 and after.max_timestamp == 7
    assert horizon is None or after.base_timestamp == horizon


def test_a_batch_may_lose_all_its_records_and_keep_its_place():
    whole = build([(5, b"a", b"1", ()), (9, b"b", None, ())], producer_id=4, epoch=2, sequence=8)
    again = rebuilt(parse(whole), [], Codec.NONE)
    after = parse(again)
    assert list(records_in(again)) == [] and after.count == 0
    assert (after.last_offset, after.last_sequence, after.max_timestamp) == (1, 9, 9)
