"""Positions of groups: who may set them, those of transactions, and when they are forgotten."""

import pytest

from mainspring.storage.log.groups import errors
from mainspring.storage.log.groups.messages import GroupDelete, Offset, OffsetCommit, OffsetDelete, OffsetFetch

from .bench import WALL_MS, Bench, topic

ONE = ("orders", 0)
DAY_MS = 86_400_000


def commit(bench: Bench, offset: int, partition=ONE, producer_id: int = -1, group: str = "g", **fields):
    position = Offset(offset, committed_at_ms=WALL_MS + bench.now_ms, metadata=fields.pop("metadata", ""))
    return bench.ask(OffsetCommit(group=group, offsets={partition: position}, producer_id=producer_id, **fields))


def fetch(bench: Bench, stable: bool = False, **fields):
    found = bench.ask(OffsetFetch(group="g", partitions=(ONE,), stable=stable, **fields))
    offset, unstable = found[ONE]
    return "unstable" if unstable else None if offset is None else offset.offset


def sweep(bench: Bench) -> None:
    turn = bench.turn()
    bench.coordinator.sweep(turn)
    bench.conclude(turn)


def test_a_position_is_read_as_it_was_committed_and_after_a_restart():
    bench = Bench()
    assert fetch(bench) is None
    assert commit(bench, 7) == {ONE: 0}
    assert fetch(bench) == 7
    bench.coordinator = bench.replayed()
    assert fetch(bench) == 7
    assert list(bench.coordinator.groups) == ["g"]


def test_metadata_that_is_too_long_is_refused_for_its_partition_alone():
    bench = Bench()
    assert commit(bench, 7, metadata="ü" * 2_049) == {ONE: errors.OffsetMetadataTooLarge.kafka_code}
    assert fetch(bench) is None


def test_a_generation_of_a_group_that_is_not_there_is_refused():
    with pytest.raises(errors.GroupIdNotFound):
        commit(Bench(), 7, member_id="a", generation=3)
    for fields in ({"knows_epochs": False}, {"producer_id": 5}):
        with pytest.raises(errors.IllegalGeneration):
            commit(Bench(), 7, member_id="a", generation=3, **fields)


def test_a_position_of_an_open_transaction_is_unstable_and_counts_when_it_commits():
    bench = Bench()
    commit(bench, 5)
    commit(bench, 9, producer_id=77)
    assert fetch(bench) == 5
    assert fetch(bench, stable=True) == "unstable"
    bench.coordinator.ended(77, lambda group: group == "other", True)
    assert fetch(bench, stable=True) == "unstable"
    bench.coordinator.ended(77, lambda group: True, True)
    assert fetch(bench, stable=True) == 9


def test_a_position_of_an_aborted_transaction_never_was():
    bench = Bench()
    commit(bench, 5)
    commit(bench, 9, producer_id=77)
    bench.coordinator.ended(77, lambda group: True, False)
    assert fetch(bench, stable=True) == 5


def test_a_transaction_does_not_undo_a_position_that_was_committed_after_it_was_written():
    bench = Bench()
    commit(bench, 9, producer_id=77)
    commit(bench, 20)
    bench.coordinator.ended(77, lambda group: True, True)
    assert fetch(bench) == 20


def test_positions_are_forgotten_when_nobody_has_committed_or_read_for_the_retention():
    bench = Bench()
    commit(bench, 5)
    bench.advance(7 * DAY_MS)
    sweep(bench)
    assert fetch(bench) == 5
    bench.advance(1)
    sweep(bench)
    assert fetch(bench) is None
    assert bench.coordinator.groups == {}
    assert bench.replayed().groups == {}


def test_positions_of_a_group_are_kept_while_its_members_read_the_topic():
    bench = Bench()
    bench.heartbeat("a", 0)
    commit(bench, 5, member_id="a", generation=1)
    for _ in range(8):
        for _ in range(4):
            bench.now_ms += DAY_MS // 4
            bench.heartbeat("a", 1)
        sweep(bench)
    assert fetch(bench) == 5
    bench.heartbeat("a", 1, topics=("refunds",), owned={})
    sweep(bench)
    assert fetch(bench) is None


def test_positions_of_a_topic_that_was_deleted_go_with_it():
    bench = Bench()
    commit(bench, 5)
    del bench.topics["orders"]
    sweep(bench)
    assert fetch(bench) is None


def test_a_position_of_a_topic_that_was_made_anew_is_not_the_new_ones():
    bench = Bench()
    offset = Offset(5, committed_at_ms=WALL_MS, topic_id=bench.topics["orders"].id)
    bench.ask(OffsetCommit(group="g", offsets={ONE: offset}))
    assert fetch(bench) == 5
    bench.topics["orders"] = topic(9, 4)
    assert fetch(bench) is None


def test_a_group_with_members_is_not_deleted_and_one_without_is():
    bench = Bench()
    with pytest.raises(errors.GroupIdNotFound):
        bench.ask(GroupDelete(group="g"))
    bench.heartbeat("a", 0)
    commit(bench, 5, member_id="a", generation=1)
    with pytest.raises(errors.NonEmptyGroup):
        bench.ask(GroupDelete(group="g"))
    bench.heartbeat("a", -1)
    bench.ask(GroupDelete(group="g"))
    assert bench.coordinator.groups == {}
    assert fetch(bench) is None
    assert bench.replayed().groups == {}


def test_only_positions_that_nobody_reads_are_deleted():
    bench = Bench({"orders": topic(1, 1), "refunds": topic(2, 1)})
    with pytest.raises(errors.GroupIdNotFound):
        bench.ask(OffsetDelete(group="g", partitions=(ONE,)))
    bench.heartbeat("a", 0)
    for partition in (ONE, ("refunds", 0)):
        commit(bench, 5, partition, member_id="a", generation=1)
    codes = bench.ask(OffsetDelete(group="g", partitions=(ONE, ("refunds", 0))))
    assert codes == {ONE: errors.GroupSubscribedToTopic.kafka_code, ("refunds", 0): 0}
    assert list(bench.coordinator.offsets.of("g")) == [ONE]


def test_positions_of_a_group_of_another_protocol_are_deleted_only_when_it_is_empty():
    bench = Bench()
    joined = bench.join(two_steps=False, protocol_type="connect")
    bench.sync(joined.member_id, 1)
    with pytest.raises(errors.NonEmptyGroup):
        bench.ask(OffsetDelete(group="g", partitions=(ONE,)))


def test_a_member_reads_positions_at_its_epoch_only():
    bench = Bench()
    bench.heartbeat("a", 0)
    assert fetch(bench, member_id="a", member_epoch=1) is None
    with pytest.raises(errors.StaleMemberEpoch):
        fetch(bench, member_id="a", member_epoch=0)
    with pytest.raises(errors.UnknownMemberId):
        fetch(bench, member_id="b", member_epoch=1)
