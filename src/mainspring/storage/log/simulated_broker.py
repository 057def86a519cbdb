"""A broker for simulations: the real engine and coordinators on a torn disk and a virtual clock, behind a network where a
request may arrive long after its sender has given up, opened another connection and gone on.

Within one connection requests keep their order and come once, as TCP has it; what a client sends again goes by another.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from mainspring.core.clock import VirtualClock
from mainspring.core.simulator.disk import Disk
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.simulated_files import SimulatedFiles
from mainspring.storage.log.transactions import Transactions, TransactionSettings

GIVE_UP_S = 0.5
LATE_S = 6.0
PARTITIONS = 3
T = TypeVar("T")


class Lost(Exception):
    """No answer came; the request may arrive yet."""


class SimulatedBroker:
    """The disk, and whatever broker is running on it now. `late` and `loses` are shares of requests and answers."""

    def __init__(self, seed: int, groups: GroupSettings, *, late: float = 0.08, loses: float = 0.04) -> None:
        self.random = Random(seed)
        self.clock = VirtualClock()
        self.disk = Disk(self.random)
        self.up = False
        self.ends = False
        """Whether clients should come to an end."""
        self.connection = count(1).__next__
        self.late, self.loses = late, loses
        self._group_settings = groups
        self._on_their_way: dict[asyncio.Task[Any], None] = {}

    async def boot(self) -> None:
        self._files = SimulatedFiles(self.disk)
        random = Random(self.random.random())
        self.engine = Engine([Path("/log")], self.clock, random=random, files=self._files, threaded=False)
        await self.engine.start()
        self.groups = Groups(self.engine, self.clock, self._group_settings, random)
        settings = TransactionSettings(internal_partitions=2)
        self.transactions = Transactions(self.engine, self.groups, self.clock, settings, random)
        await self.groups.start()
        await self.transactions.start()
        for name in ("in", "out"):
            if name not in self.engine.topics:
                await self.engine.create_topic(name, PARTITIONS)
        self.up = True

    async def crash(self) -> None:
        """The power fails, in the middle of whatever runs; requests on their way are lost with their connections."""
        self.up = False
        self._files.end()
        for request in list(self._on_their_way):
            request.cancel()
        await self.transactions.stop()
        await self.groups.stop()
        self.disk.crash()

    async def restart(self) -> None:
        """Crashes within the next few steps and comes back."""
        for _ in range(self.random.randint(0, 30)):
            await asyncio.sleep(0)
        await self.crash()
        booting = asyncio.ensure_future(self.boot())
        while not booting.done():
            await self.clock.advance(0.01)
        booting.result()

    async def run(self, seconds: float, crashes: float = 0.0) -> None:
        """Lets time pass, with so many crashes a step."""
        until_ns = self.clock.mono_ns() + int(seconds * 1e9)
        while self.clock.mono_ns() < until_ns:
            await self.clock.advance(self.random.uniform(0.001, 0.05))
            if crashes and self.random.random() < crashes:
                await self.restart()

    async def call(self, request: Callable[[int], Awaitable[T]], connection: int, patience_s: float = GIVE_UP_S) -> T:
        """A request over the network. Raises `Lost` where no answer comes in time, whether or not it is done, now or later."""
        random = self.random
        delay_s = random.uniform(0, LATE_S) if random.random() < self.late else random.uniform(0, 0.02)
        loses_answer = random.random() < self.loses
        running = asyncio.ensure_future(self._deliver(request, connection, delay_s))
        self._on_their_way[running] = None
        running.add_done_callback(self._forget)
        patience = asyncio.ensure_future(self.clock.sleep(patience_s))
        await asyncio.wait((running, patience), return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not running.done() or running.cancelled() or loses_answer:
            raise Lost
        return running.result()

    async def _deliver(self, request: Callable[[int], Awaitable[T]], connection: int, delay_s: float) -> T:
        await self.clock.sleep(delay_s)
        if not self.up:
            raise Lost
        return await request(connection)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._on_their_way.pop(task, None)
        if not task.cancelled():
            task.exception()

    def check_moved_on(self, partitions: list[Partition]) -> None:
        """No partition holds an open transaction, so its last stable offset is its end."""
        for partition in partitions:
            assert not partition.open_transactions, f"{partition.name} holds an open transaction for ever"
            assert partition.last_stable == partition.high_watermark == partition.end, (
                f"{partition.name} does not move on"
            )
