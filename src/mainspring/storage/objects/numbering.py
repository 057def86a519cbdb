"""The sequence numbers of versions: what orders them, and the moments that listings in pages show.

A number is the time in microseconds UTC, raised where that is not more than the last one. Clocks step back, also while no
process runs; so how far numbers may have come is written beside the rows, two seconds ahead, and whoever starts begins there.
"""

import struct
import threading
from functools import partial

from mainspring.core.clock import Clock
from mainspring.core.ports import Connection
from mainspring.storage.objects import references

BUCKETS_NOTED = 10_000
AHEAD_US = 2_000_000
"""So far in the future a version may seem to be made that follows a crash."""

_STATE = "numbers"
_NUMBER = struct.Struct("<Q")


class Numbers:
    """Numbers for versions, each greater than all before it in this store, whatever the clock does."""

    def __init__(self, clock: Clock, snapshot_s: int) -> None:
        self.snapshot_us = snapshot_s * 1_000_000
        self._clock = clock
        self._last = self._reserved = 0
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

    def go_on(self, connection: Connection) -> None:
        """Begins where the process before has come to."""
        found = references.read_state(connection, _STATE)
        self._last = max(self._last, 0 if found is None else _NUMBER.unpack(found)[0])

    def leave(self, connection: Connection) -> None:
        """Says exactly where the next process begins: no number is given any more."""
        references.write_state(connection, _STATE, _NUMBER.pack(self._last))

    def next_in(self, connection: Connection) -> int:
        """The next number, for a row. The next process begins above it once this transaction has committed."""
        number = self.next()
        if number >= self._reserved:
            until = number + AHEAD_US
            references.write_state(connection, _STATE, _NUMBER.pack(until))
            connection.after_commit(partial(self._note_reserved, until))
        return number

    def _note_reserved(self, until: int) -> None:
        self._reserved = max(self._reserved, until)

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, self._clock.wall_ns() // 1000)
            return self._last

    def now_us(self) -> int:
        return self._clock.wall_ns() // 1000
