"""Keeping the outbox small: what everybody has seen goes, after a while in which a view or a new group may still want it.

A record that some group has not passed stays until `held_s`; then it is deleted all the same, and counted as lost, because
a group that nobody has run for a month must not fill the disk. Where a relay takes the events to another log, its place
counts instead of the groups', which are over there.
"""

from collections.abc import Iterator

import msgspec
from sqlalchemy import bindparam, delete, func, select

from mainspring.core.database import Int64, Text, insert, read_committed
from mainspring.core.database.core_tables import log_horizon, log_positions, log_records
from mainspring.core.outbox.model import EVERYTHING, NOBODY, RELAY, Retention
from mainspring.core.ports import Connection

ROWS_AT_ONCE = 1_000
"""Rows deleted by one transaction, so that it holds other writers up for a few milliseconds at most."""


class Due(msgspec.Struct, frozen=True):
    """The next records to delete: all of the topic up to `upto`; `lost` of them some group has not passed."""

    upto: int
    records: int
    lost: int


_at, _to = log_records.c, log_positions.c
_of_topic = _at.topic == bindparam("topic", type_=Text)
_next_topic = select(func.min(_at.topic)).where(_at.topic > bindparam("after", type_=Text))
_slowest = select(func.min(_to.position)).where(
    _to.topic == bindparam("topic", type_=Text), _to.consumer_group != NOBODY
)
_relayed = select(_to.position).where(_to.consumer_group == RELAY, _to.topic == EVERYTHING)
_newest_surplus = (
    select(_at.id).where(_of_topic).order_by(_at.id.desc()).limit(1).offset(bindparam("kept", type_=Int64))
)
_oldest = (
    select(_at.id, _at.at_us)
    .where(_of_topic, _at.id < log_horizon())
    .order_by(_at.id)
    .limit(bindparam("limit", type_=Int64))
)
_delete = delete(log_records).where(_of_topic, _at.id <= bindparam("upto", type_=Int64))
_note = insert(log_positions)
_note_pruned = _note.on_conflict_do_update(
    index_elements=[_to.consumer_group, _to.topic],
    set_={"position": _note.excluded.position},
    where=_to.position < _note.excluded.position,
)


def topics(connection: Connection) -> list[str]:
    """Every topic that has records."""

    def names() -> Iterator[str]:
        name = connection.execute(_next_topic, {"after": ""}).scalar()
        while name is not None:
            yield name
            name = connection.execute(_next_topic, {"after": name}).scalar()

    return list(names())


def surplus(connection: Connection, topic: str, retention: Retention) -> int:
    """The newest record that more than `kept_records` others follow; 0 where there are not so many."""
    return connection.execute(_newest_surplus, {"topic": topic, "kept": retention.kept_records}).scalar() or 0


def due(
    connection: Connection, topic: str, surplus: int, retention: Retention, now_us: int, relayed: bool = False
) -> Due:
    """The oldest records whose time is up, at most `ROWS_AT_ONCE`."""
    relay = connection.execute(_relayed).scalar()
    places = [relay or 0] if relayed else [relay, connection.execute(_slowest, {"topic": topic}).scalar()]
    slowest = min((place for place in places if place is not None), default=None)
    kept_since_us = now_us - round(retention.kept_s * 1e6)
    held_since_us = now_us - round(retention.held_s * 1e6)
    upto = records = lost = 0
    for offset, at_us in connection.execute(_oldest, {"topic": topic, "limit": ROWS_AT_ONCE}):
        if slowest is None or offset <= slowest:
            if offset > surplus and at_us >= kept_since_us:
                break
        elif at_us >= held_since_us:
            break
        else:
            lost += 1
        upto = offset
        records += 1
    return Due(upto, records, lost)


@read_committed
def remove(connection: Connection, topic: str, upto: int) -> None:
    """Deletes all records of the topic up to this offset, and notes it."""
    connection.execute(_delete, {"topic": topic, "upto": upto})
    connection.execute(_note_pruned, {"consumer_group": NOBODY, "topic": topic, "position": upto})
