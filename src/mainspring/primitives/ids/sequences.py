"""Dense numbers, for invoices and the like: in cached blocks, or without gaps inside the caller's own transaction.

A cached sequence takes blocks of a thousand numbers from its row, the next one while a fifth of the last is left, so that
nobody waits; what a process had not given out when it died is a gap. A gapless one adds one to the row in the caller's
transaction: if that rolls back, so does the number; the price is that callers of one name wait for each other.
"""

import asyncio
import re

from sqlalchemy import bindparam, select, update

from mainspring.core import once as idempotency
from mainspring.core.database import Int64, read_committed
from mainspring.core.database import insert as upsert
from mainspring.core.once import Once
from mainspring.core.ports import Connection, Database

from .chance import forget_at_fork
from .errors import BadCount, BadName, SequenceKind
from .tables import sequences

NUMBERS_MAX = 1_000_000
CACHED, GAPLESS = "cached", "gapless"

_NAME = re.compile(r"[a-z0-9._-]{1,100}")
_FIRST = upsert(sequences).values(name=bindparam("name"), kind=bindparam("kind"), taken=bindparam("count"))
_TAKE = _FIRST.on_conflict_do_update(
    index_elements=["name"],
    set_={"taken": sequences.c.taken + _FIRST.excluded.taken},
    where=sequences.c.kind == _FIRST.excluded.kind,
).returning(sequences.c.taken)
_GIVE_BACK = (
    update(sequences)
    .where(sequences.c.name == bindparam("name_is"), sequences.c.taken == bindparam("last", type_=Int64))
    .values(taken=bindparam("used"))
)
_TAKEN = select(sequences.c.kind, sequences.c.taken).where(sequences.c.name == bindparam("name_is"))


def checked_name(name: str) -> str:
    """Gives `name` back. Raises `BadName`."""
    if not _NAME.fullmatch(name):
        raise BadName(f"{name[:100]!r} is not a sequence's name", pointer="/name")
    return name


def checked_count(count: object) -> int:
    """Gives `count` back. Raises `BadCount`."""
    if type(count) is not int or not 1 <= count <= NUMBERS_MAX:
        raise BadCount(count, NUMBERS_MAX)
    return count


@read_committed
def take_numbers(connection: Connection, name: str, kind: str, count: int) -> int:
    """The first of `count` numbers in a row. Raises `SequenceKind` where the name counts the other way."""
    last = connection.execute(_TAKE, {"name": name, "kind": kind, "count": count}).scalar()
    if last is None:
        raise SequenceKind(f"the sequence {name!r} is not {kind}")
    return int(last) - count + 1


@read_committed
def give_back(connection: Connection, name: str, used: int, last: int) -> None:
    """Returns the numbers after `used` up to `last`, where nobody has taken any after them."""
    connection.execute(_GIVE_BACK, {"name_is": name, "used": used, "last": last})


class Sequence:
    """The numbers 1, 2, 3, … of `name`, from blocks. Unique always; dense but for what a crash or another process holds."""

    def __init__(self, database: Database, name: str, block: int = 1_000) -> None:
        self.name = checked_name(name)
        self._database = database
        self._block = block
        self._low = max(1, block // 5)
        self._here = range(0)
        self._next: asyncio.Task[range] | None = None
        forget_at_fork(self)

    def forget(self) -> None:
        """In the child of a fork: the block at hand is the parent's."""
        self._here, self._next = range(0), None

    async def next(self) -> int:
        """One number. Raises `SequenceKind`, and `Unavailable` without a database once the block is used up."""
        while not self._here:
            await self._swap()
        number = self._here[0]
        self._here = self._here[1:]
        if len(self._here) < self._low:
            self._fetching()
        return number

    async def take(self, count: int, once: Once | None = None) -> range:
        """`count` numbers in a row: of the block where it holds so many, else a row of their own.

        With `once` they are taken in the transaction that guards it. Raises `BadCount` outside 1 to 1,000,000.
        """
        checked_count(count)
        if once is None and count <= len(self._here):
            numbers, self._here = self._here[:count], self._here[count:]
            return numbers
        if once is None and count == 1:
            number = await self.next()
            return range(number, number + 1)
        first = await idempotency.write(self._database, once, int, take_numbers, self.name, CACHED, count)
        return range(first, first + count)

    async def stop(self) -> None:
        """Gives back what is left, where no other process has taken numbers since."""
        if self._next is not None:
            await asyncio.wait([self._next])
            if not self._next.cancelled() and self._next.exception() is None:
                await self._return(self._next.result())
            self._next = None
        await self._return(self._here)
        self._here = range(0)

    async def _return(self, left: range) -> None:
        if left:
            await self._database.write(give_back, self.name, left[0] - 1, left[-1])

    def _fetching(self) -> asyncio.Task[range]:
        """The next block on its way, or there. One that could not be had is asked for anew: what failed may be well again."""
        task = self._next
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._next = asyncio.create_task(self._fetch(self._block), name=f"block of sequence {self.name}")
        return task

    async def _swap(self) -> None:
        task = self._fetching()
        try:
            # Shielded: the block is everybody's, and one caller's end must not lose it.
            block = await asyncio.shield(task)
        except BaseException:
            if task.done() and self._next is task:
                self._next = None
            raise
        if self._next is task:
            self._next = None
            self._here = block

    async def _fetch(self, count: int) -> range:
        first = await self._database.write(take_numbers, self.name, CACHED, count)
        return range(first, first + count)


class Gapless:
    """The numbers 1, 2, 3, … of `name` without a gap: each is the caller's only if its transaction commits."""

    def __init__(self, name: str) -> None:
        self.name = checked_name(name)

    def next(self, connection: Connection) -> int:
        """One number, in the transaction of `connection`. Raises `SequenceKind`."""
        return take_numbers(connection, self.name, GAPLESS, 1)

    def take(self, connection: Connection, count: int) -> range:
        """`count` numbers in a row. Raises `BadCount` and `SequenceKind`."""
        first = take_numbers(connection, self.name, GAPLESS, checked_count(count))
        return range(first, first + count)


def taken_so_far(connection: Connection, name: str) -> tuple[str, int] | None:
    """(kind, last number handed out or reserved) of a sequence, None where it was never used."""
    found = connection.execute(_TAKEN, {"name_is": checked_name(name)}).first()
    return (found[0], found[1]) if found else None
