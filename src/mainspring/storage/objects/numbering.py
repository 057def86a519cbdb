"""The sequence numbers of versions: what orders them, and the moments that listings in pages show."""

import threading

from mainspring.core.clock import Clock

BUCKETS_NOTED = 10_000


class Numbers:
    """Numbers for versions: microseconds UTC, each greater than the last in this process, whatever the clock does."""

    def __init__(self, clock: Clock, snapshot_s: int) -> None:
        self.snapshot_us = snapshot_s * 1_000_000
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()
        self._changed: dict[int, int] = {}
        self._fixed: dict[int, int] = {}

    def note_change(self, bucket: int) -> None:
        """What a bucket shows is about to change; called inside the transaction, whether it commits or not."""
        if len(self._changed) >= BUCKETS_NOTED:
            self._fixed.clear()
            self._changed.clear()
        self._changed[bucket] = self.next()

    def note_moment(self, bucket: int, at: int) -> None:
        """Rows are kept for listings that show the bucket at `at`."""
        self._fixed[bucket] = at

    def quiet_moment(self, bucket: int) -> int | None:
        """A moment for which rows are kept and since which nothing was changed here, young enough for a new listing."""
        at = self._fixed.get(bucket)
        if at is None or self._changed.get(bucket, 0) >= at or at < self.now_us() - self.snapshot_us // 2:
            return None
        return at

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, self._clock.wall_ns() // 1000)
            return self._last

    def now_us(self) -> int:
        return self._clock.wall_ns() // 1000
