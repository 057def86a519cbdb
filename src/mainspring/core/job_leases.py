"""Who runs a periodic job, and when it is due.

Embedded, one process owns the database: `OwnLeases` keeps the times in memory, so that an idle process writes nothing. On a
shared database each job has a row (`shared_leases`). Whoever finds it due takes it by one UPDATE, for `LEASE_S`; the claim
has a fence, one higher each time, and with a fence that is no longer the latest nothing can be changed. All times are the
server's, so the nodes' clocks do not matter.
"""

from typing import Protocol

from mainspring.core.clock import Clock
from mainspring.core.ports import Database

LEASE_S = 15.0


class Leases(Protocol):
    """Each job by its name."""

    async def prepare(self) -> None:
        """Makes ready what the others need."""

    async def begin(self, job: str, wait_s: float) -> None:
        """Makes a job known, first due in `wait_s`; one that is known already stays as it is."""

    async def claim(self, job: str) -> tuple[int | None, float]:
        """(fence, 0) where the job is due and now ours, else (None, seconds until it is worth another look)."""

    async def renew(self, job: str, fence: int) -> bool:
        """Whether the job is still ours, now for another `LEASE_S`."""

    async def finish(self, job: str, fence: int, wait_s: float) -> None:
        """Gives the job back, due again in `wait_s`; changes nothing where it is no longer ours."""


def leases_of(database: Database, clock: Clock, node: str) -> Leases:
    """Those that fit `database`; `node` names this process to others on a shared one."""
    if database.dialect == "sqlite":
        return OwnLeases(clock)
    from mainspring.core.shared_leases import SharedLeases

    return SharedLeases(database, node)


class OwnLeases:
    """For the one process that owns its database."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_ns: dict[str, int] = {}

    async def prepare(self) -> None:
        return None

    async def begin(self, job: str, wait_s: float) -> None:
        self._due_ns.setdefault(job, self._clock.mono_ns() + round(wait_s * 1e9))

    async def claim(self, job: str) -> tuple[int | None, float]:
        wait_ns = self._due_ns[job] - self._clock.mono_ns()
        return (None, wait_ns / 1e9) if wait_ns > 0 else (1, 0.0)

    async def renew(self, job: str, fence: int) -> bool:
        return True

    async def finish(self, job: str, fence: int, wait_s: float) -> None:
        self._due_ns[job] = self._clock.mono_ns() + round(wait_s * 1e9)
