"""A minter gives 64-bit ids that strictly increase, from a range of milliseconds that is its own.

The whole algorithm, without a database: time is `max(last, wall)`; within one tick a sequence counts; a full sequence
moves on to the next tick, ahead of the wall by at most a second; a wall that was set back is waited out at the last
tick. Uniqueness rests on one fact only: a worker's ticks are handed out once, as ranges `(low, high]`. No reading of a
clock, right or wrong, can make two minters of one worker meet.

The state lives in the cells of closures, the fastest place Python has. What is left of the present tick is an iterator over
its ids: a call on the short path reads the clock, compares, and takes the next one. In between there is nothing at which
the interpreter could switch threads, so threads may share a minter without a lock; everything else first puts an empty
iterator in its place and then works under a lock.
"""

import sys
from collections.abc import Callable, Iterator
from operator import length_hint
from threading import Lock

from mainspring.core.clock import Clock

from .chance import Chance, forget_at_fork
from .errors import BadCount, ClockBehind, NotReserved, TooFast
from .layouts import Layout

LEAD_MS_MAX = 1_000
DRIFT_MS_MAX = 5_000
TAKE_MAX = 1_000_000

NOTHING: Iterator[int] = iter(range(0))

Run = tuple[int, int]


def threads_switch_at_calls() -> bool:
    """Whether this interpreter has a global lock, which it hands on only at calls and backward jumps."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class Minter:
    """Mints ids of `worker` whose ticks begin in the Unix milliseconds `(low, high]`.

    `high=None` is for a minter that shares its ids' uniqueness with random bits: it has no range to lose, at a fork
    neither. Raises `ValueError` for a worker that does not fit the layout.

    - `next()` gives one id, `take(n)` an increasing list, `runs(n)` the same as `(first, count)` pairs `layout.step` apart.
      They raise `TooFast`, `ClockBehind`, `NotReserved`, and `BadCount` outside 1 to 1,000,000; nothing is minted then.
    - `rest()` mints all that is left of a tick, for a caller who counts through it by itself: `(first, last, end_ns)`; the tick
      ends at that wall reading.
    - `grant(worker, low, high)` gives it another worker's range, `extend(high)` more of its own, `close()` takes the
      range away and gives the last millisecond that was used.
    """

    next: Callable[[], int]
    take: Callable[[int], list[int]]
    runs: Callable[[int], list[Run]]
    rest: Callable[[], tuple[int, int, int]]
    grant: Callable[[int, int, int | None], None]
    extend: Callable[[int], None]
    close: Callable[[], int]
    forget: Callable[[], None]
    _reading: Callable[[], tuple[int, ...]]

    def __init__(
        self,
        layout: Layout,
        worker: int,
        clock: Clock,
        low: int,
        high: int | None,
        *,
        chance: Chance | None = None,
        drift_ms_max: int = DRIFT_MS_MAX,
    ) -> None:
        self.layout = layout
        wall_ns = clock.wall_ns
        word = (chance or Chance()).word
        epoch_ms, epoch_ns = layout.epoch_ms, layout.epoch_ms * 1_000_000
        tick_ms, tick_ns = layout.tick_ms, layout.tick_ms * 1_000_000
        # Ids go into signed columns, also those of layouts that use all 64 bits.
        time_shift, tick_max = layout.time_shift, min(layout.tick_max, (1 << 63 - layout.time_shift) - 1)
        step = layout.step
        capacity = layout.sequence_max + 1
        # The first sequence number of a tick is random, so that the ids of slow minters do not all end in zero and
        # land in one shard; a narrow sequence spares an eighth at most.
        start_mask = min(15, layout.sequence_max >> 3)
        lead, drift = LEAD_MS_MAX // tick_ms, drift_ms_max // tick_ms
        lock, following = Lock(), next

        tick = peak = -1  # of the last id; the highest that the wall has shown
        high_tick: int = -1
        fields = 0  # the worker's bits
        here: Iterator[int] = NOTHING  # what is left of this tick, or NOTHING: the short path is closed
        room = entered = minted = 0  # left of the tick while closed; left when it was entered; given in ticks before
        begin_ns = end_ns = 0  # the wall readings at which this tick goes on
        bounded = True

        def next_id() -> int:
            try:
                if begin_ns <= wall_ns() < end_ns:
                    return following(here)
            except StopIteration:
                pass
            return next_locked()

        def next_locked() -> int:
            return runs(1)[0][0]

        def runs(count: int) -> list[Run]:
            nonlocal room
            if type(count) is not int or not 1 <= count <= TAKE_MAX:
                raise BadCount(count, TAKE_MAX)
            now_ns, start = wall_ns(), word() & start_mask
            with lock:
                prepare(now_ns, start, count)
                found = []
                while count:
                    if not room:
                        enter(tick + 1, capacity)
                    size = min(room, count)
                    found.append((first(), size))
                    room -= size
                    count -= size
                reopen()
                return found

        def rest() -> tuple[int, int, int]:
            nonlocal room
            now_ns, start = wall_ns(), word() & start_mask
            with lock:
                prepare(now_ns, start, 1)
                if not room:
                    enter(tick + 1, capacity)
                begin, end = first(), first() + (room - 1) * step
                room = 0
                reopen()
                return begin, end, end_ns

        def prepare(now_ns: int, start: int, count: int) -> None:
            """Closes the short path and follows the wall; raises if `count` ids may not be given now."""
            nonlocal peak
            shut()
            wall = (now_ns - epoch_ns) // tick_ns
            if wall > peak:
                peak = wall
            if wall > tick:
                enter(wall, capacity - start)
            elif tick - wall > drift:
                raise ClockBehind((tick - wall) * tick_ms)
            last_tick = tick - (room - count) // capacity if count > room else tick
            if last_tick > peak + lead:
                raise TooFast((last_tick - peak - lead) * tick_ms)
            if last_tick > high_tick:
                raise NotReserved(reason())

        def shut() -> None:
            nonlocal here, room
            left, here = here, NOTHING
            if left is not NOTHING:
                room = length_hint(left)

        def reopen() -> None:
            nonlocal here, begin_ns, end_ns
            begin_ns, end_ns = epoch_ns + (tick - drift) * tick_ns, epoch_ns + (tick + 1) * tick_ns
            begin = first()
            here = iter(range(begin, begin + room * step, step))

        def enter(new_tick: int, new_room: int) -> None:
            nonlocal tick, room, entered, minted
            minted += entered - room
            tick, room, entered = new_tick, new_room, new_room

        def first() -> int:
            """The first of the `room` ids that end the tick."""
            return (tick << time_shift | fields) + (capacity - room) * step

        def take(count: int) -> list[int]:
            ids: list[int] = []
            for first, size in runs(count):
                ids.extend(range(first, first + size * step, step))
            return ids

        def grant(worker: int, low: int, high: int | None) -> None:
            nonlocal peak, fields, high_tick, bounded
            if not 0 <= worker <= layout.worker_max:
                raise ValueError(f"worker {worker} does not fit into {layout.worker} bits")
            with lock:
                shut()
                # The tick of the last id counts as used up: ids go on increasing under another worker too.
                enter(max(tick, (low - epoch_ms) // tick_ms, -1), 0)
                fields = worker << layout.worker_shift
                peak = max(peak, tick)
                bounded = high is not None
                high_tick = min(tick_max, (high - epoch_ms) // tick_ms) if high is not None else tick_max

        def extend(high: int) -> None:
            nonlocal high_tick
            with lock:
                if high_tick >= 0:
                    high_tick = max(high_tick, min(tick_max, (high - epoch_ms) // tick_ms))

        def close() -> int:
            nonlocal high_tick
            with lock:
                shut()
                high_tick = -1
                return epoch_ms + (tick + 1) * tick_ms - 1

        def forget() -> None:
            nonlocal lock, high_tick
            lock = Lock()  # another thread of the parent may have held the old one
            if bounded:
                shut()
                high_tick = -1

        def reason() -> str:
            if high_tick < 0:
                return "this minter has no range yet, or is the child of a fork: start it first"
            if high_tick == tick_max:
                return "the time field of this layout is used up"
            return "the reserved milliseconds are used up and their renewal is failing"

        def reading() -> tuple[int, ...]:
            left = room if here is NOTHING else length_hint(here)
            wall = (wall_ns() - epoch_ns) // tick_ns
            return fields >> layout.worker_shift, tick, high_tick, wall, minted + entered - left

        self.next, self.take, self.runs, self.rest = next_id, take, runs, rest
        self.grant, self.extend, self.close, self.forget, self._reading = grant, extend, close, forget, reading
        if not threads_switch_at_calls():
            self.next = next_locked
        grant(worker, low, high)
        forget_at_fork(self)

    @property
    def worker(self) -> int:
        return self._reading()[0]

    @property
    def minted(self) -> int:
        """How many ids were given so far."""
        return self._reading()[4]

    @property
    def reserved_ms_left(self) -> int:
        """Milliseconds from the wall to the end of the range; negative once it is used up."""
        _, _, high, wall, _ = self._reading()
        return (high - wall) * self.layout.tick_ms

    @property
    def ahead_ms(self) -> int:
        """How far the last id is ahead of the wall: by speed up to 1 s, by a clock that was set back up to 5 s."""
        _, tick, _, wall, _ = self._reading()
        return max(0, (tick - wall) * self.layout.tick_ms)
