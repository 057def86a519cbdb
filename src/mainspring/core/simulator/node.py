"""A simulated machine: its clocks, its disk, the program on it, and what befalls it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .disk import Disk

if TYPE_CHECKING:
    from .simulation import Simulation, Timer


class Program(Protocol):
    """What runs on a node. It is made anew at every start: what it must not forget lies on `node.disk`."""

    def receive(self, sender: str, message: Any) -> None: ...


class NodeClock:
    """A `Clock` that is off by some offset and runs at some rate of true time."""

    def __init__(self, simulation: Simulation, start_ns: int, offset_s: float, rate: float) -> None:
        if not 0.1 <= rate <= 10:
            raise ValueError("a clock's rate is 0.1 to 10 times true time")
        self._simulation = simulation
        self._wall_ns = start_ns + round(offset_s * 1e9)
        self._rate = rate

    def mono_ns(self) -> int:
        return int(self._simulation.now_ns * self._rate)

    def wall_ns(self) -> int:
        return self._wall_ns + int(self._simulation.now_ns * self._rate)

    def step(self, seconds: float) -> None:
        """Sets the wall clock forward or, below zero, back."""
        self._wall_ns += round(seconds * 1e9)

    def true_ns(self, local_ns: int) -> int:
        """How much true time passes while this clock counts `local_ns`."""
        return round(local_ns / self._rate)

    async def sleep(self, seconds: float) -> NoReturn:
        raise RuntimeError("a simulated program does not wait: it sets a timer with node.after")


class Node:
    """Made by `Simulation.node`. `up` is false between a crash and the next start."""

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        boot: Callable[[Node], Program],
        disk: Disk,
        start_ns: int,
        offset_s: float,
        rate: float,
    ) -> None:
        self.simulation = simulation
        self.name = name
        self.clock = NodeClock(simulation, start_ns, offset_s, rate)
        self.disk = disk
        self.up = False
        self.paused = False
        self.starts = 0
        self.program: Program | None = None
        self._boot = boot
        self._held: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def send(self, target: str, message: object) -> None:
        """Gives `message` (hashable, so that nobody changes it on its way) to the network."""
        self.simulation.network.send(self.name, target, message)

    def after(self, seconds: float, call: Callable[..., object], *args: Any) -> Timer:
        """Calls `call(*args)` when this node's clock has counted `seconds`, unless it crashes before."""
        true_ns = self.clock.true_ns(round(seconds * 1e9))
        return self.simulation.at(self.simulation.now_ns + true_ns, self._run, self.starts, call, args)

    def deliver(self, sender: str, message: object) -> None:
        """A message arrives; nobody hears it while the machine is down."""
        if self.program is not None:
            self._run(self.starts, self.program.receive, (sender, message))

    def crash(self) -> None:
        """The power fails: memory and timers are gone, and unsynced writes are lost, torn or kept."""
        if not self.up:
            return
        self.up = self.paused = False
        self.program = None
        self._held.clear()
        self.disk.crash()
        self.simulation.note(f"{self.name} crashes")

    def start(self) -> None:
        """Boots the program, where the machine is down."""
        if self.up:
            return
        self.up = True
        self.starts += 1
        self.simulation.note(f"{self.name} starts")
        self.program = self._boot(self)

    def pause(self, seconds: float) -> None:
        """Stops the program but not the clocks, as a stopped process or a moved virtual machine; what comes meanwhile waits."""
        if not self.up or self.paused:
            return
        self.paused = True
        self.simulation.note(f"{self.name} pauses for {seconds:.3f} s")
        self.simulation.after(seconds, self._resume, self.starts)

    def _resume(self, start: int) -> None:
        if start != self.starts or not self.paused:
            return
        self.paused = False
        self.simulation.note(f"{self.name} resumes")
        while self._held and not self.paused:
            call, args = self._held.popleft()
            call(*args)

    def _run(self, start: int, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if start != self.starts or not self.up:
            return
        if self.paused:
            self._held.append((call, args))
        else:
            call(*args)
