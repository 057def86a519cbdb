"""How a 64-bit id is cut into time, worker and sequence, after Twitter's Snowflake (2010).

A layout is data: an epoch, three widths and the length of a tick. The high bits are always ticks since the epoch, so
ids of one layout sort by time and an instant is a range of ids, which makes "since yesterday" a primary-key range scan.
"""

from types import MappingProxyType

import msgspec

from mainspring.core.clock import SystemClock


class Layout(msgspec.Struct, frozen=True):
    """Widths in bits, from the high end: `time` ticks of `tick_ms` since `epoch_ms`, `worker`, `sequence`.

    `worker_last` places the worker in the lowest bits, as Sonyflake does. `width` is 63 so that ids stay positive in a
    signed column; the layouts of others that use the sign bit say 64. Raises `ValueError` for more bits than `width`
    and for an epoch in the future.
    """

    epoch_ms: int
    time: int
    worker: int
    sequence: int
    tick_ms: int = 1
    worker_last: bool = False
    width: int = 63

    def __post_init__(self) -> None:
        if self.time < 1 or self.worker < 0 or self.sequence < 0 or self.tick_ms < 1:
            raise ValueError("a layout needs at least one bit of time, no negative width and a tick of at least 1 ms")
        if self.width not in (63, 64):
            raise ValueError("a layout is 63 bits wide, or 64 where the sign bit is used")
        if self.time + self.worker + self.sequence > self.width:
            raise ValueError(f"{self.time} + {self.worker} + {self.sequence} bits do not fit into {self.width}")
        if not 0 <= self.epoch_ms <= SystemClock.wall_ns() // 1_000_000:
            raise ValueError("the epoch must lie between 1970 and now")

    @property
    def worker_max(self) -> int:
        return (1 << self.worker) - 1

    @property
    def sequence_max(self) -> int:
        return (1 << self.sequence) - 1

    @property
    def tick_max(self) -> int:
        return (1 << self.time) - 1

    @property
    def time_shift(self) -> int:
        return self.worker + self.sequence

    @property
    def worker_shift(self) -> int:
        return 0 if self.worker_last else self.sequence

    @property
    def sequence_shift(self) -> int:
        return self.worker if self.worker_last else 0

    @property
    def step(self) -> int:
        """How far apart two ids of one tick and worker are."""
        return 1 << self.sequence_shift

    def join(self, tick: int, worker: int, sequence: int) -> int:
        """The id of these three numbers, which must fit their fields."""
        return tick << self.time_shift | worker << self.worker_shift | sequence << self.sequence_shift

    def split(self, value: int) -> tuple[int, int, int]:
        """(tick, worker, sequence) of an id."""
        return (
            value >> self.time_shift,
            value >> self.worker_shift & self.worker_max,
            value >> self.sequence_shift & self.sequence_max,
        )

    def holds(self, value: int) -> bool:
        """Whether `value` has no bits outside this layout."""
        return 0 <= value >> self.time_shift <= self.tick_max

    def at_ms(self, value: int) -> int:
        """The Unix millisecond at which the id's tick began."""
        return self.epoch_ms + (value >> self.time_shift) * self.tick_ms

    def first_at(self, at_us: int) -> int:
        """The smallest id of the tick that holds this instant (microseconds UTC); 0 before the epoch."""
        return min(max(self._tick(at_us), 0), self.tick_max) << self.time_shift

    def last_at(self, at_us: int) -> int:
        """The largest id of the tick that holds this instant; -1, which no id is, before the epoch."""
        return (min(max(self._tick(at_us), -1), self.tick_max) + 1 << self.time_shift) - 1

    def _tick(self, at_us: int) -> int:
        return (at_us - self.epoch_ms * 1000) // (self.tick_ms * 1000)


MAINSPRING = Layout(epoch_ms=1_735_689_600_000, time=41, worker=10, sequence=12)

LAYOUTS = MappingProxyType({
    "mainspring": MAINSPRING,
    "twitter": Layout(epoch_ms=1_288_834_974_657, time=41, worker=10, sequence=12),
    # Discord's 5 bits of worker and 5 of process are one number of 10 bits here.
    "discord": Layout(epoch_ms=1_420_070_400_000, time=42, worker=10, sequence=12, width=64),
    "instagram": Layout(epoch_ms=1_314_220_021_721, time=41, worker=13, sequence=10, width=64),
    "mastodon": Layout(epoch_ms=0, time=48, worker=0, sequence=16, width=64),
    "sonyflake": Layout(epoch_ms=1_409_529_600_000, time=39, worker=16, sequence=8, tick_ms=10, worker_last=True),
    "js53": Layout(epoch_ms=1_735_689_600_000, time=41, worker=5, sequence=7),
})  # fmt: skip
