"""The `Cache` port in this process: a sieve bounded by bytes, and mailboxes for pub/sub.

Nothing suspends in the middle of an operation, which is what makes counters, `add` and locks atomic. An entry's cost is
what Python takes for it, so that `bytes_max` is memory and not wishful thinking.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_bytes
from sys import getsizeof

from mainspring.core.cache.counts import Counts
from mainspring.core.cache.limits import (
    LOCKS_MAX,
    VALUE_BYTES_MAX,
    check_key,
    check_message,
    counter_sum,
    ttl_ms,
)
from mainspring.core.cache.mailbox import Mailbox
from mainspring.core.cache.sieve import NEVER, Sieve
from mainspring.core.clock import Clock
from mainspring.core.telemetry.metrics import Metrics

ENTRY_BYTES = 220
"""What an entry takes beside its key and its value: itself, two integers, its share of the dictionary (measured)."""


class MemoryCache:
    """At most `bytes_max` bytes of values, for one event loop. Time to live follows the clock's `mono_ns`."""

    def __init__(self, clock: Clock, bytes_max: int = 64 << 20, metrics: Metrics | None = None) -> None:
        self.counts = Counts()
        self._clock = clock
        self._values: Sieve[str, bytes] = Sieve(bytes_max)
        self._locks: Sieve[str, bytes] = Sieve(LOCKS_MAX)
        self._mailboxes: dict[str, list[Mailbox]] = {}
        if metrics is not None:
            self.counts.report(metrics, "memory")
            metrics.counter("cache_evictions", "Values that made room for others", ("cache",)).labels("memory").follow(
                lambda: self._values.evictions
            )
            metrics.gauge("cache_bytes", "Memory that values take", ("cache",)).labels("memory").follow(
                lambda: self._values.cost
            )

    @property
    def size_bytes(self) -> int:
        """What all entries take now, expired ones that nobody has met yet among them."""
        return self._values.cost

    @property
    def evictions(self) -> int:
        return self._values.evictions

    async def get(self, key: str) -> bytes | None:
        check_key(key)
        value = self._values.get(key, self._clock.mono_ns())
        if value is None:
            self.counts.misses += 1
        else:
            self.counts.hits += 1
        return value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        check_key(key)
        lifetime_ns = ttl_ms(ttl_s) * 1_000_000
        now = self._clock.mono_ns()
        self._put(key, value, now + lifetime_ns, now)

    async def add(self, key: str, value: bytes, ttl_s: float) -> bool:
        check_key(key)
        lifetime_ns = ttl_ms(ttl_s) * 1_000_000
        now = self._clock.mono_ns()
        if self._values.find(key, now) is not None:
            return False
        return self._put(key, value, now + lifetime_ns, now)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_key(key)
        for key in keys:
            self._values.pop(key)

    async def increment(self, key: str, by: int = 1, *, ttl_s: float) -> int:
        """Raises `ValueError` where the value is not a 64-bit integer, or the sum would not be one."""
        check_key(key)
        lifetime_ns = ttl_ms(ttl_s) * 1_000_000
        now = self._clock.mono_ns()
        entry = self._values.find(key, now)
        total = counter_sum(b"0" if entry is None else entry.value, by)
        self._put(key, b"%d" % total, now + lifetime_ns if entry is None else entry.deadline, now)
        return total

    async def publish(self, channel: str, message: bytes) -> None:
        check_key(channel)
        check_message(message)
        for mailbox in self._mailboxes.get(channel, ()):
            mailbox.put(message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        check_key(channel)
        mailbox = Mailbox(self.counts.lose_message)
        self._mailboxes.setdefault(channel, []).append(mailbox)
        try:
            yield mailbox
        finally:
            mailbox.close()
            readers = self._mailboxes[channel]
            readers.remove(mailbox)
            if not readers:
                del self._mailboxes[channel]

    @asynccontextmanager
    async def best_effort_lock(self, name: str, ttl_s: float) -> AsyncIterator[bool]:
        check_key(name)
        lifetime_ns = ttl_ms(ttl_s) * 1_000_000
        now = self._clock.mono_ns()
        if self._locks.find(name, now) is not None:
            yield False
            return
        token = token_bytes(16)
        self._locks.put(name, token, deadline=now + lifetime_ns, now=now)
        try:
            yield True
        finally:
            # Whoever has it after our time was up keeps it.
            if self._locks.get(name, self._clock.mono_ns()) == token:
                self._locks.pop(name)

    async def stop(self) -> None:
        """Ends every subscription and forgets everything."""
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()
        self._values.clear()
        self._locks.clear()

    def _put(self, key: str, value: bytes, deadline: int, now: int) -> bool:
        too_large = len(value) > VALUE_BYTES_MAX
        cost = NEVER if too_large else ENTRY_BYTES + getsizeof(key) + getsizeof(value)
        kept = self._values.put(key, value, cost, deadline=deadline, now=now)
        if not kept:
            self.counts.drops += 1
        return kept
