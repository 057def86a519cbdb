"""The metrics of the process itself."""

import asyncio
import gc

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.telemetry import Metrics
from mainspring.core.telemetry.process import LAG_EVERY_S, LAG_WINDOW_SAMPLES, ProcessMetrics


class LateClock(SystemClock):
    """A clock whose sleeps take as much longer as the test says, in no real time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.late_s: asyncio.Queue[float] = asyncio.Queue()

    def mono_ns(self) -> int:  # type: ignore[override]  # a function there, a method here
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.now_ns += round((seconds + await self.late_s.get()) * 1e9)
        self.late_s.task_done()


def value(metrics: Metrics, name: str) -> float:
    lines = metrics.exposition().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


def test_a_scrape_tells_memory_cpu_descriptors_and_threads() -> None:
    metrics = Metrics()
    ProcessMetrics(metrics, SystemClock())
    assert value(metrics, "process_resident_memory_bytes") > 5 << 20
    assert value(metrics, "process_cpu_seconds_total") > 0
    assert 0 < value(metrics, "process_open_fds") < value(metrics, "process_max_fds")
    assert value(metrics, "process_threads") >= 1
    assert value(metrics, "python_info{") == 1
    before = value(metrics, 'python_gc_collections_total{generation="2"}')
    gc.collect()
    assert value(metrics, 'python_gc_collections_total{generation="2"}') > before


async def test_the_worst_lateness_of_the_loop_is_told_for_ten_seconds() -> None:
    metrics, clock = Metrics(), LateClock()
    process = ProcessMetrics(metrics, clock)
    await process.start()
    try:
        assert value(metrics, "event_loop_lag_seconds ") == 0
        for late_s in (0.0, 0.8, 0.1):
            clock.late_s.put_nowait(late_s)
        await asyncio.wait_for(clock.late_s.join(), 30)
        await asyncio.sleep(0)
        assert process.lag_s == pytest.approx(0.8)
        assert value(metrics, "event_loop_lag_seconds ") == pytest.approx(0.8)
        for _ in range(LAG_WINDOW_SAMPLES):
            clock.late_s.put_nowait(0.0)
        await asyncio.wait_for(clock.late_s.join(), 30)
        await asyncio.sleep(0)
        assert process.lag_s == pytest.approx(0, abs=LAG_EVERY_S / 1e6)
    finally:
        await process.stop()


async def test_pauses_of_the_collector_are_timed_between_start_and_stop() -> None:
    metrics = Metrics()
    process = ProcessMetrics(metrics, SystemClock())
    pauses = metrics.histogram("python_gc_pause_seconds", "…")
    gc.collect()
    assert pauses.count == 0
    await process.start()
    gc.collect()
    await process.stop()
    seen = pauses.count
    assert seen >= 1
    gc.collect()
    assert pauses.count == seen
    await process.stop()
