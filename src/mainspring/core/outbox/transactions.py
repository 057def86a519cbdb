"""What is read and written of the outbox's tables, as functions of a transaction.

An event's offset is its row's id, which rises in commit order on both databases: see `core.database.core_tables`. Rows of
`log_positions` say how far a group has come in a topic. Two kinds of row there belong to no group: group '' with a topic
says up to where that topic has been pruned; group '' without a topic names, by a random number below zero, the history
that offsets belong to, so that what was noted about another history (before a restore) is recognised. One more says how
far the relay has taken the events of all topics to another log.
"""

from collections.abc import Iterator, Sequence
from heapq import merge

import msgspec
from sqlalchemy import bindparam, func, literal_column, select, update

from mainspring.core.database import Int64, Text, insert, read_committed
from mainspring.core.database.core_tables import OFFSET_BITS, log_horizon, log_positions, log_records
from mainspring.core.outbox.model import EVERYTHING, NOBODY, RELAY, Pairs
from mainspring.core.ports import Connection, Position, Record, Row

BATCH_BYTES_MAX = 8 << 20
"""A batch ends where its values pass this, or after its first record."""

_at, _to = log_records.c, log_positions.c
_decode_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode

_columns = (_at.id, _at.topic, _at.partition, _at.key, _at.value, _at.headers, _at.at_us)
_waiting = (
    _at.topic == bindparam("topic", type_=Text),
    _at.id > bindparam("after", type_=Int64),
    _at.id < log_horizon(),
)
_records = select(*_columns).where(*_waiting).order_by(_at.id).limit(bindparam("limit", type_=Int64))

# A driver for PostgreSQL fetches all that a statement gives, so there the statement itself must end at so many bytes.
_sized = (
    select(_at.id, func.sum(func.octet_length(_at.value)).over(order_by=_at.id).label("upto"))
    .where(*_waiting)
    .order_by(_at.id)
    .limit(bindparam("limit", type_=Int64))
    .subquery()
)
_records_bounded = (
    select(*_columns)
    .join(_sized, _sized.c.id == _at.id)
    .where(_sized.c.upto - func.octet_length(_at.value) < BATCH_BYTES_MAX)
    .order_by(_at.id)
)

_later = (_at.id > bindparam("after", type_=Int64), _at.id < log_horizon())
_later_sized = (
    select(_at.id, func.sum(func.octet_length(_at.value)).over(order_by=_at.id).label("upto"))
    .where(*_later)
    .order_by(_at.id)
    .limit(bindparam("limit", type_=Int64))
    .subquery()
)
_any_topic = select(*_columns).where(*_later).order_by(_at.id).limit(bindparam("limit", type_=Int64))
_any_topic_bounded = (
    select(*_columns)
    .join(_later_sized, _later_sized.c.id == _at.id)
    .where(_later_sized.c.upto - func.octet_length(_at.value) < BATCH_BYTES_MAX)
    .order_by(_at.id)
)

_any_waiting = select(_at.id).where(*_waiting).limit(1)
_count_waiting = select(func.count()).select_from(
    select(_at.id).where(*_waiting).limit(bindparam("limit", type_=Int64)).subquery()
)
_position = select(_to.position).where(
    _to.consumer_group == bindparam("group", type_=Text), _to.topic == bindparam("topic", type_=Text)
)
_position_locked = _position.with_for_update()
_advance = (
    update(log_positions)
    .where(
        _to.consumer_group == bindparam("group", type_=Text),
        _to.topic == bindparam("named", type_=Text),
        _to.position == bindparam("start", type_=Int64),
    )
    .values(position=bindparam("end", type_=Int64))
)
_slowest_groups = (
    select(_to.topic, func.min(_to.position))
    .where(_to.consumer_group != NOBODY, _to.consumer_group != RELAY)
    .group_by(_to.topic)
)
_register = insert(log_positions).on_conflict_do_nothing()
_last = select(func.max(_at.id))
_last_final = select(func.max(_at.id)).where(_at.id < log_horizon())
_horizon = select(log_horizon())
_last_position = select(func.max(_to.position)).where(_to.topic != "")
_transaction_base = select(literal_column(f"(pg_current_xact_id()::text::bigint << {OFFSET_BITS})", Int64))
_snapshot = select(literal_column("pg_current_snapshot()::text", Text))


class Mark(msgspec.Struct, frozen=True):
    """A moment in the order of events, as one snapshot of the database sees it.

    All events up to `after` are in the snapshot. On PostgreSQL some later ones may be, whose transactions committed
    before older ones: those of transactions below `ends`, unless in `running`. `seen` says which.
    """

    after: int
    ends: int = 0
    running: tuple[int, ...] = ()

    @property
    def complete(self) -> int:
        """Once everything up to this offset has been read, everything that the snapshot holds has been."""
        return max(self.after, (self.ends << OFFSET_BITS) - 1)

    def moved(self, after: int) -> "Mark":
        """The same snapshot with everything up to `after` applied to it."""
        return Mark(after) if after >= self.complete else Mark(after, self.ends, self.running)

    def seen(self, offset: int) -> bool:
        """Whether the snapshot holds what the transaction of this event did."""
        transaction = offset >> OFFSET_BITS
        return offset <= self.after or (transaction < self.ends and transaction not in self.running)


@read_committed
def append(connection: Connection, topic: str, records: Pairs) -> list[Position]:
    """Appends these records; gives where they are."""
    for key, value, headers in records:
        connection.emit(topic, value, key, headers)
    if connection.dialect == "sqlite":
        first = int(connection.execute(_last).scalar()) - len(records) + 1
    else:
        first = int(connection.execute(_transaction_base).scalar())
    return [Position(topic, 0, first + n) for n in range(len(records))]


def register(connection: Connection, group: str, topics: Sequence[str]) -> None:
    """Makes the group known, at the beginning, so that nothing which it has not seen is pruned."""
    for topic in topics:
        connection.execute(_register, {"consumer_group": group, "topic": topic, "position": 0})


def positions(connection: Connection, group: str, topics: Sequence[str]) -> dict[str, int]:
    """How far the group has come; 0 where it has not begun."""
    return {topic: connection.execute(_position, {"group": group, "topic": topic}).scalar() or 0 for topic in topics}


def next_batch(
    connection: Connection, group: str, topics: Sequence[str], records_max: int
) -> tuple[dict[str, int], list[Record]]:
    """The group's positions and what comes after them."""
    starts = positions(connection, group, topics)
    return starts, records_after(connection, starts, records_max)


def records_after(connection: Connection, after: dict[str, int], records_max: int) -> list[Record]:
    """The first final records of each topic past its offset, in the order of all; at least one where there is one."""
    statement = _records if connection.dialect == "sqlite" else _records_bounded
    streams: list[Iterator[Row]] = [
        iter(connection.execute(statement, {"topic": topic, "after": offset, "limit": records_max}))
        for topic, offset in after.items()
    ]
    return _batch(streams[0] if len(streams) == 1 else merge(*streams), records_max)


def everything_after(connection: Connection, after: int, records_max: int) -> list[Record]:
    """The first final records past this offset, of whatever topic; at least one where there is one."""
    statement = _any_topic if connection.dialect == "sqlite" else _any_topic_bounded
    return _batch(iter(connection.execute(statement, {"after": after, "limit": records_max})), records_max)


def _batch(rows: Iterator[Row], records_max: int) -> list[Record]:
    batch: list[Record] = []
    size_bytes = 0
    for offset, topic, partition, key, value, headers, at_us in rows:
        given = () if headers is None else _decode_headers(headers)
        batch.append(Record(topic, partition, offset, key, value, given, at_us))
        size_bytes += len(value)
        if len(batch) >= records_max or size_bytes >= BATCH_BYTES_MAX:
            break
    return batch


def next_events(
    connection: Connection, after: int, topics: Sequence[str], records_max: int
) -> tuple[list[Record], int | None, bool]:
    """For one who keeps a position of its own: the next records; an offset up to which there never will be any others, or
    None where more can be read now; and whether records past `after` have been pruned."""
    gap = any(pruned_to(connection, topic) > after for topic in topics)
    batch = records_after(connection, dict.fromkeys(topics, after), records_max)
    if len(batch) >= records_max or sum(len(record.value) for record in batch) >= BATCH_BYTES_MAX:
        return batch, None, gap
    return batch, max(after, horizon(connection)), gap


def horizon(connection: Connection) -> int:
    """Up to this offset everything can be read that ever will be."""
    if connection.dialect == "sqlite":
        return connection.execute(_last).scalar() or 0
    return int(connection.execute(_horizon).scalar()) - 1


def advance(connection: Connection, group: str, moves: dict[str, tuple[int, int]]) -> bool:
    """Moves the group from start to end in each topic; False, and nothing moved, where it stands elsewhere by now."""
    for topic, (start, _) in moves.items():
        if connection.execute(_position_locked, {"group": group, "topic": topic}).scalar() != start:
            return False
    for topic, (start, end) in moves.items():
        connection.execute(_advance, {"group": group, "named": topic, "start": start, "end": end})
    return True


def relay_position(connection: Connection) -> int:
    """Up to where events have been relayed."""
    return connection.execute(_position, {"group": RELAY, "topic": EVERYTHING}).scalar() or 0


def advance_relay(connection: Connection, start: int, end: int) -> bool:
    """Moves the relay from start to end; False, and nothing moved, where it stands elsewhere by now."""
    register(connection, RELAY, [EVERYTHING])
    return advance(connection, RELAY, {EVERYTHING: (start, end)})


def slowest_groups(connection: Connection) -> dict[str, int]:
    """For each topic that groups read from the outbox itself: how far all of them have come."""
    return dict(connection.execute(_slowest_groups).all())


def is_pending(connection: Connection, group: str, topic: str) -> bool:
    after = connection.execute(_position, {"group": group, "topic": topic}).scalar() or 0
    return connection.execute(_any_waiting, {"topic": topic, "after": after}).first() is not None


def backlog(connection: Connection, group: str, topic: str, at_most: int) -> int:
    after = connection.execute(_position, {"group": group, "topic": topic}).scalar() or 0
    return int(connection.execute(_count_waiting, {"topic": topic, "after": after, "limit": at_most}).scalar())


def last_final(connection: Connection) -> int:
    """The offset of the newest record that can be read."""
    return connection.execute(_last_final).scalar() or 0


def mark(connection: Connection) -> Mark:
    """This moment. On PostgreSQL in a `read`, whose one snapshot it describes."""
    if connection.dialect == "sqlite":
        newest = connection.execute(_last).scalar() or 0
        # What has been pruned was there, and on this side ids are never used again.
        return Mark(max(newest, connection.execute(_last_position).scalar() or 0))
    begins, ends, running = connection.execute(_snapshot).scalar().split(":")
    return Mark((int(begins) << OFFSET_BITS) - 1, int(ends), tuple(map(int, filter(None, running.split(",")))))


def pruned_to(connection: Connection, topic: str) -> int:
    """Up to this offset records of the topic may be missing."""
    return connection.execute(_position, {"group": NOBODY, "topic": topic}).scalar() or 0


def history(connection: Connection) -> int | None:
    """The number that names this history of offsets, or None where it has none yet."""
    number: int | None = connection.execute(_position, {"group": NOBODY, "topic": ""}).scalar()
    return number


def name_history(connection: Connection, number: int) -> None:
    """Names the history, unless it has a name."""
    connection.execute(_register, {"consumer_group": NOBODY, "topic": "", "position": number})
