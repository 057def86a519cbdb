"""Periodic jobs: on one node at a time, spread out, bounded, and tried again when they fail.

Each node looks when a job is due and runs it if it gets the job's lease (`job_leases`), which it renews while the job runs.
When a node dies, another one takes over after `LEASE_S`; a node that cannot renew in time cancels its run. So work is not
done twice, mostly: what must never be done twice at once uses `primitives.locks`.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.job_leases import LEASE_S, leases_of
from mainspring.core.ports import Database
from mainspring.core.telemetry import Metrics

EVERY_S_MIN, EVERY_S_MAX = 0.1, 366 * 86_400.0
RENEW_EVERY_S = 5.0
LOOK_EVERY_S_MAX = 30.0
FIRST_AFTER_S_MAX = 60.0
CANCEL_S = 5.0
"""How long a run that was cancelled may take to give way, before it is left behind."""

RUNNING_MAX = 8

Call = Callable[[], Awaitable[object]]

_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True):
    name: str
    every_s: float
    call: Call
    run_s_max: float


class Jobs:
    """Runs what is added to it, from `start` to `stop`; at most eight at once.

    On /metrics: runs by job and outcome (`done`, `failed`, `ended` for one that took too long or lost its lease), and how
    long they take.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        node: str | None = None,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        name = node or f"{os.uname().nodename}/{os.getpid()}"
        self._clock = clock
        self._leases = leases_of(database, clock, name)
        self._random = random or Random()
        self._jobs: dict[str, Job] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._places = asyncio.Semaphore(RUNNING_MAX)
        self._running = False
        shown = metrics or Metrics()
        self._runs = shown.counter("job_runs", "Runs of periodic jobs", ("job", "outcome"))
        self._seconds = shown.histogram("job_seconds", "How long a run of a periodic job took", ("job",))

    def add(self, name: str, every_s: float, call: Call, *, run_s_max: float = 300.0) -> None:
        """Calls `call` about every `every_s`, for at most `run_s_max`; the first time within a minute, or `every_s`.

        Raises `ValueError` for a name that is taken and for times out of reason.
        """
        if name in self._jobs:
            raise ValueError(f"there is a job {name} already")
        if not EVERY_S_MIN <= every_s <= EVERY_S_MAX or not 0 < run_s_max <= EVERY_S_MAX:
            raise ValueError(f"{name}: a job runs every {EVERY_S_MIN} s at most and once a year at least")
        job = self._jobs[name] = Job(name, every_s, call, run_s_max)
        if self._running:
            self._keep(job)

    async def start(self) -> None:
        """Raises what the database raises."""
        await self._leases.prepare()
        self._running = True
        for job in self._jobs.values():
            self._keep(job)

    async def stop(self) -> None:
        """Cancels what runs, so that other nodes can take it at once."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _keep(self, job: Job) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._repeat(job), name=f"job {job.name}"))

    async def _repeat(self, job: Job) -> None:
        first_s = self._random.uniform(0, min(job.every_s, FIRST_AFTER_S_MAX))
        known = False
        troubles = Backoff(1.0, max(1.0, job.every_s), self._random)
        failures = Backoff(1.0, max(1.0, job.every_s), self._random)
        while True:
            try:
                if not known:
                    await self._leases.begin(job.name, first_s)
                    known = True
                wait_s = await self._look(job, failures)
                troubles.reset()
            except Exception:
                if not troubles.failures:
                    _log.exception("the job %s cannot be looked after; trying again", job.name)
                wait_s = troubles.next_s()
            await self._clock.sleep(wait_s)

    async def _look(self, job: Job, failures: Backoff) -> float:
        """Runs the job if it is due and nobody else has it; gives the seconds until the next look."""
        async with self._places:
            fence, wait_s = await self._leases.claim(job.name)
            if fence is not None:
                return await self._run(job, fence, failures)
        # Not all at the same moment, and early enough to take over from a node that dies.
        return min(max(wait_s, 0.05), LOOK_EVERY_S_MAX) * self._random.uniform(1, 1.1)

    async def _run(self, job: Job, fence: int, failures: Backoff) -> float:
        started_ns = self._clock.mono_ns()
        run = asyncio.ensure_future(_call(job))
        # One that is left behind has nobody to read its error.
        run.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        guard = asyncio.ensure_future(self._guard(job, fence))
        wait_s = 0.0  # another node may have it at once where this one is stopped
        try:
            await asyncio.wait({run, guard}, return_when=asyncio.FIRST_COMPLETED)
            outcome = await self._end(job, run, guard)
            took_s = (self._clock.mono_ns() - started_ns) / 1e9
            self._runs.labels(job.name, outcome).inc()
            self._seconds.labels(job.name).observe(took_s)
            if outcome == "done":
                failures.reset()
                wait_s = max(0.0, job.every_s * self._random.uniform(0.95, 1.05) - took_s)
            else:
                wait_s = min(failures.next_s(), job.every_s)
        finally:
            guard.cancel()
            if not run.done():
                await self._give_way(job, run)
            await self._leases.finish(job.name, fence, wait_s)
        return wait_s

    async def _end(self, job: Job, run: "asyncio.Task[object]", guard: "asyncio.Task[str]") -> str:
        """What became of a run that is over, or must be."""
        if not run.done():
            _log.error("the job %s is cancelled: %s", job.name, guard.result())
            return "ended"
        error = asyncio.CancelledError() if run.cancelled() else run.exception()
        if error is None:
            return "done"
        _log.error("the job %s failed; it is tried again", job.name, exc_info=error)
        return "failed"

    async def _give_way(self, job: Job, run: "asyncio.Task[object]") -> None:
        run.cancel()
        patience = asyncio.ensure_future(self._clock.sleep(CANCEL_S))
        await asyncio.wait({run, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not run.done():
            _log.error("the job %s does not end though it is cancelled; it is left behind", job.name)

    async def _guard(self, job: Job, fence: int) -> str:
        """Renews the lease; returns, with the reason, when the run must end."""
        started_ns = renewed_ns = self._clock.mono_ns()
        while True:
            left_s = job.run_s_max - (self._clock.mono_ns() - started_ns) / 1e9
            if left_s <= 0:
                return f"it took longer than {job.run_s_max:g} s"
            await self._clock.sleep(min(RENEW_EVERY_S, left_s))
            asked_ns = self._clock.mono_ns()
            try:
                if not await self._leases.renew(job.name, fence):
                    return "another node has taken it over"
                renewed_ns = asked_ns
            except Exception as error:
                if (self._clock.mono_ns() - renewed_ns) / 1e9 > LEASE_S - RENEW_EVERY_S:
                    return f"its lease cannot be renewed: {error}"


async def _call(job: Job) -> object:
    return await job.call()
