"""The transaction coordinator as a state machine: who produces for an id, in which partitions, and how it ends.

    EMPTY -> ONGOING -> PREPARE_COMMIT -> COMPLETE_COMMIT -> ONGOING ...
                     -> PREPARE_ABORT  -> COMPLETE_ABORT

The record of PREPARE decides; markers then go to every partition, and COMPLETE is written when all stand. Why it holds:

- An epoch belongs to one transaction where the client can follow (EndTxn 5 and later, KIP-890): each end raises it, markers
  carry the raised one, so that a late or repeated EndTxn, record or marker of the old epoch is refused everywhere.
- Clients of the older flow keep their epoch. There the connection orders: a client speaks to its coordinator on one connection
  at a time and opens the next when it has given up the one before, so a request from a connection that was accepted before
  one that has already been heard is late, and is refused whatever it says (`connection_number`).
- A transaction that is not ended in its time is aborted under a raised epoch, with or without its producer.
- Until COMPLETE is durable nothing of the next transaction is let in: markers that a restart writes again find nothing new.

Kafka's TransactionCoordinator and TransactionMetadata, in their terms. Pure: the time comes in a `Turn`, new ids by `new_id`.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import count
from typing import Any

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.record_schemas import TRANSACTION, Record
from mainspring.storage.log.transaction_errors import (
    ConcurrentTransactions,
    InvalidProducerIdMapping,
    InvalidTransactionTimeout,
    InvalidTxnState,
    ProducerFenced,
    TooManyTransactionalIds,
    TransactionalIdNotFound,
)

EPOCH_MAX = 0x7FFF
ID_BYTES_MAX = 32_767
FOLLOWS_EPOCHS = 2
"""The client transaction version from which on every end raises the epoch."""

Slot = tuple[str, int]

connection_number = count(1).__next__
"""Called once for each connection when it is accepted, and for each producer in this process: the order of all of them."""
NO_CONNECTION = -1


class State(IntEnum):
    """The numbers are those of Kafka's records."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5

    @property
    def prepared(self) -> bool:
        return self in (State.PREPARE_COMMIT, State.PREPARE_ABORT)

    @property
    def title(self) -> str:
        """As Kafka's tools show it."""
        return "".join(word.capitalize() for word in self.name.split("_"))


class Producer(msgspec.Struct, frozen=True):
    """Under which id and epoch to produce."""

    id: int
    epoch: int


class Transaction(msgspec.Struct, kw_only=True):
    """All that is known of a transactional id. Milliseconds UTC, but `deadline_ms`, which is monotonic."""

    id: str
    producer_id: int
    epoch: int = -1
    last_epoch: int = -1
    """The epoch before this one, for a client whose answer was lost."""
    previous_producer_id: int = -1
    next_producer_id: int = -1
    timeout_ms: int = 60_000
    state: State = State.EMPTY
    slots: set[Slot] = msgspec.field(default_factory=set)
    started_ms: int = -1
    updated_ms: int = -1
    version: int = 0
    fenced: bool = False
    """The coordinator ends it, under an epoch that no client has."""
    deadline_ms: int = NEVER_MS
    connection: int = NO_CONNECTION
    """The newest that a request came from."""
    offsets_connection: int = NO_CONNECTION
    """The newest that positions came from: another one, where the group's coordinator is reached by a connection of its own."""

    @property
    def exhausted(self) -> bool:
        """No client may be given a higher epoch: the highest is left for fencing."""
        return self.epoch >= EPOCH_MAX - 1

    @property
    def raised(self) -> bool:
        """Whether the markers' epoch is above that of every record in the transaction."""
        return self.fenced or self.version >= FOLLOWS_EPOCHS


class Transactions:
    """By transactional id. Every method raises a `CoordinatorError` having changed nothing."""

    def __init__(self, new_id: Callable[[], int], timeout_ms_max: int, expiration_ms: int, ids_max: int) -> None:
        self.by_id: dict[str, Transaction] = {}
        self._new_id = new_id
        self._timeout_ms_max = timeout_ms_max
        self._expiration_ms = expiration_ms
        self._ids_max = ids_max

    def init(self, id: str, timeout_ms: int, expected: Producer | None, connection: int, turn: Turn) -> Producer | None:
        """Makes the caller the id's producer, fencing any other; None: what is open is being aborted, come again then.

        `expected` is what a producer that goes on believes it is.
        """
        if not id or len(id.encode()) > ID_BYTES_MAX:
            raise InvalidRequest
        if not 0 < timeout_ms <= self._timeout_ms_max:
            raise InvalidTransactionTimeout
        found = self.by_id.get(id)
        if found is None:
            if len(self.by_id) >= self._ids_max:
                raise TooManyTransactionalIds
            found = self.by_id[id] = Transaction(id=id, producer_id=self._new_id())
            expected = None
        if found.state.prepared:
            raise ConcurrentTransactions
        next_epoch = self._next_epoch(found, expected)
        # A new epoch refuses what is old by itself; its order begins with this connection, which may be an older one.
        found.connection, found.offsets_connection = connection, NO_CONNECTION
        if found.state is State.ONGOING:
            self.fence(found, turn)
            return None
        found.timeout_ms = timeout_ms
        found.version = 0
        found.slots = set()
        if next_epoch is None:
            found.previous_producer_id, found.producer_id = found.producer_id, self._new_id()
            found.last_epoch, found.epoch = found.epoch if expected else -1, 0
        elif next_epoch != found.epoch:
            found.last_epoch, found.epoch = found.epoch if expected else -1, next_epoch
        found.state = State.EMPTY
        found.started_ms = -1
        self._write(found, turn)
        return Producer(found.producer_id, found.epoch)

    def _next_epoch(self, found: Transaction, expected: Producer | None) -> int | None:
        """None: a new producer id is due. Raises `ProducerFenced` where `expected` is not, or no longer, the producer."""
        if expected is not None and found.epoch >= 0:
            if expected.id == found.previous_producer_id and expected.epoch == found.last_epoch:
                return found.epoch
            if expected.id != found.producer_id:
                raise ProducerFenced
            if expected.epoch == found.last_epoch and found.epoch != expected.epoch:
                return found.epoch
            if expected.epoch != found.epoch:
                raise ProducerFenced
        return None if found.exhausted else found.epoch + 1

    def add(
        self, id: str, producer: Producer, slots: Iterable[Slot], connection: int, version: int, turn: Turn
    ) -> None:
        """Takes partitions into the transaction, and begins it with the first."""
        found = self._of(id, producer, connection)
        fresh = [slot for slot in slots if slot not in found.slots] if found.state is State.ONGOING else list(slots)
        self._follow(found, connection)
        if found.state is State.ONGOING and not fresh:
            return
        if found.state is not State.ONGOING:
            found.state = State.ONGOING
            found.slots = set()
            found.started_ms = turn.wall_ms
            found.deadline_ms = turn.now_ms + found.timeout_ms
            turn.wake(id, found.deadline_ms)
        found.version = version
        found.slots.update(fresh)
        self._write(found, turn)

    def holds(self, id: str, producer: Producer, slots: Iterable[Slot]) -> list[bool]:
        """Whether each of the partitions is in the open transaction."""
        found = self._of(id, producer, NO_CONNECTION)
        return [found.state is State.ONGOING and slot in found.slots for slot in slots]

    def take_offsets(self, id: str, producer: Producer, connection: int) -> None:
        """Whether positions that came by this connection may belong to the open transaction, or are an earlier one's."""
        found = self._of(id, producer, NO_CONNECTION)
        if NO_CONNECTION < connection < found.offsets_connection:
            raise InvalidTxnState("a request of a connection that a later one has replaced")
        found.offsets_connection = max(found.offsets_connection, connection)

    def end(self, id: str, producer: Producer, commit: bool, version: int, connection: int, turn: Turn) -> Producer:
        """Decides. Gives the producer of the next transaction; where nothing is in `turn` it had been decided so before."""
        found = self.by_id.get(id)
        if not id:
            raise InvalidRequest
        if found is None:
            raise InvalidProducerIdMapping
        follows = version >= FOLLOWS_EPOCHS
        again = follows and self._repeats(found, producer)
        if producer.id != found.producer_id and not again:
            raise InvalidProducerIdMapping
        if producer.epoch != found.epoch and not again:
            raise ProducerFenced
        self._check_connection(found, connection)
        if found.state.prepared:
            if commit is not (found.state is State.PREPARE_COMMIT):
                raise InvalidTxnState
            raise ConcurrentTransactions
        if found.state is State.ONGOING:
            if again:
                raise ProducerFenced
            self._follow(found, connection)
            self._prepare(found, commit, follows, turn)
            return self._next(found)
        self._end_of_none(found, commit, follows, again)
        self._follow(found, connection)
        if follows and not again:
            # An abort of a transaction that no partition was in: only the epoch moves.
            self._raise_epoch(found)
            found.state, found.slots, found.version = State.COMPLETE_ABORT, set(), version
            self._settle(found)
            self._write(found, turn)
        return Producer(found.producer_id, found.epoch)

    @staticmethod
    def _end_of_none(found: Transaction, commit: bool, follows: bool, again: bool) -> None:
        """Raises where an end that finds no open transaction cannot be a repetition, nor an abort of nothing."""
        done = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        if follows and not again:
            if commit:
                raise InvalidTxnState
        elif found.state is not done:
            raise InvalidTxnState

    @staticmethod
    def _repeats(found: Transaction, producer: Producer) -> bool:
        """Whether this is the producer of the transaction before, whose end has raised the epoch."""
        if producer.id == found.producer_id:
            return found.last_epoch == producer.epoch != found.epoch
        return producer.id == found.previous_producer_id and producer.epoch == found.last_epoch and found.epoch == 0

    def fence(self, found: Transaction, turn: Turn) -> None:
        """Aborts what is open under a raised epoch: its producer can do nothing more."""
        found.fenced = True
        self._prepare(found, False, False, turn)

    def expire(self, id: str, turn: Turn) -> None:
        """Aborts a transaction whose time is over."""
        found = self.by_id.get(id)
        if found is None or found.state is not State.ONGOING:
            return
        if found.deadline_ms <= turn.now_ms:
            self.fence(found, turn)
        else:
            turn.wake(id, found.deadline_ms)

    def abort(self, id: str, turn: Turn) -> None:
        """An operator's abort. Raises `InvalidTxnState` where nothing is open."""
        found = self.by_id.get(id)
        if found is None:
            raise TransactionalIdNotFound
        if found.state is not State.ONGOING:
            raise InvalidTxnState
        self.fence(found, turn)

    def complete(self, id: str, turn: Turn) -> None:
        """All markers stand: writes it down. The state changes by `completed`, when that is durable."""
        found = self.by_id[id]
        after = msgspec.structs.replace(
            found,
            state=State.COMPLETE_COMMIT if found.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT,
            slots=set(),
            updated_ms=turn.wall_ms,
        )
        self._settle(after)
        turn.write(TRANSACTION, (id,), _value(after))

    def completed(self, id: str) -> None:
        """Lets the next transaction begin."""
        found = self.by_id[id]
        found.state = State.COMPLETE_COMMIT if found.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT
        found.slots = set()
        self._settle(found)

    def sweep(self, turn: Turn) -> None:
        """Forgets ids that nobody has used for long."""
        for id, found in list(self.by_id.items()):
            idle = found.state not in (State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT)
            if idle and found.updated_ms + self._expiration_ms < turn.wall_ms:
                del self.by_id[id]
                turn.write(TRANSACTION, (id,), None)

    # The log

    def replay(self, record: Record, turn: Turn) -> None:
        (id,), value = record.key, record.value
        if value is None:
            self.by_id.pop(id, None)
            return
        found = Transaction(
            id=id,
            producer_id=value["producer_id"],
            epoch=value["producer_epoch"],
            last_epoch=value["producer_epoch"] - 1 if value["client_version"] >= FOLLOWS_EPOCHS else -1,
            previous_producer_id=value["previous_producer_id"],
            next_producer_id=value["next_producer_id"],
            timeout_ms=value["timeout_ms"],
            state=State(value["status"]),
            slots={(one["topic"], number) for one in value["topics"] or () for number in one["partitions"]},
            started_ms=value["start_ms"],
            updated_ms=value["last_update_ms"],
            version=value["client_version"],
        )
        if found.previous_producer_id >= 0 and found.epoch == 0:
            found.last_epoch = EPOCH_MAX - 1
        before = self.by_id.get(id)
        if before is not None and found.state.prepared:
            found.fenced = found.version < FOLLOWS_EPOCHS and before.epoch != found.epoch
        if found.state is State.ONGOING:
            left_ms = min(found.timeout_ms, max(0, found.started_ms + found.timeout_ms - turn.wall_ms))
            found.deadline_ms = turn.now_ms + left_ms
            turn.wake(id, found.deadline_ms)
        self.by_id[id] = found

    # Inside

    def _of(self, id: str, producer: Producer, connection: int) -> Transaction:
        """The id's transaction, where this is its producer and it may go on."""
        if not id:
            raise InvalidRequest
        found = self.by_id.get(id)
        if found is None or found.producer_id != producer.id:
            raise InvalidProducerIdMapping
        if found.epoch != producer.epoch:
            raise ProducerFenced
        self._check_connection(found, connection)
        if found.state.prepared:
            raise ConcurrentTransactions
        return found

    @staticmethod
    def _check_connection(found: Transaction, connection: int) -> None:
        if NO_CONNECTION < connection < found.connection:
            raise InvalidTxnState("a request of a connection that a later one has replaced")

    @staticmethod
    def _follow(found: Transaction, connection: int) -> None:
        found.connection = max(found.connection, connection)

    def _prepare(self, found: Transaction, commit: bool, follows: bool, turn: Turn) -> None:
        if follows:
            found.version = FOLLOWS_EPOCHS
            self._raise_epoch(found)
        elif found.fenced:
            found.last_epoch, found.epoch = -1, min(EPOCH_MAX, found.epoch + 1)
        found.state = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        found.deadline_ms = NEVER_MS
        self._write(found, turn)

    def _raise_epoch(self, found: Transaction) -> None:
        """The markers' epoch; where it is the last one, the next transaction has another producer id."""
        if found.exhausted:
            found.next_producer_id = self._new_id()
        found.last_epoch, found.epoch = found.epoch, found.epoch + 1

    @staticmethod
    def _next(found: Transaction) -> Producer:
        return (
            Producer(found.next_producer_id, 0)
            if found.next_producer_id >= 0
            else Producer(found.producer_id, found.epoch)
        )

    @staticmethod
    def _settle(found: Transaction) -> None:
        """What is left of an ended transaction."""
        found.fenced = False
        found.started_ms = -1
        if found.next_producer_id >= 0:
            found.previous_producer_id, found.producer_id = found.producer_id, found.next_producer_id
            found.next_producer_id, found.last_epoch, found.epoch = -1, found.epoch - 1, 0

    def _write(self, found: Transaction, turn: Turn) -> None:
        found.updated_ms = turn.wall_ms
        turn.write(TRANSACTION, (found.id,), _value(found))


def _value(found: Transaction) -> dict[str, Any]:
    topics: dict[str, list[int]] = {}
    for topic, number in sorted(found.slots):
        topics.setdefault(topic, []).append(number)
    return {
        "producer_id": found.producer_id,
        "previous_producer_id": found.previous_producer_id,
        "next_producer_id": found.next_producer_id,
        "producer_epoch": found.epoch,
        "timeout_ms": found.timeout_ms,
        "status": int(found.state),
        "topics": [{"topic": topic, "partitions": numbers} for topic, numbers in topics.items()]
        if found.state is not State.EMPTY
        else None,
        "last_update_ms": found.updated_ms,
        "start_ms": found.started_ms,
        "client_version": found.version,
    }
