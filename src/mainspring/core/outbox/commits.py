"""Positions of consumer groups that move in the database's own transactions, for a log whose records are elsewhere.

A row says which offset of a partition its group reads next. `advance` compares before it sets, so of several who hold the
same records, because a partition changed hands while its old owner slept, one has the effect and the others are told that
they came too late.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, delete, select

from mainspring.core.database import Int64, Text, insert
from mainspring.core.database.core_tables import log_commits
from mainspring.core.outbox.model import NOWHERE, Moves, Partition
from mainspring.core.ports import Connection

_row = log_commits.c
_of_group = _row.consumer_group == bindparam("group", type_=Text)
_at = (
    _of_group,
    _row.topic == bindparam("of_topic", type_=Text),
    _row.partition == bindparam("of_partition", type_=Int64),
)
_position = select(_row.position).where(*_at)
_position_locked = _position.with_for_update()
_all = select(_row.topic, _row.partition, _row.position).where(_of_group)
_groups = select(_row.consumer_group).distinct().order_by(_row.consumer_group)
_insert = insert(log_commits)
_put = _insert.on_conflict_do_update(
    index_elements=[_row.consumer_group, _row.topic, _row.partition],
    set_={"position": _insert.excluded.position},
)
_begin = _insert.on_conflict_do_nothing()
_drop_topic = delete(log_commits).where(_row.topic == bindparam("of_topic", type_=Text))
_drop_group = delete(log_commits).where(_of_group)


def positions(connection: Connection, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
    """Where the group stands in each of these partitions, or `NOWHERE`."""
    found = {}
    for topic, partition in partitions:
        at = {"group": group, "of_topic": topic, "of_partition": partition}
        position = connection.execute(_position, at).scalar()
        found[topic, partition] = NOWHERE if position is None else int(position)
    return found


def all_positions(connection: Connection, group: str) -> dict[Partition, int]:
    """Where the group stands, in every partition where it stands somewhere."""
    rows = connection.execute(_all, {"group": group})
    return {(topic, partition): position for topic, partition, position in rows if position != NOWHERE}


def groups(connection: Connection) -> list[str]:
    """Every group that has positions here."""
    return [group for (group,) in connection.execute(_groups)]


def advance(connection: Connection, group: str, moves: Moves) -> bool:
    """Moves the group in each partition; False, and no position moved, where it stands elsewhere by now."""
    for (topic, partition), (start, _) in moves.items():
        if start == NOWHERE:
            # A row to lock: of two who begin at once the second must see what the first did.
            connection.execute(_begin, _values(group, topic, partition, NOWHERE))
        at = {"group": group, "of_topic": topic, "of_partition": partition}
        if connection.execute(_position_locked, at).scalar() != start:
            return False
    put(connection, group, {where: end for where, (_, end) in moves.items()})
    return True


def put(connection: Connection, group: str, positions: Mapping[Partition, int]) -> None:
    """Sets the group's positions, whatever they were."""
    for (topic, partition), position in positions.items():
        connection.execute(_put, _values(group, topic, partition, position))


def forget_topic(connection: Connection, topic: str) -> None:
    """Drops every group's positions in a topic that is deleted: one of the same name begins at 0."""
    connection.execute(_drop_topic, {"of_topic": topic})


def forget_group(connection: Connection, group: str) -> None:
    connection.execute(_drop_group, {"group": group})


def _values(group: str, topic: str, partition: int, position: int) -> dict[str, object]:
    return {"consumer_group": group, "topic": topic, "partition": partition, "position": position}
