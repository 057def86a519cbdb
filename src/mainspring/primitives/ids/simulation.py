"""The proof of ids: fifty processes, sixteen worker ids, and everything that goes wrong, in the simulator.

Each process runs the real `Lease` and the real `Minter`. The table is a server that writes rows to its disk before it
answers. Clocks are wrong by up to an hour and jump both ways; processes crash, or pause for ten minutes; messages are
lost, doubled, late; the table loses power.

What is checked is stronger than distinct ids: no two minters ever mint in the same millisecond of the same worker, and
each minter's ids increase. `breaks` replaces one rule by a plausible wrong one, to see that the check would notice.
"""

import struct
from collections.abc import Iterable
from zlib import crc32

import msgspec
from msgspec.structs import replace

from mainspring.core.simulator import SECTOR_BYTES, Faults, Node, Simulation

from . import lease as rules
from .chance import Chance
from .errors import Refused
from .layouts import MAINSPRING
from .lease import Answer, Lease, Lost, NoneLeft, Renew, Renewed, Request, Take, Terms, Worker
from .minter import Minter

NODES = 50
TERMS = Terms(worker_max=15)
TABLE = "table"
BREAKS = ("trusting_clocks", "unfenced", "lowering", "unsynced", "optimistic")

COUNTS = (1, 1, 7, 300, 9_000)
SECONDS = (45, 60, 60, 90, 90, 120, 240, 700)

_ROW = struct.Struct(">IqqqH")
_FILE = "workers"


class Asked(msgspec.Struct, frozen=True):
    """A request as it travels. `process` and `number` tell the answer to it from every other."""

    process: int
    number: int
    request: Request


class Answered(msgspec.Struct, frozen=True):
    process: int
    number: int
    answer: Answer


class Table:
    """The database: one row per worker, each in a sector of its own, synced before anybody is told."""

    def __init__(self, node: Node, breaks: str = "") -> None:
        self._node = node
        self._breaks = breaks
        self._rows: dict[int, Worker] = {}
        disk = node.disk
        if _FILE not in disk.names():
            disk.write(_FILE, 0, bytes(SECTOR_BYTES * (TERMS.worker_max + 1)))
            disk.sync(_FILE)
            disk.sync_folder()
        data = disk.read(_FILE)
        for at in range(0, len(data), SECTOR_BYTES):
            if row := _unpacked(data[at : at + SECTOR_BYTES]):
                self._rows[row.worker] = row

    def receive(self, sender: str, message: Asked) -> None:
        answer = self._answer(message.request)
        self._node.send(sender, Answered(message.process, message.number, answer))

    def _answer(self, request: Request) -> Answer:
        if isinstance(request, Take):
            rows: Iterable[Worker] = self._rows.values()
            if self._breaks == "trusting_clocks":
                rows = [replace(row, reserved_ms=request.now_ms - 1) for row in rows]
            row = rules.choose(rows, request.now_ms, TERMS)
            if row is None:
                return NoneLeft(tuple(self._rows.values()))
            after, granted = rules.taken(row, request, TERMS)
            self._node.simulation.note(
                f"{request.holder} takes worker {granted.worker} from {row.holder}: ({granted.low_ms}, {granted.high_ms}]"
            )
            self._keep(after)
            return granted
        row = self._rows.get(request.worker)
        if self._breaks == "unfenced" and row is not None:
            request = Renew(request.worker, row.fence, request.now_ms)
        found = rules.renewed(row, request, TERMS)
        if found is None:
            return Lost()
        after, answer = found
        if self._breaks == "lowering":
            answer = Renewed(request.now_ms + TERMS.reserve_ms)
            after = replace(after, reserved_ms=answer.high_ms)
        self._keep(after)
        return answer

    def _keep(self, row: Worker) -> None:
        self._rows[row.worker] = row
        self._node.disk.write(_FILE, row.worker * SECTOR_BYTES, _packed(row))
        if self._breaks != "unsynced":
            self._node.disk.sync(_FILE)


class Process:
    """A node that mints: asks the table once a second, and does not wait for it."""

    def __init__(self, node: Node, watch: "Watch", breaks: str = "") -> None:
        self._node = node
        self._watch = watch
        self._breaks = breaks
        self._asked: dict[int, Request] = {}
        self._number = 0
        self.name = f"{node.name}#{node.starts}"
        self.minter = Minter(MAINSPRING, 0, node.clock, 0, 0, chance=watch.chance)
        self.minter.close()
        self._lease = Lease(self.minter, TERMS, self.name)
        self._ask()
        node.after(0.2, self._mint)

    def receive(self, sender: str, message: Answered) -> None:
        request = self._asked.pop(message.number, None)
        if message.process != self._node.starts or request is None:
            return
        if not isinstance(message.answer, NoneLeft):
            self._lease.answered(request, message.answer)

    def _ask(self) -> None:
        random = self._node.simulation.random
        holding = self._lease.granted is not None
        self._number += 1
        request = self._lease.request(self._node.clock.wall_ns() // 1_000_000)
        self._asked[self._number] = request
        if len(self._asked) > 4:
            del self._asked[next(iter(self._asked))]
        if self._breaks == "optimistic" and isinstance(request, Renew):
            self.minter.extend(request.now_ms + TERMS.reserve_ms)
        self._node.send(TABLE, Asked(self._node.starts, self._number, request))
        self._node.after(TERMS.renew_ms / 1000 if holding else 2 + 14 * random.random(), self._ask)

    def _mint(self) -> None:
        random = self._node.simulation.random
        count = COUNTS[int(random.random() * len(COUNTS))]
        try:
            self._watch.saw(self, self.minter.runs(count))
        except Refused:
            self._watch.refused += 1
        holding = self._lease.granted is not None
        self._node.after(random.random() * (1.6 if holding else 20), self._mint)


class Watch:
    """Sees every id that is minted."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.chance = Chance(simulation.random.randbytes)
        self.minted = self.refused = 0
        self._owners: dict[int, str] = {}
        self._last: dict[str, int] = {}

    def saw(self, process: Process, runs: list[tuple[int, int]]) -> None:
        owners, name = self._owners, process.name
        last = self._last.get(name, -1)
        for first, count in runs:
            if first <= last:
                raise self.simulation.violation(f"{name} minted {first} after {last}")
            last = first + count - 1
            owner = owners.setdefault(first >> 12, name)
            if owner != name:
                tick, worker, _ = MAINSPRING.split(first)
                raise self.simulation.violation(f"{name} and {owner} both minted in {tick} ms of worker {worker}")
            self.minted += count
        self._last[name] = last


class Chaos:
    """What befalls the world, by its seed."""

    def __init__(self, simulation: Simulation, skew_s: float, pace_s: float) -> None:
        self._simulation = simulation
        self._skew_s = skew_s
        self._pace_s = pace_s
        simulation.after(pace_s, self._strike)

    def _strike(self) -> None:
        simulation, random = self._simulation, self._simulation.random
        names = list(simulation.nodes)
        node = simulation.nodes[random.choice(names)]
        match random.randrange(8):
            case 0 | 1:
                node.crash()
                simulation.after(random.choice((0.0, 0.5, 5.0, 40.0)) * random.random(), node.start)
            case 2 | 3:
                node.pause(random.choice((2.0, 40.0, 600.0)))
            case 4 | 5:
                step_s = random.uniform(-self._skew_s, self._skew_s)
                node.clock.step(step_s)
                simulation.note(f"{node.name} has its clock set by {step_s:+.3f} s")
            case 6:
                other = random.choice(names)
                simulation.network.cut(*random.choice(((node.name, TABLE), (TABLE, node.name), (node.name, other))))
            case _:
                simulation.network.heal_all()
                table = simulation.nodes[TABLE]
                table.crash()
                simulation.after(random.random(), table.start)
        simulation.after(self._pace_s * 2 * random.random(), self._strike)


def world(seed: int, breaks: str = "") -> tuple[Simulation, Watch]:
    """The world of a seed, before its first event. Raises `ValueError` for a way of breaking it that is none."""
    if breaks and breaks not in BREAKS:
        raise ValueError(f"{breaks!r} is not one of {', '.join(BREAKS)}")
    simulation = Simulation(seed)
    random = simulation.random
    skew_s = random.choice((0.05, 2.0, 60.0, 3_600.0))
    simulation.network.faults = Faults(
        drop=random.choice((0.0, 0.02, 0.2)),
        duplicate=random.choice((0.0, 0.05, 0.5)),
        late=random.choice((0.0, 0.05, 0.3)),
        late_s=random.choice((0.5, 5.0, 45.0)),
    )
    watch = Watch(simulation)
    simulation.node(TABLE, lambda node: Table(node, breaks))
    for number in range(NODES):
        offset_s, rate = random.uniform(-skew_s, skew_s), random.uniform(0.99, 1.01)
        simulation.node(f"n{number:02}", lambda node: Process(node, watch, breaks), offset_s=offset_s, rate=rate)
    Chaos(simulation, skew_s, pace_s=random.choice((0.5, 3.0)))
    return simulation, watch


def run(seed: int, breaks: str = "") -> int:
    """Plays a seed; gives how many ids were minted. Raises `Violation` where two minters met or one did not increase."""
    simulation, watch = world(seed, breaks)
    simulation.run(simulation.random.choice(SECONDS))
    return watch.minted


def _packed(row: Worker) -> bytes:
    holder = (row.holder or "").encode()
    body = _ROW.pack(row.worker, row.fence, row.reserved_ms, row.renewed_ms, len(holder)) + holder
    return body.ljust(SECTOR_BYTES - 4, b"\0") + crc32(body.ljust(SECTOR_BYTES - 4, b"\0")).to_bytes(4)


def _unpacked(sector: bytes) -> Worker | None:
    body = sector[: SECTOR_BYTES - 4]
    worker, fence, reserved_ms, renewed_ms, length = _ROW.unpack_from(body)
    if not fence or crc32(body) != int.from_bytes(sector[SECTOR_BYTES - 4 :]):
        return None
    holder = body[_ROW.size : _ROW.size + length].decode()
    return Worker(worker, holder or None, fence, reserved_ms, renewed_ms)
