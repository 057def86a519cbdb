"""One load for all who ask, begun before the value expires, and the old value when the load fails.

Single flight: callers who miss together share one task. Early refresh: XFetch, after Vattani, Chierichetti and Lowenstein,
"Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015): a reader refreshes when `now - took * beta * ln(u)` is past
the end of freshness, so that a value which takes long to load is begun earlier, by one reader, while all others (that one
too) still get the old value. Stale while error: a value stays in the cache `stale_s` longer than it is fresh; it is given
out only where loading a new one failed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from math import log
from random import Random

import msgspec

from mainspring.core.cache.sieve import Sieve
from mainspring.core.clock import Clock
from mainspring.core.ports import Cache
from mainspring.core.telemetry.metrics import Metrics

Load = Callable[[], Awaitable[bytes]]

_log = logging.getLogger(__name__)


class _Held(msgspec.Struct, array_like=True, frozen=True):
    """What the cache holds: the value, until when it is fresh, and how long it took to load."""

    version: int
    fresh_until_us: int
    took_us: int
    value: bytes


FAILED_KEYS_MAX = 10_000

_VERSION = 1
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Held).decode


class SingleFlight:
    """Loads through `cache`, at most once at a time for a key in this process.

    `beta` above 1 refreshes earlier; `load_s_max` ends a load that hangs (`TimeoutError`); `error_pause_s` is how long a
    key whose load failed is answered with its old value without trying again. `name` is its label on /metrics.
    """

    def __init__(
        self,
        cache: Cache,
        clock: Clock,
        *,
        name: str = "shared",
        beta: float = 1.0,
        load_s_max: float = 30.0,
        error_pause_s: float = 1.0,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.loads = self.early = self.stale = self.failures = 0
        self._cache, self._clock = cache, clock
        self._beta, self._load_s_max, self._error_pause_us = beta, load_s_max, round(error_pause_s * 1e6)
        self._random = random or Random()
        self._flights: dict[str, asyncio.Task[bytes]] = {}
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._asking: dict[str, int] = {}
        self._landed: dict[str, _Held] = {}
        """What was loaded while somebody was still waiting for the cache's answer about the same key."""
        self._failed: Sieve[str, bool] = Sieve(FAILED_KEYS_MAX)
        if metrics is not None:
            for metric, help in (
                ("loads", "Values that were loaded"),
                ("early", "Values whose loading began before they expired"),
                ("stale", "Old values given out because loading failed"),
                ("failures", "Loads that failed"),
            ):
                counter = metrics.counter(f"single_flight_{metric}", help, ("flight",)).labels(name)
                counter.follow(partial(getattr, self, metric))

    async def get(self, key: str, load: Load, ttl_s: float, stale_s: float = 0.0) -> bytes:
        """The value of `key`, at most `ttl_s` old (after a failed load `ttl_s + stale_s`), loaded where the cache has none.

        Raises what `load` raised, where there is no old value to give. A caller that is cancelled leaves the load running.
        """
        held = await self._look_up(key)
        now_us = self._clock.wall_ns() // 1000
        if held is not None and now_us < held.fresh_until_us:
            early_us = -held.took_us * self._beta * log(1 - self._random.random())
            if now_us + early_us >= held.fresh_until_us and key not in self._flights and not self._pauses(key, now_us):
                self.early += 1
                self._fly(key, load, ttl_s, stale_s)
            return held.value
        if held is not None and self._pauses(key, now_us):
            self.stale += 1
            return held.value
        try:
            return await asyncio.shield(self._flights.get(key) or self._fly(key, load, ttl_s, stale_s))
        except Exception:
            if held is None:
                raise
            self.stale += 1
            return held.value

    async def forget(self, *keys: str) -> None:
        """Deletes these keys; a load of them that is under way answers those who wait for it already, and is not kept."""
        for key in keys:
            self._flights.pop(key, None)
            self._landed.pop(key, None)
        await self._cache.delete(*keys)

    async def stop(self) -> None:
        """Ends all loads."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look_up(self, key: str) -> _Held | None:
        """What the cache holds, or else what has been loaded while it was being asked: then its answer was too old."""
        self._asking[key] = self._asking.get(key, 0) + 1
        try:
            found = await self._cache.get(key)
        finally:
            landed = self._landed.get(key)
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]
                self._landed.pop(key, None)
        return (None if found is None else _read(found)) or landed

    def _pauses(self, key: str, now_us: int) -> bool:
        return self._failed.get(key, now_us) is not None

    def _fly(self, key: str, load: Load, ttl_s: float, stale_s: float) -> asyncio.Task[bytes]:
        task = self._flights[key] = asyncio.create_task(self._load(key, load, ttl_s, stale_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # An early refresh has nobody waiting: its error is read here, having been logged.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _load(self, key: str, load: Load, ttl_s: float, stale_s: float) -> bytes:
        this = asyncio.current_task()
        started_ns = self._clock.mono_ns()
        self.loads += 1
        try:
            async with asyncio.timeout(self._load_s_max):
                value = await load()
            if self._flights.get(key) is this:
                took_us = (self._clock.mono_ns() - started_ns) // 1000
                fresh_until_us = self._clock.wall_ns() // 1000 + round(ttl_s * 1e6)
                held = _Held(_VERSION, fresh_until_us, took_us, value)
                if key in self._asking:
                    self._landed[key] = held
                await self._cache.set(key, _encode(held), ttl_s + stale_s)
                if self._flights.get(key) is not this:
                    # Forgotten while it was being stored.
                    await self._cache.delete(key)
            return value
        except Exception:
            self.failures += 1
            now_us = self._clock.wall_ns() // 1000
            self._failed.put(key, True, deadline=now_us + self._error_pause_us, now=now_us)
            _log.warning("loading a cached value failed", exc_info=True, extra={"key": key})
            raise
        finally:
            if self._flights.get(key) is this:
                del self._flights[key]


def _read(found: bytes) -> _Held | None:
    """None for what another version, or somebody else, has stored."""
    try:
        held = _decode(found)
    except msgspec.MsgspecError:
        return None
    return held if held.version == _VERSION else None
