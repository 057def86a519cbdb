"""Leases of jobs on a database that nodes share: see `job_leases`."""

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column, select, update

from mainspring.core.database import Int64, Metadata, Text, insert, read_committed
from mainspring.core.job_leases import LEASE_S
from mainspring.core.ports import Connection, Database

tables = Metadata("core_jobs")
jobs = tables.table(
    "core_jobs",
    sa.Column("name", Text, primary_key=True),
    sa.Column("fence", Int64, nullable=False),
    sa.Column("holder", Text, nullable=False),
    sa.Column("leased_until_us", Int64, nullable=False),
    sa.Column("due_at_us", Int64, nullable=False),
)

_row = jobs.c
_now_us = literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", Int64)
_lease_end_us = _now_us + round(LEASE_S * 1e6)
_due_us = _now_us + bindparam("wait_us", type_=Int64)
_named, _held = _row.name == bindparam("job", type_=Text), _row.fence == bindparam("held", type_=Int64)

_begin = (
    insert(jobs)
    .values(name=bindparam("job", type_=Text), fence=0, holder="", leased_until_us=0, due_at_us=_due_us)
    .on_conflict_do_nothing()
)
_claim = (
    update(jobs)
    .where(_named, _row.due_at_us <= _now_us, _row.leased_until_us <= _now_us)
    .values(fence=_row.fence + 1, holder=bindparam("by", type_=Text), leased_until_us=_lease_end_us)
    .returning(_row.fence)
)
_wait_us = select(sa.func.greatest(_row.due_at_us, _row.leased_until_us) - _now_us).where(_named)
_renew = update(jobs).where(_named, _held).values(leased_until_us=_lease_end_us).returning(_row.fence)
_finish = update(jobs).where(_named, _held).values(leased_until_us=0, due_at_us=_due_us)


class SharedLeases:
    """For many nodes on one database; see `Leases`."""

    def __init__(self, database: Database, node: str) -> None:
        self._database, self._node = database, node

    async def prepare(self) -> None:
        await self._database.prepare("core_jobs", tables)

    async def begin(self, job: str, wait_s: float) -> None:
        await self._database.write(_begin_row, job, round(wait_s * 1e6))

    async def claim(self, job: str) -> tuple[int | None, float]:
        fence, wait_us = await self._database.write(_claim_row, job, self._node)
        return fence, wait_us / 1e6

    async def renew(self, job: str, fence: int) -> bool:
        return await self._database.write(_renew_row, job, fence)

    async def finish(self, job: str, fence: int, wait_s: float) -> None:
        await self._database.write(_finish_row, job, fence, round(wait_s * 1e6))


@read_committed
def _begin_row(connection: Connection, job: str, wait_us: int) -> None:
    connection.execute(_begin, {"job": job, "wait_us": wait_us})


@read_committed
def _claim_row(connection: Connection, job: str, node: str) -> tuple[int | None, int]:
    fence = connection.execute(_claim, {"job": job, "by": node}).scalar()
    return (fence, 0) if fence is not None else (None, connection.execute(_wait_us, {"job": job}).scalar() or 0)


@read_committed
def _renew_row(connection: Connection, job: str, fence: int) -> bool:
    return connection.execute(_renew, {"job": job, "held": fence}).first() is not None


@read_committed
def _finish_row(connection: Connection, job: str, fence: int, wait_us: int) -> None:
    connection.execute(_finish, {"job": job, "held": fence, "wait_us": wait_us})
