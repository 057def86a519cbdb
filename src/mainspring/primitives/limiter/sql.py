"""The store on the database: strict on any number of nodes, and as durable as the database.

Asks that come while a transaction is under way are decided together in the next one, each after the other, by the rules
themselves. On PostgreSQL the rows of a batch are locked in the order of their ids before anything is decided, which is all
that the promise needs, so the transaction is READ COMMITTED; time is the server's. On SQLite there is one writer, and time
is this process's.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from heapq import nlargest

import sqlalchemy as sa

from mainspring.core.clock import Clock, SystemClock
from mainspring.core.database import insert, read_committed
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Problem, StorageFull
from mainspring.primitives.limiter.decide import Ask, Charge, Limit, Outcome, answer
from mainspring.primitives.limiter.model import FRESH, State, StoreAway
from mainspring.primitives.limiter.store import KeyState, shown, token
from mainspring.primitives.limiter.tables import state as table

log = logging.getLogger(__name__)

DEADLINE_S = 0.05
PENDING_MAX = 20_000
BATCH_MAX = 256
SWEEP_ROWS = 1_000
SWEEPS_MAX = 100

_known = sa.select(table.c.id, table.c.state).where(table.c.id.in_(sa.bindparam("ids", expanding=True)))
_locked = _known.order_by(table.c.id).with_for_update()
_create = insert(table).values(
    id=sa.bindparam("id"), state=sa.bindparam("state"), expires_us=sa.bindparam("expires_us")
)
_create_missing = _create.on_conflict_do_nothing()
_save = _create.on_conflict_do_update(
    index_elements=[table.c.id],
    set_={"state": _create.excluded.state, "expires_us": _create.excluded.expires_us},
)
_forget = sa.delete(table).where(table.c.id == sa.bindparam("id"))
_server_us = sa.select(sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger))
_listed = (
    sa.select(table.c.id, table.c.state)
    .where(table.c.id >= sa.bindparam("first"), table.c.id < sa.bindparam("end"))
    .limit(sa.bindparam("most"))
)
_expired = sa.select(table.c.id).where(table.c.expires_us < sa.bindparam("now_us")).limit(SWEEP_ROWS)
_sweep = sa.delete(table).where(table.c.id.in_(_expired.order_by(table.c.id).with_for_update(skip_locked=True)))


class SqlStore:
    """States in the table `limiter_state`. `time_us` gives the time to decide by, where 0 (the default) means the
    database's own; tests pass another."""

    name = "sql"

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        time_us: Callable[[], int] = lambda: 0,
    ) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._deadline_s = deadline_s
        self._time_us = time_us
        self._pending: list[tuple[Ask, asyncio.Future[Outcome]]] = []
        self._batch: asyncio.Task[None] | None = None
        self._overdue = False

    async def stop(self) -> None:
        if self._batch is not None:
            await asyncio.gather(self._batch, return_exceptions=True)

    async def ask(self, ask: Ask) -> Outcome:
        if self._overdue or len(self._pending) >= PENDING_MAX:
            raise StoreAway("timeout" if self._overdue else "overload")
        reply: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._pending.append((ask, reply))
        if self._batch is None:
            self._batch = asyncio.create_task(self._decide_pending(), name="limiter sql")
        await asyncio.wait((reply,), timeout=self._deadline_s)
        if not reply.done():
            await asyncio.sleep(0)  # perhaps it was this loop that was late, and the answer is there
        if not reply.done():
            reply.cancel()
            self._overdue = self._batch is not None
            raise StoreAway("timeout")
        return reply.result()

    async def keys(self, bucket: str, limit: Limit, top: int, scanned_max: int) -> list[KeyState]:
        try:
            rows, now_us = await self._database.read(_list, bucket, scanned_max, self._now_us)
        except Problem as error:
            raise StoreAway(_reason(error)) from None
        found = (KeyState.of(shown(key), limit.rule, _integers(text), now_us * 1000) for key, text in rows)
        return nlargest(top, (one for one in found if one.used), key=lambda one: one.used)

    async def sweep(self) -> None:
        """Deletes states that mean nothing any more, some at a time."""
        for _ in range(SWEEPS_MAX):
            if await self._database.write(sweep, self._now_us) < SWEEP_ROWS:
                return

    async def _decide_pending(self) -> None:
        """Decides batch after batch until nothing is waiting."""
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                try:
                    outcomes = await self._database.write(decide_all, [ask for ask, _ in batch], self._now_us)
                except Problem as error:
                    self._refuse(batch, _reason(error))
                    continue
                except Exception:
                    log.exception("a batch of decisions failed")
                    self._refuse(batch, "fault")
                    continue
                finally:
                    self._overdue = False
                for (_, reply), outcome in zip(batch, outcomes, strict=True):
                    if not reply.done():
                        reply.set_result(outcome)
        finally:
            self._batch = None

    def _refuse(self, batch: Sequence[tuple[Ask, asyncio.Future[Outcome]]], reason: str) -> None:
        waiting, self._pending = [*batch, *self._pending], []
        for _, reply in waiting:
            if not reply.done():
                reply.set_exception(StoreAway(reason))

    def _now_us(self, connection: Connection) -> int:
        """The time by the clock of whoever keeps the states."""
        if chosen := self._time_us():
            return chosen
        if connection.dialect == "postgresql":
            return int(connection.execute(_server_us).scalar())
        return self._clock.wall_ns() // 1000


Now = Callable[[Connection], int]


@read_committed
def decide_all(connection: Connection, asks: Sequence[Ask], now_us: Now) -> list[Outcome]:
    """Answers asks in turn, each seeing what those before it have changed."""
    ids = sorted({_id(charge) for ask in asks for charge in ask.charges})
    stored = _read_locked(connection, ids) if connection.dialect == "postgresql" else _read(connection, _known, ids)
    at_us = now_us(connection)
    now_ns = at_us * 1000
    states = {key: _integers(text) for key, text in stored.items()}
    rules = {_id(charge): charge.limit.rule for ask in asks for charge in ask.charges}
    outcomes = []
    for ask in asks:
        before = [states.get(_id(charge), FRESH) for charge in ask.charges]
        outcome = answer(ask, before, [now_ns] * len(before), now_ns)
        states.update(zip(map(_id, ask.charges), outcome.states, strict=True))
        outcomes.append(Outcome(outcome.allowed, outcome.verdicts, now_ns))
    saved, forgotten = [], []
    for key in ids:
        text = " ".join(map(str, states.get(key, FRESH)))
        if text == stored.get(key, ""):
            continue
        if text:
            expires_us = -(-rules[key].expires_ns(states[key]) // 1000)
            saved.append({"id": key, "state": text, "expires_us": expires_us})
        else:
            forgotten.append({"id": key})
    if saved:
        connection.execute_many(_save, saved)
    if forgotten:
        connection.execute_many(_forget, forgotten)
    return outcomes


def _read(connection: Connection, statement: sa.Executable, ids: Sequence[str]) -> dict[str, str]:
    return dict(connection.execute(statement, {"ids": ids}).all())


def _read_locked(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Locks the row of every id, making those that are missing, and reads them.

    Rows are made before any is locked, and both in the order of ids, so that no two batches wait for each other.
    """
    while True:
        known = _read(connection, _known, ids)
        if missing := [key for key in ids if key not in known]:
            connection.execute_many(_create_missing, [{"id": key, "state": "", "expires_us": 0} for key in missing])
        locked = _read(connection, _locked, ids)
        if len(locked) == len(ids):  # else the sweep was quicker
            return locked


def _list(connection: Connection, bucket: str, most: int, now_us: Now) -> tuple[list[tuple[str, str]], int]:
    rows = connection.execute(_listed, {"first": f"{bucket}:", "end": f"{bucket};", "most": most}).all()
    return [(key[len(bucket) + 1 :], text) for key, text in rows if text], now_us(connection)


@read_committed
def sweep(connection: Connection, now_us: Now) -> int:
    """Deletes some expired rows that nobody holds; gives how many."""
    return connection.execute(_sweep, {"now_us": now_us(connection)}).rowcount


def _id(charge: Charge) -> str:
    return f"{charge.bucket}:{token(charge.key)}"


def _integers(text: str) -> State:
    return tuple(map(int, text.split()))


def _reason(error: Exception) -> str:
    return "full" if isinstance(error, StorageFull) else "unreachable"
