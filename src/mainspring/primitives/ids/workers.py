"""The table of workers in SQL: the rules of `lease.py`, each as a step of a transaction."""

from sqlalchemy import bindparam, case, delete, insert, select, update

from mainspring.core.database import Int64, read_committed
from mainspring.core.database import insert as upsert
from mainspring.core.ports import Connection

from . import lease as rules
from .lease import Granted, Lost, NoneLeft, Release, Renew, Renewed, Take, Terms, Worker
from .minter import DRIFT_MS_MAX
from .tables import holders, workers

HOLDERS_KEPT = 64

_ROW = (workers.c.worker, workers.c.holder, workers.c.fence, workers.c.reserved_ms, workers.c.renewed_ms)
_ALL = select(*_ROW).order_by(workers.c.worker)
_ONE = select(*_ROW).where(workers.c.worker == bindparam("worker_is"))
_ADD = upsert(workers)
_PUT = _ADD.on_conflict_do_update(
    index_elements=["worker"],
    set_={name: _ADD.excluded[name] for name in ("holder", "fence", "reserved_ms", "renewed_ms")},
)
_reserve_to, _used = bindparam("reserve_to", type_=Int64), bindparam("used", type_=Int64)
_RENEW = (
    update(workers)
    .where(
        workers.c.worker == bindparam("worker_is"),
        workers.c.fence == bindparam("fence_is"),
        workers.c.holder.is_not(None),
    )
    .values(
        # Never lower: an older renewal may arrive after a newer one, or the clock may have been set back in between.
        reserved_ms=case((workers.c.reserved_ms < _reserve_to, _reserve_to), else_=workers.c.reserved_ms),
        renewed_ms=bindparam("now"),
    )
    .returning(workers.c.reserved_ms)
)
_RELEASE = (
    update(workers)
    .where(
        workers.c.worker == bindparam("worker_is"),
        workers.c.fence == bindparam("fence_is"),
        workers.c.holder.is_not(None),
    )
    .values(
        holder=None,
        reserved_ms=case((workers.c.reserved_ms > _used, _used), else_=workers.c.reserved_ms),
    )
)
_REMEMBER = insert(holders)
_FORGET = delete(holders).where(holders.c.worker == bindparam("worker_is"), holders.c.fence <= bindparam("fence_to"))
_WHO = (
    select(holders.c.holder, holders.c.fence)
    .join(workers, workers.c.worker == holders.c.worker)
    .where(
        holders.c.worker == bindparam("worker_is"),
        holders.c.low_ms < bindparam("at"),
        # Past this nobody can have minted yet: such a number was made up, or is another deployment's.
        workers.c.reserved_ms >= bindparam("at"),
    )
    .order_by(holders.c.fence.desc())
    .limit(1)
)


def all_workers(connection: Connection) -> list[Worker]:
    """Every row, by worker."""
    return [Worker(*row) for row in connection.execute(_ALL)]


def take(connection: Connection, asked: Take, terms: Terms) -> Granted | NoneLeft:
    """Gives the asker a worker: the one it names, whoever holds it, or a free one."""
    if asked.worker is not None:
        found = connection.execute(_ONE, {"worker_is": asked.worker}).first()
        chosen = Worker(*found) if found else Worker(asked.worker, None, 0, 0, 0)
    else:
        rows = all_workers(connection)
        free = rules.choose(rows, asked.now_ms, terms)
        if free is None:
            return NoneLeft(tuple(rows))
        chosen = free
    after, granted = rules.taken(chosen, asked, terms)
    connection.execute(
        _PUT,
        {
            "worker": after.worker,
            "holder": after.holder,
            "fence": after.fence,
            "reserved_ms": after.reserved_ms,
            "renewed_ms": after.renewed_ms,
        },
    )
    if after.fence > HOLDERS_KEPT:
        connection.execute(_FORGET, {"worker_is": after.worker, "fence_to": after.fence - HOLDERS_KEPT})
    # The first holder of a worker may mint all of the past, and does not: only what its clock shows from now on.
    low_ms = granted.low_ms or asked.now_ms - DRIFT_MS_MAX
    connection.execute(
        _REMEMBER, {"worker": after.worker, "fence": after.fence, "holder": asked.holder, "low_ms": low_ms}
    )
    return granted


@read_committed
def renew(connection: Connection, asked: Renew, terms: Terms) -> Renewed | Lost:
    """Raises the range of a worker that is still held with this fence."""
    reserved_ms = connection.execute(
        _RENEW,
        {
            "worker_is": asked.worker,
            "fence_is": asked.fence,
            "reserve_to": asked.now_ms + terms.reserve_ms,
            "now": asked.now_ms,
        },
    ).scalar()
    return Lost() if reserved_ms is None else Renewed(reserved_ms)


@read_committed
def release(connection: Connection, asked: Release) -> None:
    """Gives a worker back at a clean stop, where it is still held with this fence."""
    connection.execute(_RELEASE, {"worker_is": asked.worker, "fence_is": asked.fence, "used": asked.used_ms})


def holder_of(connection: Connection, worker: int, at_ms: int) -> tuple[str, int] | None:
    """(holder, fence) of the one process that can have minted in this millisecond of this worker; None where none can."""
    found = connection.execute(_WHO, {"worker_is": worker, "at": at_ms}).first()
    return (found[0], found[1]) if found else None
