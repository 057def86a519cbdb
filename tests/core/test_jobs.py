"""Periodic jobs under a clock of our own, and their leases on a shared PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.job_leases import LEASE_S
from mainspring.core.jobs import CANCEL_S, FIRST_AFTER_S_MAX, RENEW_EVERY_S, RUNNING_MAX, Jobs
from mainspring.core.problems import Unavailable
from mainspring.core.shared_leases import SharedLeases
from mainspring.core.telemetry import Metrics
from tests.fixtures_database import PostgresServer, postgres_database
from tests.waiting import until


class Embedded:
    """All that jobs need of an embedded database is to know that it is one."""

    dialect = "sqlite"


class Here:
    """Jobs of one process on a clock of their own."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.metrics = Metrics()
        self.jobs = Jobs(Embedded(), self.clock, random=Random(3), metrics=self.metrics)  # type: ignore[arg-type]
        self.ran_at_s: list[float] = []

    def now_s(self) -> float:
        return self.clock.mono_ns() / 1e9

    async def work(self) -> None:
        self.ran_at_s.append(self.now_s())

    async def pass_time(self, seconds: float, step_s: float = 0.5) -> None:
        for _ in range(round(seconds / step_s)):
            await self.clock.advance(step_s)
            for _ in range(5):
                await asyncio.sleep(0)

    def runs(self, outcome: str, job: str = "work") -> float:
        line = f'job_runs_total{{job="{job}",outcome="{outcome}"}} '
        found = [text for text in self.metrics.exposition().decode().splitlines() if text.startswith(line)]
        return float(found[0].removeprefix(line)) if found else 0


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    here = Here()
    await here.jobs.start()
    yield here
    await here.jobs.stop()


async def test_a_job_runs_soon_and_then_about_as_often_as_it_says(here: Here) -> None:
    here.jobs.add("work", 30, here.work)
    await here.pass_time(310)
    assert here.ran_at_s[0] <= 30.5
    gaps = [later - before for before, later in zip(here.ran_at_s, here.ran_at_s[1:], strict=False)]
    assert len(gaps) >= 8
    assert all(30 * 0.95 <= gap <= 30 * 1.05 * 1.1 + 1 for gap in gaps)
    assert len(set(gaps)) > 1, "they do not all come at the same beat"
    assert here.runs("done") == len(here.ran_at_s)


async def test_a_rare_job_is_run_within_the_first_minute(here: Here) -> None:
    here.jobs.add("work", 7 * 86_400, here.work)
    await here.pass_time(FIRST_AFTER_S_MAX + 1)
    assert len(here.ran_at_s) == 1


async def test_jobs_that_are_added_before_the_start_run_after_it() -> None:
    here = Here()
    here.jobs.add("work", 1, here.work)
    await here.pass_time(5)
    assert here.ran_at_s == []
    await here.jobs.start()
    await here.pass_time(5)
    await here.jobs.stop()
    count = len(here.ran_at_s)
    assert count >= 3
    await here.pass_time(5)
    assert len(here.ran_at_s) == count, "and none after the stop"


async def test_a_job_that_fails_is_logged_counted_and_tried_again_later_and_later(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        here.ran_at_s.append(here.now_s())
        if len(here.ran_at_s) <= 5:
            raise LookupError("not yet")

    here.jobs.add("work", 3600, fail)
    await here.pass_time(FIRST_AFTER_S_MAX + 60)
    assert len(here.ran_at_s) == 6
    gaps = [later - before for before, later in zip(here.ran_at_s, here.ran_at_s[1:], strict=False)]
    assert gaps[0] <= 2.5 and gaps[-1] > gaps[0]
    assert (here.runs("failed"), here.runs("done")) == (5, 1)
    assert "the job work failed" in caplog.text and "not yet" in caplog.text


async def test_a_job_that_fails_at_the_call_itself_is_a_job_that_fails(here: Here) -> None:
    def not_even_a_coroutine() -> Awaitable[None]:
        raise LookupError

    here.jobs.add("work", 1, not_even_a_coroutine)
    await here.pass_time(20)
    assert here.runs("failed") >= 3


async def test_a_job_never_overlaps_itself(here: Here) -> None:
    running = 0
    overlaps = 0

    async def slow() -> None:
        nonlocal running, overlaps
        overlaps += running
        running += 1
        await here.clock.sleep(7)
        running -= 1
        here.ran_at_s.append(here.now_s())

    here.jobs.add("work", 2, slow)
    await here.pass_time(60)
    assert len(here.ran_at_s) >= 6 and overlaps == 0


async def test_a_job_that_takes_too_long_is_cancelled(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    cancelled: list[float] = []

    async def hang() -> None:
        here.ran_at_s.append(here.now_s())
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(here.now_s() - here.ran_at_s[-1])

    here.jobs.add("work", 1, hang, run_s_max=12)
    await here.pass_time(40)
    assert len(cancelled) >= 2
    assert [round(after) for after in cancelled] == [12] * len(cancelled), cancelled
    assert here.runs("ended") == len(cancelled)
    assert "took longer than 12 s" in caplog.text


async def test_a_job_that_does_not_even_end_when_cancelled_is_left_behind(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        here.ran_at_s.append(here.now_s())
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    here.jobs.add("work", 1, stubborn, run_s_max=2)
    await here.pass_time(2 * (2 + CANCEL_S) + 10)
    assert len(here.ran_at_s) >= 2
    assert "left behind" in caplog.text
    let_go.set()


async def test_only_so_many_jobs_run_at_once(here: Here) -> None:
    running, most = 0, 0

    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await here.clock.sleep(20)
        running -= 1

    for n in range(3 * RUNNING_MAX):
        here.jobs.add(f"job {n}", 1, slow)
    await here.pass_time(90)
    assert most == RUNNING_MAX
    assert all(here.runs("done", f"job {n}") >= 1 for n in range(3 * RUNNING_MAX)), "each had its turn"


async def test_stopping_cancels_what_runs(here: Here) -> None:
    ended: list[bool] = []

    async def hang() -> None:
        here.ran_at_s.append(here.now_s())
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    here.jobs.add("work", 1, hang)
    await here.pass_time(3)
    assert here.ran_at_s and not ended
    await here.jobs.stop()
    assert ended == [True]


async def test_what_makes_no_sense_is_refused(here: Here) -> None:
    here.jobs.add("work", 1, here.work)
    with pytest.raises(ValueError, match="already"):
        here.jobs.add("work", 1, here.work)
    for every_s, run_s_max in ((0, 1), (-1, 1), (float("nan"), 1), (1e12, 1), (1, 0), (1, -1)):
        with pytest.raises(ValueError, match="a job runs"):
            here.jobs.add("other", every_s, here.work, run_s_max=run_s_max)


class Leases:
    """Leases of a shared database, played: what each call answers is set by the test."""

    def __init__(self) -> None:
        self.mine = True
        self.renewing: Callable[[], bool] = lambda: True
        self.finished: list[tuple[int, float]] = []
        self.claims = 0

    async def prepare(self) -> None: ...

    async def begin(self, job: str, wait_s: float) -> None: ...

    async def claim(self, job: str) -> tuple[int | None, float]:
        self.claims += 1
        return (self.claims, 0.0) if self.mine else (None, 3.0)

    async def renew(self, job: str, fence: int) -> bool:
        return self.renewing()

    async def finish(self, job: str, fence: int, wait_s: float) -> None:
        self.finished.append((fence, wait_s))


@pytest.fixture
async def shared() -> AsyncIterator[tuple[Here, Leases]]:
    here, leases = Here(), Leases()
    here.jobs._leases = leases  # type: ignore[assignment]
    await here.jobs.start()
    yield here, leases
    await here.jobs.stop()


async def hang() -> None:
    await asyncio.Event().wait()


async def test_what_another_node_has_is_left_alone(shared: tuple[Here, Leases]) -> None:
    here, leases = shared
    leases.mine = False
    here.jobs.add("work", 3600, here.work)
    await here.pass_time(100)
    assert here.ran_at_s == []
    assert 25 <= leases.claims <= 40, "it looks again when the other one's time is up, and not before"


async def test_a_run_ends_when_another_node_has_taken_it_over(
    shared: tuple[Here, Leases], caplog: pytest.LogCaptureFixture
) -> None:
    here, leases = shared
    here.jobs.add("work", 1, hang)
    await here.pass_time(3)
    leases.renewing = lambda: False
    await here.pass_time(RENEW_EVERY_S + 1)
    assert here.runs("ended") == 1
    assert "another node" in caplog.text


async def test_a_run_ends_before_its_lease_does_where_it_cannot_be_renewed(shared: tuple[Here, Leases]) -> None:
    here, leases = shared

    def fail() -> bool:
        raise Unavailable

    here.jobs.add("work", 1, hang)
    await here.pass_time(1.5)
    leases.renewing = fail
    await here.pass_time(RENEW_EVERY_S)
    assert here.runs("ended") == 0, "a short trouble is survived"
    await here.pass_time(LEASE_S - RENEW_EVERY_S)
    assert here.runs("ended") == 1


async def test_a_stopped_node_gives_its_job_to_the_others_at_once(shared: tuple[Here, Leases]) -> None:
    here, leases = shared
    here.jobs.add("work", 3600, hang, run_s_max=3600)
    await here.pass_time(FIRST_AFTER_S_MAX + 1)
    await here.jobs.stop()
    assert leases.finished == [(1, 0.0)]


@pytest.fixture
async def nodes(postgres_server: PostgresServer) -> AsyncIterator[tuple[Any, SharedLeases, SharedLeases]]:
    async with postgres_database(postgres_server) as database:
        one, two = SharedLeases(database, "one"), SharedLeases(database, "two")
        await one.prepare()
        await two.prepare()
        yield database, one, two


EXPIRE = sa.text("UPDATE core_jobs SET leased_until_us = 1")
DUE_NOW = sa.text("UPDATE core_jobs SET due_at_us = 1")


async def run(database: Any, statement: Any) -> None:
    await database.write(lambda connection: connection.execute(statement).rowcount)


@pytest.mark.postgres
async def test_of_many_nodes_one_gets_a_job_that_is_due(nodes: tuple[Any, SharedLeases, SharedLeases]) -> None:
    _, one, two = nodes
    await asyncio.gather(one.begin("job", 0), two.begin("job", 0))
    claims = await asyncio.gather(*(leases.claim("job") for leases in (one, two) * 10))
    assert sorted(fence for fence, _ in claims if fence is not None) == [1]
    assert all(0 < wait_s <= LEASE_S for fence, wait_s in claims if fence is None)


@pytest.mark.postgres
async def test_a_job_is_not_due_again_before_its_time(nodes: tuple[Any, SharedLeases, SharedLeases]) -> None:
    database, one, two = nodes
    await one.begin("job", 3600)
    fence, wait_s = await two.claim("job")
    assert fence is None and 3000 < wait_s <= 3600
    await two.begin("job", 0)
    assert (await two.claim("job"))[0] is None, "a node that starts does not make it due"
    await run(database, DUE_NOW)
    assert await two.claim("job") == (1, 0.0)
    await two.finish("job", 1, 3600)
    assert (await one.claim("job"))[0] is None


@pytest.mark.postgres
async def test_when_a_node_dies_another_takes_over_and_the_dead_one_has_no_say(
    nodes: tuple[Any, SharedLeases, SharedLeases],
) -> None:
    database, dead, alive = nodes
    await dead.begin("job", 0)
    assert await dead.claim("job") == (1, 0.0)
    assert await dead.renew("job", 1)
    assert (await alive.claim("job"))[0] is None
    await run(database, EXPIRE)
    assert await alive.claim("job") == (2, 0.0)
    assert not await dead.renew("job", 1)
    await dead.finish("job", 1, 0)
    assert (await dead.claim("job"))[0] is None, "it could not give away what it no longer had"
    assert await alive.renew("job", 2)


@pytest.mark.postgres
async def test_on_two_nodes_a_job_runs_on_one_at_a_time(postgres_server: PostgresServer) -> None:
    ran: list[str] = []
    running = 0

    async with postgres_database(postgres_server) as database, AsyncExitStack() as stack:
        for node in ("one", "two"):

            async def work(node: str = node) -> None:
                nonlocal running
                assert running == 0
                running += 1
                await database.read(lambda connection: None)
                running -= 1
                ran.append(node)

            jobs = Jobs(database, SystemClock(), node=node)
            jobs.add("job", 0.1, work)
            await jobs.start()
            stack.push_async_callback(jobs.stop)
        await until(lambda: len(ran) >= 10)
