"""The transaction coordinator's state machine: both flows, every refusal, time, and what the log tells."""

from itertools import count

import pytest

from mainspring.storage.log import coordinator_errors
from mainspring.storage.log import transaction_errors as errors
from mainspring.storage.log.groups.turn import Turn
from mainspring.storage.log.record_schemas import TRANSACTION_RECORDS, decode, encode_key, encode_value
from mainspring.storage.log.transaction_machine import (
    EPOCH_MAX,
    FOLLOWS_EPOCHS,
    NO_CONNECTION,
    Producer,
    State,
    Transactions,
)

WALL_MS = 1_767_225_600_000
OUT = ("out", 0)
DAY_MS = 86_400_000


class Bench:
    """The machine with a log in memory; `ended` plays the driver that writes markers."""

    def __init__(self) -> None:
        self.ids = count(100)
        self.now_ms = 1_000
        self.log = []
        self.machine = self.fresh()

    def fresh(self) -> Transactions:
        return Transactions(lambda: next(self.ids), 900_000, 7 * DAY_MS, ids_max=1_000)

    def turn(self) -> Turn:
        return Turn(self.now_ms, WALL_MS + self.now_ms)

    def conclude(self, turn: Turn) -> None:
        for one in turn.records:
            value = None if one.value is None else encode_value(one.schema, one.value)
            self.log.append((encode_key(one.schema, one.key), value))

    def do(self, name: str, *args):
        turn = self.turn()
        try:
            answer = getattr(self.machine, name)(*args, turn)
        except coordinator_errors.CoordinatorError:
            assert not turn.records, "a refusal changes nothing"
            raise
        self.conclude(turn)
        return answer

    def init(self, timeout_ms: int = 60_000, expected: Producer | None = None, id: str = "t"):
        return self.do("init", id, timeout_ms, expected, NO_CONNECTION)

    def add(self, producer: Producer, *slots, connection: int = NO_CONNECTION, version: int = 0) -> None:
        self.do("add", "t", producer, slots or (OUT,), connection, version)

    def end(self, producer: Producer, commit: bool = True, version: int = 0, connection: int = NO_CONNECTION):
        return self.do("end", "t", producer, commit, version, connection)

    def ended(self) -> None:
        self.do("complete", "t")
        self.machine.completed("t")

    def replay(self) -> None:
        self.machine = self.fresh()
        turn = self.turn()
        for key, value in self.log:
            self.machine.replay(decode(TRANSACTION_RECORDS, key, value), turn)

    @property
    def found(self):
        return self.machine.by_id["t"]


def test_the_older_flow_keeps_its_epoch_from_transaction_to_transaction():
    bench = Bench()
    producer = bench.init()
    assert producer == Producer(100, 0)
    for commit, state in ((True, State.COMPLETE_COMMIT), (False, State.COMPLETE_ABORT)):
        bench.add(producer)
        assert bench.end(producer, commit) == producer
        bench.ended()
        assert bench.found.state is state
        assert bench.end(producer, commit) == producer


def test_the_newer_flow_raises_the_epoch_at_every_end_and_answers_a_repetition():
    bench = Bench()
    producer = bench.init()
    for commit in (True, False):
        bench.add(producer, version=2)
        after = bench.end(producer, commit, FOLLOWS_EPOCHS)
        assert after == Producer(producer.id, producer.epoch + 1)
        bench.ended()
        assert bench.end(producer, commit, FOLLOWS_EPOCHS) == after
        with pytest.raises(errors.InvalidTxnState):
            bench.end(producer, not commit, FOLLOWS_EPOCHS)
        producer = after


def test_a_late_end_of_the_newer_flow_never_ends_the_next_transaction():
    bench = Bench()
    first = bench.init()
    bench.add(first, version=2)
    second = bench.end(first, True, FOLLOWS_EPOCHS)
    bench.ended()
    bench.add(second, version=2)
    for commit in (True, False):
        with pytest.raises(errors.ProducerFenced):
            bench.end(first, commit, FOLLOWS_EPOCHS)
    assert bench.found.state is State.ONGOING


def test_a_late_end_of_the_older_flow_is_known_by_its_connection():
    bench = Bench()
    producer = bench.init()
    bench.add(producer, connection=1)
    bench.end(producer, connection=1)
    bench.ended()
    bench.end(producer, connection=3)  # the retry; that on connection 2 is still on its way
    bench.add(producer, connection=3)
    for connection in (1, 2):
        for late in (bench.end, bench.add):
            with pytest.raises(errors.InvalidTxnState):
                late(producer, connection=connection)
    assert bench.found.state is State.ONGOING


def test_late_positions_of_the_older_flow_are_known_by_their_connection():
    bench = Bench()
    producer = bench.init()
    bench.add(producer)
    bench.machine.take_offsets("t", producer, 3)
    bench.machine.take_offsets("t", producer, 3)
    with pytest.raises(errors.InvalidTxnState):
        bench.machine.take_offsets("t", producer, 2)
    with pytest.raises(errors.ProducerFenced):
        bench.machine.take_offsets("t", Producer(producer.id, 9), 4)


def test_an_abort_of_nothing_moves_the_epoch_and_a_commit_of_nothing_is_refused():
    bench = Bench()
    producer = bench.init()
    with pytest.raises(errors.InvalidTxnState):
        bench.end(producer, True, FOLLOWS_EPOCHS)
    after = bench.end(producer, False, FOLLOWS_EPOCHS)
    assert after.epoch == 1
    assert bench.end(producer, False, FOLLOWS_EPOCHS) == after
    bench = Bench()
    producer = bench.init()
    for commit in (True, False):
        with pytest.raises(errors.InvalidTxnState):
            bench.end(producer, commit)


def test_nothing_begins_while_the_transaction_before_is_being_ended():
    bench = Bench()
    producer = bench.init()
    bench.add(producer)
    bench.end(producer)
    for ask in (lambda: bench.add(producer), lambda: bench.end(producer), bench.init):
        with pytest.raises(errors.ConcurrentTransactions):
            ask()
    with pytest.raises(errors.InvalidTxnState):
        bench.end(producer, commit=False)
    turn = bench.turn()
    bench.machine.complete("t", turn)
    with pytest.raises(errors.ConcurrentTransactions):
        bench.add(producer)


def test_a_new_producer_fences_the_one_before_and_aborts_what_it_left():
    bench = Bench()
    old = bench.init()
    bench.add(old)
    assert bench.init() is None
    assert (bench.found.state, bench.found.epoch, bench.found.raised) == (State.PREPARE_ABORT, 1, True)
    bench.ended()
    new = bench.init()
    assert new == Producer(100, 2)
    for ask in (lambda: bench.add(old), lambda: bench.end(old), lambda: bench.init(expected=old)):
        with pytest.raises(errors.ProducerFenced):
            ask()


def test_a_producer_that_goes_on_is_given_the_next_epoch_once_however_often_it_asks():
    bench = Bench()
    first = bench.init()
    second = bench.init(expected=first)
    assert second.epoch == 1
    assert bench.init(expected=first) == second
    with pytest.raises(errors.ProducerFenced):
        bench.init(expected=Producer(99, 0))


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_a_timeout_out_of_bounds_is_refused(timeout_ms):
    bench = Bench()
    with pytest.raises(errors.InvalidTransactionTimeout):
        bench.init(timeout_ms)
    assert not bench.machine.by_id


def test_a_transactional_id_must_be_known_named_and_its_producers():
    bench = Bench()
    with pytest.raises(coordinator_errors.InvalidRequest):
        bench.init(id="")
    for ask in (bench.add, bench.end):
        with pytest.raises(errors.InvalidProducerIdMapping):
            ask(Producer(100, 0))
    producer = bench.init()
    for ask in (bench.add, bench.end):
        with pytest.raises(errors.InvalidProducerIdMapping):
            ask(Producer(7, 0))
        with pytest.raises(errors.ProducerFenced):
            ask(Producer(producer.id, 9))
    with pytest.raises(errors.TransactionalIdNotFound):
        bench.do("abort", "other")
    with pytest.raises(errors.InvalidTxnState):
        bench.do("abort", "t")


def test_a_transaction_is_aborted_when_its_time_is_over_and_its_producer_fenced():
    bench = Bench()
    producer = bench.init(timeout_ms=5_000)
    bench.add(producer)
    bench.now_ms += 4_999
    bench.do("expire", "t")
    assert bench.found.state is State.ONGOING
    bench.now_ms += 1
    bench.do("expire", "t")
    assert bench.found.state is State.PREPARE_ABORT
    bench.ended()
    with pytest.raises(errors.ProducerFenced):
        bench.end(producer)


def test_a_transaction_that_was_read_from_the_log_has_the_time_that_is_left():
    bench = Bench()
    bench.add(bench.init(timeout_ms=5_000))
    bench.now_ms += 3_000
    bench.replay()
    assert bench.found.deadline_ms == bench.now_ms + 2_000
    bench.now_ms -= 500_000  # the wall clock was set back: no more than the whole time
    bench.replay()
    assert bench.found.deadline_ms == bench.now_ms + 5_000


def test_the_last_epoch_is_followed_by_another_producer_id():
    bench = Bench()
    bench.init()
    bench.found.epoch = EPOCH_MAX - 1
    last = Producer(100, EPOCH_MAX - 1)
    bench.add(last, version=2)
    after = bench.end(last, True, FOLLOWS_EPOCHS)
    assert after == Producer(101, 0)
    assert bench.found.epoch == EPOCH_MAX
    bench.replay()
    bench.ended()
    assert bench.end(last, True, FOLLOWS_EPOCHS) == after
    bench.replay()
    assert bench.end(last, True, FOLLOWS_EPOCHS) == after
    bench.add(after, version=2)


def test_a_fenced_producer_of_the_last_epoch_is_followed_by_another_producer_id():
    bench = Bench()
    bench.init()
    bench.found.epoch = EPOCH_MAX - 1
    bench.add(Producer(100, EPOCH_MAX - 1))
    assert bench.init() is None
    assert bench.found.epoch == EPOCH_MAX
    bench.ended()
    assert bench.init() == Producer(101, 0)


def test_a_partition_is_held_from_its_adding_to_the_end():
    bench = Bench()
    producer = bench.init()
    assert bench.machine.holds("t", producer, (OUT,)) == [False]
    bench.add(producer)
    assert bench.machine.holds("t", producer, (OUT, ("out", 1))) == [True, False]
    bench.end(producer)
    bench.ended()
    assert bench.machine.holds("t", producer, (OUT,)) == [False]


@pytest.mark.parametrize("steps", range(5))
def test_the_log_tells_the_whole_state(steps):
    bench = Bench()
    producer = bench.init()
    for step in range(steps):
        if step % 3 == 0:
            bench.add(producer, OUT, ("out", 1), version=2)
        elif step % 3 == 1:
            producer = bench.end(producer, True, FOLLOWS_EPOCHS)
        else:
            bench.ended()
    before = bench.found
    bench.replay()
    for name in ("producer_id", "epoch", "state", "slots", "timeout_ms", "started_ms", "version", "last_epoch"):
        if name != "last_epoch" or before.version >= FOLLOWS_EPOCHS:
            assert getattr(bench.found, name) == getattr(before, name), name


def test_ids_that_nobody_uses_are_forgotten_but_never_an_open_transaction():
    bench = Bench()
    producer = bench.init(timeout_ms=900_000)
    bench.add(producer)
    bench.now_ms += 8 * DAY_MS
    bench.do("sweep")
    assert "t" in bench.machine.by_id
    bench.end(producer)
    bench.ended()
    bench.now_ms += 8 * DAY_MS
    bench.do("sweep")
    assert not bench.machine.by_id
    bench.replay()
    assert not bench.machine.by_id
