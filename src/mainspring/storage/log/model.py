"""What goes in and comes out of a partition."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .errors import LogError
from .producers import Origin
from .segments import Segment

if TYPE_CHECKING:
    from .partition import Partition

__all__ = ["Appending", "Fetched", "Origin"]

ACKS_ALL, ACKS_LEADER, ACKS_NONE = -1, 1, 0

_log = logging.getLogger(__name__)


class Appending:
    """An append on its way to the disk: its offsets are final, whether it holds is known once it is `settled`.

    `log_append_time_ms` is -1 where the producer's times stand.
    """

    __slots__ = (
        "_waiting",
        "acks",
        "base_offset",
        "data",
        "error",
        "log_append_time_ms",
        "log_start",
        "next_offset",
        "partition",
        "position",
        "repeated",
        "segment",
        "settled",
    )

    def __init__(
        self,
        partition: Partition,
        base_offset: int,
        next_offset: int,
        acks: int,
        log_append_time_ms: int = -1,
        *,
        data: bytes = b"",
        segment: Segment | None = None,
        position: int = 0,
    ) -> None:
        self.partition = partition
        self.base_offset = base_offset
        self.next_offset = next_offset
        self.acks = acks
        self.log_append_time_ms = log_append_time_ms
        self.log_start = partition.log_start
        self.data = data
        self.segment = segment
        self.position = position
        self.repeated = False
        self.settled = False
        self.error: LogError | None = None
        self._waiting: list[Callable[[], None]] | None = None

    def when_durable(self, callback: Callable[[], None]) -> None:
        """Calls `callback` on the loop once this is settled: at once where it is. `error` then says whether it failed."""
        if self.settled:
            callback()
        elif self._waiting is None:
            self._waiting = [callback]
        else:
            self._waiting.append(callback)

    async def durable(self) -> None:
        """Returns once the batch is as safe as `acks` asks: -1 synced, 1 written, 0 at once. Raises `StorageFailed`."""
        if not self.settled and self.acks != ACKS_NONE:
            wake = asyncio.get_running_loop().create_future()
            self.when_durable(lambda: None if wake.done() else wake.set_result(None))
            await wake
        if self.error is not None:
            raise self.error

    def settle(self, error: LogError | None = None) -> None:
        """Called once it is known; a second time changes nothing."""
        if self.settled:
            return
        self.settled, self.error = True, error
        waiting, self._waiting = self._waiting, None
        for callback in waiting or ():
            call(callback)


def call(callback: Callable[[], None]) -> None:
    """Calls what somebody else has left with the log: its fault must not keep others from their answer."""
    try:
        callback()
    except Exception:
        _log.exception("a callback of the log failed")


class Fetched(NamedTuple):
    """Whole batches from the one that holds the offset on. `aborted`: (producer id, first offset) of those to skip."""

    buffers: list[bytes | memoryview]
    size_bytes: int
    aborted: list[tuple[int, int]]
    high_watermark: int
    last_stable: int
    log_start: int
