"""The new consumer group: epochs, hand-over, static members, regular expressions, and what is refused."""

import pytest

from mainspring.storage.log import coordinator_errors
from mainspring.storage.log.groups import errors
from mainspring.storage.log.groups.messages import Offset, OffsetCommit
from mainspring.storage.log.groups.reconcile import MemberState

from .bench import Bench, topic

ORDERS = topic(1, 4).id
ALL = {ORDERS: frozenset({0, 1, 2, 3})}


def commit(bench: Bench, member_id: str, epoch: int, **fields):
    return bench.ask(
        OffsetCommit(group="g", member_id=member_id, generation=epoch, offsets={("orders", 0): Offset(5)}, **fields)
    )


def test_a_first_member_gets_everything_in_one_heartbeat():
    bench = Bench()
    beat = bench.heartbeat("a", 0)
    assert (beat.member_epoch, beat.assigned, beat.heartbeat_interval_ms) == (1, ALL, 5_000)
    assert bench.heartbeat("a", 1).assigned is None


def test_a_partition_is_another_members_only_after_its_owner_has_given_it_up():
    bench = Bench()
    bench.heartbeat("a", 0)
    second = bench.heartbeat("b", 0)
    assert (second.member_epoch, second.assigned) == (2, {})
    told = bench.heartbeat("a", 1, owned=ALL)
    assert told.member_epoch == 1
    (kept,) = told.assigned.values()
    assert len(kept) == 2
    assert bench.heartbeat("b", 2, owned={}).assigned is None
    assert bench.heartbeat("a", 1, owned={ORDERS: kept}).member_epoch == 2
    assert bench.heartbeat("b", 2).assigned == {ORDERS: frozenset({0, 1, 2, 3}) - kept}


def test_a_late_heartbeat_of_an_older_connection_does_not_free_what_the_member_has_got_since():
    bench = Bench()
    bench.heartbeat("a", 0, connection=1)
    bench.heartbeat("b", 0, connection=2)
    (kept,) = bench.heartbeat("a", 1, owned=ALL, connection=4).assigned.values()
    with pytest.raises(errors.FencedMemberEpoch):
        bench.heartbeat("a", 1, owned={}, connection=3)
    assert bench.heartbeat("b", 2, owned={}).assigned is None
    bench.heartbeat("a", 1, owned={ORDERS: kept}, connection=5)
    assert len(bench.heartbeat("b", 2, owned={}).assigned[ORDERS]) == 2


def test_a_member_that_does_not_give_up_in_time_is_fenced():
    bench = Bench()
    bench.heartbeat("a", 0, rebalance_timeout_ms=20_000)
    bench.heartbeat("b", 0)
    bench.heartbeat("a", 1, owned=ALL)
    for _ in range(4):
        bench.advance(4_000)
        bench.heartbeat("a", 1, owned=ALL)
        bench.heartbeat("b", 2)
    bench.advance(4_000)
    with pytest.raises(errors.UnknownMemberId):
        bench.heartbeat("a", 1, owned=ALL)
    assert bench.heartbeat("b", 2).assigned == ALL


def test_a_silent_member_is_taken_for_dead_after_its_session():
    bench = Bench()
    bench.heartbeat("a", 0)
    bench.advance(45_000)
    with pytest.raises(errors.UnknownMemberId):
        bench.heartbeat("a", 1)
    assert bench.coordinator.groups["g"].state() == "Empty"


def test_another_epoch_than_the_members_is_fenced_but_for_a_lost_answer():
    bench = Bench()
    bench.heartbeat("a", 0)
    bench.heartbeat("b", 0)
    for epoch in (2, 7):
        with pytest.raises(errors.FencedMemberEpoch):
            bench.heartbeat("a", epoch)
    with pytest.raises(errors.FencedMemberEpoch):
        bench.heartbeat("b", 1, owned=ALL)
    (kept,) = bench.heartbeat("a", 1, owned=ALL).assigned.values()
    bench.heartbeat("a", 1, owned={ORDERS: kept})
    assert bench.heartbeat("a", 1, owned={ORDERS: kept}).member_epoch == 2
    with pytest.raises(errors.FencedMemberEpoch):
        bench.heartbeat("a", 1)


@pytest.mark.parametrize(
    ("epoch", "fields"),
    [
        (0, {"rebalance_timeout_ms": -1}),
        (0, {"owned": None}),
        (0, {"owned": ALL}),
        (0, {"topics": None}),
        (0, {"instance": ""}),
        (0, {"rack": ""}),
        (-2, {}),
        (-3, {}),
    ],
)
def test_a_heartbeat_that_contradicts_itself_is_refused(epoch, fields):
    with pytest.raises(coordinator_errors.InvalidRequest):
        Bench().heartbeat("a", epoch, **fields)


def stable(bench: Bench) -> Bench:
    bench.heartbeat("a", 0)
    return bench


def test_strangers_and_their_groups_are_refused():
    with pytest.raises(errors.GroupIdNotFound):
        Bench().heartbeat("a", 1)
    for epoch in (1, -1):
        with pytest.raises(errors.UnknownMemberId):
            stable(Bench()).heartbeat("b", epoch)


def test_an_assignor_that_is_not_there_is_refused():
    with pytest.raises(errors.UnsupportedAssignor):
        Bench().heartbeat("a", 0, assignor="mine")


def test_range_gives_runs_and_uniform_balances():
    bench = Bench({"orders": topic(1, 3), "refunds": topic(2, 3)})
    for name in ("a", "b"):
        bench.heartbeat(name, 0, topics=("orders", "refunds"), assignor="range")
    target = bench.coordinator.groups["g"].target
    assert target["a"] == {topic(1, 3).id: frozenset({0, 1}), topic(2, 3).id: frozenset({0, 1})}
    bench.heartbeat("a", 1, assignor="uniform", owned={})
    bench.heartbeat("b", 2, assignor="uniform", owned={})
    target = bench.coordinator.groups["g"].target
    assert {sum(map(len, one.values())) for one in target.values()} == {3}


def test_a_regular_expression_is_read_by_re2_and_follows_new_topics():
    bench = Bench({"orders.eu": topic(1, 1), "refunds": topic(2, 1), "__consumer_offsets": topic(3, 1, internal=True)})
    beat = bench.heartbeat("a", 0, topics=None, regex="(orders|__).*")
    assert beat.assigned == {topic(1, 1).id: frozenset({0})}
    bench.topics["orders.us"] = topic(4, 1)
    bench.advance(10_000)
    assert set(bench.heartbeat("a", 1, owned=beat.assigned).assigned) == {topic(1, 1).id, topic(4, 1).id}
    for bad in ("(", "(?=x)", "a**"):
        with pytest.raises(errors.InvalidRegularExpression):
            bench.heartbeat("b", 0, topics=None, regex=bad)


def test_a_topic_that_grows_begins_an_epoch():
    bench = Bench()
    bench.heartbeat("a", 0)
    bench.topics["orders"] = topic(1, 6)
    beat = bench.heartbeat("a", 1)
    assert (beat.member_epoch, beat.assigned) == (2, {ORDERS: frozenset(range(6))})


def test_a_static_member_leaves_for_a_while_and_takes_its_place_again():
    bench = Bench()
    bench.heartbeat("a", 0, instance="one")
    bench.heartbeat("other", 0)
    (kept,) = bench.heartbeat("a", 1, owned=ALL).assigned.values()
    bench.heartbeat("a", 1, owned={ORDERS: kept})
    bench.heartbeat("other", 2)
    with pytest.raises(errors.UnreleasedInstanceId):
        bench.heartbeat("b", 0, instance="one")
    bench.heartbeat("a", -2, instance="one")
    back = bench.heartbeat("b", 0, instance="one")
    assert (back.member_epoch, back.assigned) == (2, {ORDERS: kept})
    with pytest.raises(errors.FencedInstanceId):
        bench.heartbeat("a", 2, instance="one")
    with pytest.raises(errors.FencedInstanceId):
        bench.heartbeat("a", -1, instance="one")
    with pytest.raises(errors.UnknownMemberId):
        bench.heartbeat("a", 2, instance="two")


def test_a_static_member_that_does_not_come_back_loses_its_place():
    bench = Bench()
    bench.heartbeat("a", 0, instance="one")
    bench.heartbeat("a", -2, instance="one")
    bench.advance(45_000)
    assert bench.coordinator.groups["g"].empty()


def test_a_full_group_takes_nobody():
    bench = stable(Bench(consumer_members_max=1))
    with pytest.raises(errors.GroupMaxSizeReached):
        bench.heartbeat("b", 0)


def test_commits_are_for_members_at_their_epoch():
    bench = stable(Bench())
    assert commit(bench, "a", 1) == {("orders", 0): 0}
    with pytest.raises(errors.StaleMemberEpoch):
        commit(bench, "a", 0)
    with pytest.raises(errors.UnsupportedVersion):
        commit(bench, "a", 0, knows_epochs=False)
    for member_id, epoch in (("stranger", 1), ("", -1)):
        with pytest.raises(errors.UnknownMemberId):
            commit(bench, member_id, epoch)


def test_an_empty_group_of_one_kind_becomes_another_with_its_next_member():
    bench = stable(Bench())
    bench.heartbeat("a", -1)
    bench.join(two_steps=False)
    assert bench.coordinator.groups["g"].kind == "classic"
    (member,) = bench.coordinator.groups["g"].members
    bench.leave(member)
    assert bench.heartbeat("b", 0).member_epoch == 1
    assert bench.coordinator.groups["g"].kind == "consumer"
    assert bench.replayed().groups["g"].kind == "consumer"


def test_a_classic_group_of_another_protocol_is_not_upgraded():
    bench = Bench()
    joined = bench.join(two_steps=False, protocol_type="connect")
    bench.sync(joined.member_id, 1)
    with pytest.raises(errors.GroupIdNotFound):
        bench.heartbeat("b", 0)
    assert bench.beat(joined.member_id, 1) is None


def test_a_group_that_was_read_from_the_log_goes_on_where_it_was():
    bench = Bench()
    bench.heartbeat("a", 0)
    bench.heartbeat("b", 0)
    (kept,) = bench.heartbeat("a", 1, owned=ALL).assigned.values()
    bench.coordinator = bench.replayed()
    group = bench.coordinator.groups["g"]
    assert group.members["a"].current.state is MemberState.UNREVOKED
    assert bench.heartbeat("b", 2, owned={}).assigned is None
    assert bench.heartbeat("a", 1, owned={ORDERS: kept}).member_epoch == 2
    assert bench.heartbeat("b", 2).assigned == {ORDERS: frozenset({0, 1, 2, 3}) - kept}
