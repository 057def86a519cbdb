"""The batch that a member of a group has in hand, and how the group's positions move when it is done with it.

A position has one of two homes. With the group, where every Kafka client keeps it. Or in the caller's database, where it moves
in the caller's own transaction (`commit_in`), compared before it is set: so effect and position are one, and of two members
that hold the same records, because a partition moved while its old owner slept, one has the effect. Where the database has a
position it is the truth.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from mainspring.core.outbox.model import NOWHERE
from mainspring.core.outbox.steps import commits
from mainspring.core.ports import Connection

Owned = tuple[str, int]
"""A topic and the number of one of its partitions."""


class InHand:
    """At most one batch at a time. `passed(ends)` is called on the loop once positions in the database have moved."""

    def __init__(self, group: str, passed: Callable[[Mapping[Owned, int]], None]) -> None:
        self.group = group
        self.stored: dict[Owned, int] = {}
        """The database's positions as they were last read or moved, or `NOWHERE`."""
        self.moves: dict[Owned, tuple[int, int]] = {}
        """(the database's position, the next offset to read) of each partition that the batch in hand is of."""
        self.too_late = False
        """Whether another member has passed what this one held: the positions must be read again."""
        self._passed = passed
        self._free = asyncio.Event()
        self._free.set()

    @property
    def ends(self) -> dict[Owned, int]:
        return {where: end for where, (_, end) in self.moves.items()}

    def take(self, ends: Mapping[Owned, int]) -> None:
        """A batch goes out; `ends` are the offsets after it."""
        self.moves = {where: (self.stored.get(where, NOWHERE), end) for where, end in ends.items()}
        self._free.clear()

    def put_back(self) -> None:
        """Whoever had the batch is done with it, or will get it again."""
        self.moves = {}
        self._free.set()

    async def given_back(self, partitions: Collection[Owned]) -> None:
        """Returns when no batch of these partitions is out."""
        if not self.moves.keys().isdisjoint(partitions):
            await self._free.wait()

    @property
    def is_stored(self) -> bool:
        """Whether the database is the home of a position of the batch in hand."""
        return any(start != NOWHERE for start, _ in self.moves.values())

    def commit_in(self, connection: Connection) -> bool:
        """See `Consumer` in `core.ports`. May be called in any thread, and more than once for a transaction tried again."""
        moves = self.moves
        if moves and commits.advance(connection, self.group, moves):
            connection.after_commit(partial(self._stored, moves))
            return True
        self.too_late = bool(moves)
        return False

    def _stored(self, moves: dict[Owned, tuple[int, int]]) -> None:
        ends = {where: end for where, (_, end) in moves.items()}
        self.stored.update(ends)
        if moves is self.moves:
            # A transaction that ran more than once may have thought otherwise the first time.
            self.too_late = False
            self.put_back()
        self._passed(ends)
