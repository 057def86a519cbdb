"""Incremental fetch sessions, without a socket."""

from random import Random

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.kafka.fetch_sessions import (
    EPOCH_MAX,
    EVICTION_NS,
    INVALID_EPOCH,
    SESSION_NOT_FOUND,
    TOPIC_ID_ERROR,
    FetchSessions,
    Wanted,
)


def wanted(*indexes: int, offset: int = 0) -> list[Wanted]:
    return [Wanted("t", index, offset, 1000, -1, -1) for index in indexes]


def make(sessions_max: int = 10) -> tuple[FetchSessions, VirtualClock]:
    clock = VirtualClock()
    return FetchSessions(clock, Random(1), sessions_max), clock


def test_a_session_remembers_what_was_asked_before() -> None:
    sessions, _ = make()
    first = sessions.turn(0, 0, wanted(0, 1, 2), (), by_id=False)
    assert first.session_id > 0
    assert not first.incremental
    second = sessions.turn(first.session_id, 1, wanted(1, offset=7), [("t", 2)], by_id=False)
    assert second.incremental
    assert {one.index: one.offset for one in second.wanted} == {0: 0, 1: 7}


def test_a_request_that_is_lost_or_repeated_is_noticed() -> None:
    sessions, _ = make()
    session_id = sessions.turn(0, 0, wanted(0), (), by_id=False).session_id
    assert sessions.turn(session_id, 1, [], (), by_id=False).error_code == 0
    assert sessions.turn(session_id, 1, [], (), by_id=False).error_code == INVALID_EPOCH
    assert sessions.turn(session_id, 3, [], (), by_id=False).error_code == INVALID_EPOCH
    assert sessions.turn(session_id, 2, [], (), by_id=False).error_code == 0
    assert sessions.turn(session_id + 1, 3, [], (), by_id=False).error_code == SESSION_NOT_FOUND


def test_a_session_keeps_to_names_or_to_ids() -> None:
    sessions, _ = make()
    session_id = sessions.turn(0, 0, wanted(0), (), by_id=False).session_id
    assert sessions.turn(session_id, 1, [], (), by_id=True).error_code == TOPIC_ID_ERROR


def test_the_last_epoch_ends_a_session_and_the_first_makes_another() -> None:
    sessions, _ = make()
    session_id = sessions.turn(0, 0, wanted(0), (), by_id=False).session_id
    again = sessions.turn(session_id, 0, wanted(0), (), by_id=False).session_id
    assert again not in (0, session_id)
    assert len(sessions) == 1
    assert sessions.turn(again, -1, wanted(0), (), by_id=False).session_id == 0
    assert len(sessions) == 0


def test_epochs_begin_again_at_one() -> None:
    sessions, _ = make()
    turn = sessions.turn(0, 0, wanted(0), (), by_id=False)
    assert turn.session is not None
    turn.session.epoch = EPOCH_MAX
    assert sessions.turn(turn.session_id, EPOCH_MAX, [], (), by_id=False).error_code == 0
    assert sessions.turn(turn.session_id, 1, [], (), by_id=False).error_code == 0


async def test_a_session_gives_way_only_when_it_was_unused_for_long() -> None:
    sessions, clock = make(sessions_max=2)
    first, second = (sessions.turn(0, 0, wanted(0), (), by_id=False).session_id for _ in range(2))
    assert sessions.turn(0, 0, wanted(0), (), by_id=False).session_id == 0
    await clock.advance(EVICTION_NS / 1e9)
    assert sessions.turn(first, 1, [], (), by_id=False).error_code == 0
    assert sessions.turn(0, 0, wanted(0), (), by_id=False).session_id > 0
    assert sessions.turn(second, 1, [], (), by_id=False).error_code == SESSION_NOT_FOUND
    assert len(sessions) == 2


def test_partitions_that_gave_records_go_behind_the_others() -> None:
    sessions, _ = make()
    turn = sessions.turn(0, 0, wanted(0, 1, 2), (), by_id=False)
    assert turn.session is not None
    turn.session.sent(turn.wanted[0])
    again = sessions.turn(turn.session_id, 1, [], (), by_id=False)
    assert [one.index for one in again.wanted] == [1, 2, 0]
