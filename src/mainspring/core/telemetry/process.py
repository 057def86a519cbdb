"""What an operator asks of a process first: memory, CPU, descriptors, the garbage collector, how late the loop runs.

Read at each scrape, together, from `/proc` where there is one and from `getrusage` elsewhere. The loop's lag is sampled
by a task that asks to be woken every quarter of a second and notes how much later it was.
"""

import asyncio
import gc
import os
import platform
import resource
import sys
from collections import deque
from typing import Any

from mainspring.core.clock import Clock
from mainspring.core.telemetry.metrics import Metrics

LAG_EVERY_S = 0.25
LAG_WINDOW_SAMPLES = 40
"""Ten seconds: long enough for a scrape to see what happened since the last one, short enough to shed load by."""


class ProcessMetrics:
    """Registers the metrics of this process; `start` and `stop` bound what has to run for them.

    `lag_s` is the worst lateness of the event loop in the last ten seconds, for whoever sheds load.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._lags: deque[float] = deque(maxlen=LAG_WINDOW_SAMPLES)
        self._task: asyncio.Task[None] | None = None
        self._collecting_since_ns = 0
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        gauge, counter = metrics.gauge, metrics.counter
        self._cpu = counter("process_cpu_seconds_total", "User and system CPU time")
        self._resident = gauge("process_resident_memory_bytes", "Memory in use")
        self._fds = gauge("process_open_fds", "Open file descriptors")
        self._fds_max = gauge("process_max_fds", "The limit of open file descriptors")
        self._threads = gauge("process_threads", "Threads")
        started = gauge("process_start_time_seconds", "When the process was observed to start, seconds since 1970")
        started.set(clock.wall_ns() / 1e9)
        names = ("version", "implementation")
        gauge("python_info", "The interpreter", names).labels(platform.python_version(), sys.implementation.name).set(1)
        self._collections = counter("python_gc_collections_total", "Collections of each generation", ("generation",))
        self._collected = counter("python_gc_objects_collected_total", "Objects collected", ("generation",))
        self._pauses = metrics.histogram("python_gc_pause_seconds", "How long the collector stopped everything")
        gauge("event_loop_lag_seconds", "The loop's worst lateness in the last 10 s", sample=lambda: self.lag_s)
        metrics.before_scrape(self._read)

    @property
    def lag_s(self) -> float:
        return max(self._lags, default=0.0)

    async def start(self) -> None:
        gc.callbacks.append(self._collecting)
        self._task = asyncio.create_task(self._watch(), name="event loop lag")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            gc.callbacks.remove(self._collecting)

    async def _watch(self) -> None:
        while True:
            before_ns = self._clock.mono_ns()
            await self._clock.sleep(LAG_EVERY_S)
            late_s = (self._clock.mono_ns() - before_ns) / 1e9 - LAG_EVERY_S
            self._lags.append(max(0.0, late_s))

    def _collecting(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since_ns = self._clock.mono_ns()
        elif self._collecting_since_ns:
            self._pauses.observe((self._clock.mono_ns() - self._collecting_since_ns) / 1e9)

    def _read(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu.value = usage.ru_utime + usage.ru_stime
        self._fds_max.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for generation, counted in enumerate(gc.get_stats()):
            self._collections.labels(str(generation)).value = counted["collections"]
            self._collected.labels(str(generation)).value = counted["collected"]
        try:
            with open("/proc/self/stat", "rb") as file:
                # The second field is the program's name in brackets and may itself hold spaces and brackets.
                stat = file.read().rpartition(b")")[2].split()
            self._resident.set(int(stat[21]) * self._page_bytes)
            self._threads.set(int(stat[17]))
            self._fds.set(len(os.listdir("/proc/self/fd")) - 1)
        except FileNotFoundError:  # not Linux: the peak is the best that the standard library knows
            self._resident.set(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
