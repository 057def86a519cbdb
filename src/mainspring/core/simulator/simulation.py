"""One simulated world: a heap of events in virtual time, one source of chance, and the checks that end it.

Nothing here reads a real clock, starts a thread or iterates over a set, so that a seed replays event for event, in any
process; `digest` lets a test see that it did.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from .disk import Disk
from .network import Network
from .node import Node, Program

START_NS = 1_767_225_600_000_000_000
"""What a clock without offset shows at virtual time zero: 2026-01-01 UTC."""


class Violation(AssertionError):
    """A promise was broken, or a program raised. Says the seed, the instant and the last events."""

    def __init__(self, seed: int, now_ns: int, what: str, trace: list[str]) -> None:
        self.seed, self.now_ns, self.what, self.trace = seed, now_ns, what, trace
        super().__init__(seed, now_ns, what, trace)

    def __str__(self) -> str:
        last = "".join(f"\n    {line}" for line in self.trace)
        return f"seed {self.seed}, {self.now_ns / 1e9:.6f} s: {self.what}" + (
            f"\n  the last events:{last}" if last else ""
        )


class Timer:
    """An event to come."""

    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        self.call = None


class Simulation:
    """The world of `seed`. `trace_lines_max` is how many notes a `Violation` shows."""

    def __init__(self, seed: int, *, trace_lines_max: int = 60) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_ns = 0
        self.network = Network(self)
        self.nodes: dict[str, Node] = {}
        self.events = 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = 0
        self._digest = seed
        self._trace: deque[str] = deque(maxlen=trace_lines_max)

    def node(
        self,
        name: str,
        boot: Callable[[Node], Program],
        *,
        offset_s: float = 0.0,
        rate: float = 1.0,
        disk_bytes_max: int | None = None,
    ) -> Node:
        """Adds a machine and starts `boot(node)` on it, now and after each crash.

        Its wall clock is off by `offset_s` and both its clocks run at `rate`. Raises `ValueError` for a name twice.
        """
        if name in self.nodes:
            raise ValueError(f"there is a node {name!r} already")
        disk = Disk(self.random, disk_bytes_max)
        node = self.nodes[name] = Node(self, name, boot, disk, START_NS, offset_s, rate)
        node.start()
        return node

    def at(self, at_ns: int, call: Callable[..., object], *args: Any) -> Timer:
        """Calls `call(*args)` at virtual time `at_ns`, or now where that has passed; equal times in the order they were set."""
        timer = Timer(call, args)
        self._order += 1
        heappush(self._heap, (at_ns if at_ns > self.now_ns else self.now_ns, self._order, timer))
        return timer

    def after(self, seconds: float, call: Callable[..., object], *args: Any) -> Timer:
        return self.at(self.now_ns + round(seconds * 1e9), call, *args)

    def run(self, seconds: float) -> None:
        """Lets `seconds` of virtual time pass. Raises `Violation`, also around whatever else an event raised."""
        end_ns = self.now_ns + round(seconds * 1e9)
        heap = self._heap
        try:
            while heap and heap[0][0] <= end_ns:
                self.now_ns, order, timer = heappop(heap)
                if timer.call is None:
                    continue
                self.events += 1
                # The hash of numbers, unlike that of texts, is the same in every process.
                self._digest = hash((self._digest, self.now_ns, order))
                timer.call(*timer.args)
        except Violation:
            raise
        except Exception as error:
            raise self.violation(f"{type(error).__name__}: {error}") from error
        self.now_ns = end_ns

    def note(self, text: str) -> None:
        """Adds a line to what a `Violation` shows."""
        self._trace.append(f"{self.now_ns / 1e9:12.6f} {text}")

    def check(self, holds: bool, what: str) -> None:
        """Raises `Violation(what)` unless `holds`."""
        if not holds:
            raise self.violation(what)

    def violation(self, what: str) -> Violation:
        return Violation(self.seed, self.now_ns, what, list(self._trace))

    def digest(self) -> int:
        """A number made of every event's time and order: equal for equal runs."""
        return self._digest
