"""The classic group: the barrier, what is refused at it, static members, and time."""

import pytest

from mainspring.storage.log.groups import errors
from mainspring.storage.log.groups.classic_members import State
from mainspring.storage.log.groups.messages import Joined, Leaving, Offset, OffsetCommit

from .bench import PENDING, Bench


def first_member(bench: Bench, **fields) -> Joined:
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join(**fields)
    return bench.join(required.value.member_id, **fields)


def stable(bench: Bench, **fields) -> Joined:
    """A group of one member that has its assignment."""
    joined = first_member(bench, **fields)
    bench.sync(joined.member_id, joined.generation, assignments=((joined.member_id, b"all"),))
    return joined


def two_members(bench: Bench) -> tuple[Joined, Joined]:
    """A stable group of two."""
    first = stable(bench)
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join()
    assert bench.join(required.value.member_id) is PENDING
    waiting = bench.token
    leader = bench.join(first.member_id)
    follower = bench.answers[waiting]
    assert bench.sync(follower.member_id, follower.generation) is PENDING
    waiting = bench.token
    shares = ((leader.member_id, b"a"), (follower.member_id, b"b"))
    assert bench.sync(leader.member_id, leader.generation, assignments=shares).assignment == b"a"
    assert bench.answers[waiting].assignment == b"b"
    return leader, follower


def test_a_first_member_is_told_an_id_and_then_leads_generation_one():
    bench = Bench()
    joined = first_member(bench)
    assert (joined.generation, joined.leader, joined.protocol) == (1, joined.member_id, "range")
    assert joined.members == ((joined.member_id, None, b"meta"),)


def test_a_client_of_the_first_versions_joins_in_one_step():
    assert Bench().join(two_steps=False).generation == 1


def test_an_id_that_was_given_and_not_used_is_forgotten_after_the_session():
    bench = Bench()
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join()
    bench.advance(10_000)
    with pytest.raises(errors.UnknownMemberId):
        bench.join(required.value.member_id)


def test_a_follower_hears_its_share_when_the_leader_has_spoken():
    bench = Bench()
    leader, follower = two_members(bench)
    assert leader.generation == follower.generation == 2
    assert {id for id, _, _ in leader.members} == {leader.member_id, follower.member_id}
    assert follower.members == ()


def test_members_hear_of_a_rebalance_by_their_heartbeat():
    bench = Bench()
    first = stable(bench)
    bench.beat(first.member_id, 1)
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join()
    assert bench.join(required.value.member_id) is PENDING
    with pytest.raises(errors.RebalanceInProgress):
        bench.beat(first.member_id, 1)
    with pytest.raises(errors.RebalanceInProgress):
        bench.sync(first.member_id, 1)


def test_who_does_not_come_to_the_barrier_in_time_is_left_out():
    bench = Bench()
    leader, follower = two_members(bench)
    assert bench.join(leader.member_id) is PENDING
    waiting = bench.token
    for _ in range(12):
        bench.advance(5_000)
        with pytest.raises(errors.GroupError):
            bench.beat(follower.member_id, 2)
    assert bench.answers[waiting].generation == 3
    with pytest.raises(errors.UnknownMemberId):
        bench.beat(follower.member_id, 3)


def test_a_silent_member_is_taken_for_dead_after_its_session():
    bench = Bench()
    leader, follower = two_members(bench)
    bench.advance(6_000)
    bench.beat(leader.member_id, 2)
    bench.advance(6_000)
    with pytest.raises(errors.RebalanceInProgress):
        bench.beat(leader.member_id, 2)
    assert bench.join(leader.member_id).generation == 3
    with pytest.raises(errors.UnknownMemberId):
        bench.beat(follower.member_id, 2)


def test_a_leader_that_never_assigns_is_left_out():
    bench = Bench()
    joined = first_member(bench, session_timeout_ms=1_800_000)
    bench.advance(60_000)
    with pytest.raises(errors.UnknownMemberId):
        bench.sync(joined.member_id, joined.generation)


def test_an_old_generation_is_refused():
    bench = Bench()
    first = stable(bench)
    for ask in (
        lambda: bench.beat(first.member_id, 0),
        lambda: bench.sync(first.member_id, 7),
        lambda: bench.ask(
            OffsetCommit(group="g", member_id=first.member_id, generation=0, offsets={("orders", 0): Offset(1)})
        ),
    ):
        with pytest.raises(errors.IllegalGeneration):
            ask()


def test_a_stranger_is_refused():
    bench = Bench()
    stable(bench)
    for ask in (
        lambda: bench.beat("stranger", 1),
        lambda: bench.sync("stranger", 1),
        lambda: bench.join("stranger"),
        lambda: bench.ask(OffsetCommit(group="g", member_id="x", generation=1, offsets={("orders", 0): Offset(1)})),
        lambda: bench.ask(OffsetCommit(group="g", offsets={("orders", 0): Offset(1)})),
    ):
        with pytest.raises(errors.UnknownMemberId):
            ask()
    assert isinstance(bench.leave("stranger")[0][2], errors.UnknownMemberId)


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
def test_a_session_out_of_bounds_is_refused(session_ms):
    with pytest.raises(errors.InvalidSessionTimeout):
        Bench().join(session_timeout_ms=session_ms)


def test_a_group_without_a_name_is_refused():
    with pytest.raises(errors.InvalidGroupId):
        Bench().join(group="")


@pytest.mark.parametrize(
    "fields",
    [{"protocol_type": ""}, {"protocols": ()}, {"protocol_type": "connect"}, {"protocols": (("other", b""),)}],
)
def test_a_member_that_shares_no_protocol_with_the_group_is_refused(fields):
    bench = Bench()
    stable(bench)
    with pytest.raises(errors.InconsistentGroupProtocol):
        bench.join(**fields)


def test_a_sync_for_another_protocol_is_refused():
    bench = Bench()
    first = stable(bench)
    for fields in ({"protocol": "other"}, {"protocol_type": "connect"}):
        with pytest.raises(errors.InconsistentGroupProtocol):
            bench.sync(first.member_id, 1, **fields)


def test_a_full_group_takes_nobody():
    bench = Bench(group_members_max=1)
    stable(bench)
    with pytest.raises(errors.GroupMaxSizeReached):
        bench.join()
    with pytest.raises(errors.GroupMaxSizeReached):
        bench.join(instance="static")


def test_members_vote_for_the_protocol_that_all_support():
    bench = Bench()
    stable(bench, protocols=(("a", b""), ("b", b"")))
    member = next(iter(bench.coordinator.groups["g"].members))
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join(protocols=(("b", b""), ("c", b"")))
    bench.join(required.value.member_id, protocols=(("b", b""), ("c", b"")))
    assert bench.join(member, protocols=(("a", b""), ("b", b""))).protocol == "b"


def test_a_static_member_comes_back_to_its_assignment_and_fences_its_old_self():
    bench = Bench()
    first = bench.join(instance="one")
    bench.sync(first.member_id, 1, instance="one", assignments=((first.member_id, b"all"),))
    again = bench.join(instance="one")
    assert again.generation == 1
    assert again.member_id != first.member_id
    assert again.skip_assignment
    assert bench.sync(again.member_id, 1, instance="one").assignment == b"all"
    for ask in (
        lambda: bench.beat(first.member_id, 1, instance="one"),
        lambda: bench.sync(first.member_id, 1, instance="one"),
        lambda: bench.join(first.member_id, instance="one"),
        lambda: bench.ask(
            OffsetCommit(
                group="g", member_id=first.member_id, instance="one", generation=1, offsets={("orders", 0): Offset(1)}
            )
        ),
    ):
        with pytest.raises(errors.FencedInstanceId):
            ask()
    assert isinstance(bench.leave(Leaving(first.member_id, "one"))[0][2], errors.FencedInstanceId)


def test_a_static_leader_of_an_older_version_is_told_of_another_leader_so_that_it_assigns_nothing():
    bench = Bench()
    first = bench.join(instance="one", skips_assignment=False)
    bench.sync(first.member_id, 1, instance="one", assignments=((first.member_id, b"all"),))
    again = bench.join(instance="one", skips_assignment=False)
    assert again.leader == first.member_id
    assert again.members == ()


def test_a_static_member_that_waits_at_the_barrier_is_fenced_by_the_one_that_replaces_it():
    bench = Bench()
    leader, _ = two_members(bench)
    assert bench.join(instance="one") is PENDING
    waiting = bench.token
    assert bench.join(instance="one") is PENDING
    assert isinstance(bench.answers[waiting], errors.FencedInstanceId)
    assert bench.join(leader.member_id) is PENDING


def test_a_static_member_may_be_removed_by_its_instance_alone():
    bench = Bench()
    first = bench.join(instance="one")
    bench.sync(first.member_id, 1, instance="one", assignments=())
    assert bench.leave(Leaving("", "one"))[0][2] is None
    assert bench.coordinator.groups["g"].state is State.EMPTY
    assert isinstance(bench.leave(Leaving("", "one"))[0][2], errors.UnknownMemberId)


def test_a_leave_begins_a_rebalance_at_once():
    bench = Bench()
    leader, follower = two_members(bench)
    bench.leave(leader.member_id)
    with pytest.raises(errors.RebalanceInProgress):
        bench.beat(follower.member_id, 2)
    joined = bench.join(follower.member_id)
    assert joined.leader == follower.member_id


def test_the_first_members_are_waited_for_where_a_delay_is_set():
    bench = Bench(initial_rebalance_delay_ms=3_000)
    with pytest.raises(errors.MemberIdRequired) as required:
        bench.join()
    assert bench.join(required.value.member_id) is PENDING
    first = bench.token
    bench.advance(2_000)
    assert bench.join(two_steps=False) is PENDING
    second = bench.token
    bench.advance(3_000)
    assert first not in bench.answers
    bench.advance(3_000)
    assert bench.answers[first].generation == bench.answers[second].generation == 1


def test_a_member_may_not_commit_between_joining_and_its_assignment():
    bench = Bench()
    joined = first_member(bench)
    with pytest.raises(errors.RebalanceInProgress):
        bench.ask(OffsetCommit(group="g", member_id=joined.member_id, generation=1, offsets={("orders", 0): Offset(1)}))


def test_an_answer_that_was_lost_is_given_again_without_a_new_generation():
    bench = Bench()
    joined = first_member(bench)
    assert bench.join(joined.member_id) == joined
    leader, follower = two_members(bench := Bench())
    assert bench.join(follower.member_id).generation == follower.generation
    assert bench.sync(leader.member_id, 2).assignment == b"a"


def test_a_group_that_was_read_from_the_log_goes_on_in_its_generation():
    bench = Bench()
    leader, follower = two_members(bench)
    bench.coordinator = bench.replayed()
    bench.beat(leader.member_id, 2)
    assert bench.sync(follower.member_id, 2).assignment == b"b"
    bench.wakes["g"] = bench.coordinator.groups["g"].next_ms()
    bench.advance(10_000)
    assert bench.coordinator.groups["g"].state is State.EMPTY
