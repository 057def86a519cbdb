"""`Ids`: what other code calls. Mints by itself; asks the database for milliseconds once a second, and for nothing else."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from random import Random
from uuid import UUID

from mainspring.core.backoff import Backoff
from mainspring.core.clock import Clock
from mainspring.core.ports import Database
from mainspring.core.telemetry import Metrics

from . import workers
from .chance import Chance, forget_at_fork
from .errors import LayoutTooNarrow, NoWorkerLeft
from .kinds import Kinds
from .layouts import LAYOUTS, Layout
from .lease import Answer, Lease, Take, Terms, Worker
from .minter import DRIFT_MS_MAX, Minter, Run
from .parsing import Id, microseconds
from .sequences import Gapless, Sequence
from .settings import IdsSettings

SEQUENCES_MAX = 1_024
TIGHT_RETRY_S = 0.05

log = logging.getLogger(__name__)


class Ids:
    """Mints every kind of id for this process. `await start()` takes a worker id and with it a range of milliseconds.

    `next`, `take` and `runs` are those of `Minter`: plain calls that never wait. When no id can be given they raise `TooFast`
    (429), `ClockBehind` or `NotReserved` (503), all with `Retry-After`. `uuid7`, `ulid`, `ksuid`, `xid`, `typeid` and `nano`
    need no worker and work at once. Threads may share it; the child of a fork must `start()` it again.
    """

    next: Callable[[], int]
    take: Callable[[int], list[int]]
    runs: Callable[[int], list[Run]]
    uuid7: Callable[[], UUID]
    ulid: Callable[[], str]
    ksuid: Callable[[], str]
    xid: Callable[[], str]
    typeid: Callable[[str], str]
    nano: Callable[[], str]

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: IdsSettings | None = None,
        metrics: Metrics | None = None,
        *,
        holder: str | None = None,
        source: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.settings = settings or IdsSettings()
        self.layout: Layout = LAYOUTS[self.settings.layout]
        self._database = database
        self._clock = clock
        self._chance = Chance(source)
        self._named = holder
        self._terms = Terms(
            worker_max=min(1_023, self.layout.worker_max),
            reserve_ms=self.settings.reserve_ms,
            renew_ms=self.settings.renew_ms,
            free_after_ms=self.settings.free_after_ms,
        )
        if self.settings.worker is not None and self.settings.worker > self.layout.worker_max:
            raise ValueError(f"worker {self.settings.worker} does not fit into {self.layout.worker} bits")
        self._minter = self._closed_minter(self.layout)
        self._by_layout = {self.settings.layout: self._minter}
        self._lease = self._new_lease()
        self._renewing: asyncio.Task[None] | None = None
        self._failures = 0
        self._sequences: dict[str, Sequence] = {}
        self.next, self.take, self.runs = self._minter.next, self._minter.take, self._minter.runs
        kinds = Kinds(clock, source)
        self.uuid7, self.ulid, self.ksuid, self.xid = kinds.uuid7, kinds.ulid, kinds.ksuid, kinds.xid
        self.typeid, self.nano = kinds.typeid, kinds.nano
        if metrics is not None:
            self._measure(metrics)
        forget_at_fork(self)

    async def start(self) -> None:
        """Takes a worker id. Raises `NoWorkerLeft` with the holders, and `Unavailable` without a database."""
        if self._renewing is None:
            await self._ask()
            self._renewing = asyncio.create_task(self._renew_for_ever(), name="renew the milliseconds of ids")

    async def stop(self) -> None:
        """Ends minting and gives back the worker id and what is left of sequences."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        self._renewing = None
        release = self._lease.release()
        try:
            for sequence in self._sequences.values():
                await sequence.stop()
            if release is not None:
                await self._database.write(workers.release, release)
        except Exception as error:
            # Nothing is lost but numbers and, for half a minute, a worker id.
            log.warning("ids could not be given back: %s", error)
        self._sequences.clear()

    def forget(self) -> None:
        """In the child of a fork: what is held is the parent's. Minting goes on after `start()`."""
        self._lease = self._new_lease()
        self._renewing = None
        self._sequences = {}

    @property
    def worker(self) -> int | None:
        """The worker id of this process, None while it has none."""
        return self._lease.granted.worker if self._lease.granted else None

    @property
    def holder(self) -> str:
        """The name under which this process holds it."""
        return self._lease.holder

    @property
    def minted(self) -> int:
        """How many 64-bit ids this process has minted, in all layouts."""
        return sum(minter.minted for minter in self._by_layout.values())

    @property
    def reserved_ms_left(self) -> int:
        """For how long minting can go on without the database; negative once it cannot."""
        return self._minter.reserved_ms_left

    @property
    def ahead_ms(self) -> int:
        """How far the last id is ahead of the wall clock."""
        return self._minter.ahead_ms

    def unready(self) -> str | None:
        """Why no id can be minted now, or None where one can."""
        minter = self._minter
        if self.worker is None and minter.reserved_ms_left <= 0:
            return "no worker id is held"
        if minter.ahead_ms > DRIFT_MS_MAX:
            return f"the wall clock is {minter.ahead_ms} ms behind the last id"
        if minter.reserved_ms_left <= 0:
            return f"the reserved milliseconds are used up; {self._failures} renewals in a row have failed"
        return None

    def first_at(self, at: datetime | int) -> int:
        """The smallest id of the millisecond of `at` (a datetime with a zone, or microseconds UTC)."""
        return self.layout.first_at(microseconds(at))

    def last_at(self, at: datetime | int) -> int:
        """The largest id of the millisecond of `at`."""
        return self.layout.last_at(microseconds(at))

    def minter(self, layout: str) -> Minter:
        """The minter of another named layout, in the same worker's same milliseconds.

        Raises `KeyError` for a name that is none, `LayoutTooNarrow` where this process's worker id does not fit it.
        """
        minter = self._by_layout.get(layout)
        if minter is None:
            minter = self._by_layout[layout] = self._closed_minter(LAYOUTS[layout])
            self._lease.add(minter)
        if self.worker is not None and self.worker > minter.layout.worker_max:
            raise LayoutTooNarrow(layout, self.worker, minter.layout.worker)
        return minter

    def sequence(self, name: str) -> Sequence:
        """The dense numbers of `name`, in cached blocks. Raises `BadName`."""
        found = self._sequences.get(name)
        if found is None:
            found = Sequence(self._database, name, self.settings.block)
            while len(self._sequences) >= SEQUENCES_MAX:
                self._sequences.pop(next(iter(self._sequences)))
            self._sequences[name] = found
        return found

    def gapless(self, name: str) -> Gapless:
        """The dense numbers of `name` without a gap, in the caller's own transaction. Raises `BadName`."""
        return Gapless(name)

    async def workers(self) -> list[Worker]:
        """Every worker id that was ever taken, with its holder."""
        return await self._database.read(workers.all_workers)

    async def minted_by(self, one: Id) -> tuple[str, int] | None:
        """(holder, fence) of the one process that can have minted an id of this deployment's layout; None where none can."""
        if one.kind != self.settings.layout or one.worker is None or one.at_us is None:
            return None
        return await self._database.read(workers.holder_of, one.worker, one.at_us // 1000)

    async def _ask(self) -> None:
        lease = self._lease
        request = lease.request(self._clock.wall_ns() // 1_000_000)
        answer: Answer
        if isinstance(request, Take):
            answer = await self._database.write(workers.take, request, self._terms)
        else:
            answer = await self._database.write(workers.renew, request, self._terms)
        lease.answered(request, answer)

    async def _renew_for_ever(self) -> None:
        backoff = Backoff(0.05, self._terms.renew_ms / 1000, Random(self._chance.word()))
        wait_s = self._wait_s()
        while True:
            await self._clock.sleep(wait_s)
            asked_ns, lost = self._clock.mono_ns(), self._lease.lost
            try:
                await self._ask()
            except Exception as error:
                if not self._failures:
                    log.warning(
                        "milliseconds could not be reserved: %s", error, exc_info=not isinstance(error, NoWorkerLeft)
                    )
                self._failures += 1
                wait_s = backoff.next_s()
                continue
            if self._failures:
                log.info("milliseconds are reserved again after %d failures", self._failures)
            self._failures = 0
            backoff.reset()
            if self._lease.lost != lost:
                log.warning("another process has taken our worker id; taking another")
                wait_s = 0.0
            else:
                # A renewal that was itself long on its way brought less than it should have.
                wait_s = max(0.0, self._wait_s() - (self._clock.mono_ns() - asked_ns) / 1e9)

    def _wait_s(self) -> float:
        granted = self._lease.granted
        # A worker that was given up a moment ago has hardly a millisecond that its last holder did not reserve.
        tight = granted is not None and granted.high_ms - granted.low_ms < self._terms.renew_ms
        return TIGHT_RETRY_S if tight else self._terms.renew_ms / 1000

    def _closed_minter(self, layout: Layout) -> Minter:
        minter = Minter(layout, 0, self._clock, 0, 0, chance=self._chance)
        minter.close()
        return minter

    def _new_lease(self) -> Lease:
        holder = self._named or f"{socket.gethostname()}/{os.getpid()}"
        lease = Lease(self._minter, self._terms, holder, self.settings.worker)
        for minter in self._by_layout.values():
            if minter is not self._minter:
                lease.add(minter)
        return lease

    def _measure(self, metrics: Metrics) -> None:
        minted = metrics.counter("ids_minted", "Ids of 64 bits minted by this process")
        lost = metrics.counter("ids_workers_lost", "Times that another process took our worker id")
        worker = metrics.gauge("ids_worker", "Worker id of this process, -1 while it has none")
        left = metrics.gauge("ids_reserved_seconds", "Time for which minting can go on without the database")
        ahead = metrics.gauge("ids_ahead_seconds", "How far the last id is ahead of the wall clock")
        failures = metrics.gauge("ids_renewal_failures", "Renewals in a row that have failed")
        told = {"minted": 0, "lost": 0}

        def refresh() -> None:
            minted.inc(self.minted - told["minted"])
            lost.inc(self._lease.lost - told["lost"])
            told["minted"], told["lost"] = self.minted, self._lease.lost
            worker.set(-1 if self.worker is None else self.worker)
            left.set(max(0, self._minter.reserved_ms_left) / 1000)
            ahead.set(self._minter.ahead_ms / 1000)
            failures.set(self._failures)

        metrics.before_scrape(refresh)
