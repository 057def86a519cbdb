"""Small programs and worlds for the simulator's tests, in a module that worker processes can import."""

import os
import signal
from typing import Any
from zlib import crc32

from mainspring.core.simulator import Faults, Node, Simulation


class Quiet:
    """A program that does nothing."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def receive(self, sender: str, message: Any) -> None:
        pass


class Recorder(Quiet):
    """Keeps what it hears, with the virtual time."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.heard: list[tuple[int, str, Any]] = []

    def receive(self, sender: str, message: Any) -> None:
        self.heard.append((self.node.simulation.now_ns, sender, message))


class Journal(Quiet):
    """Appends numbers to a file, each with a checksum, and promises that a number it has synced survives.

    `synced=False` is the same with the usual mistake: it promises before it syncs.
    """

    def __init__(self, node: Node, promised: list[int], synced: bool = True) -> None:
        super().__init__(node)
        self.promised, self.synced = promised, synced
        if "journal" not in node.disk.names():
            node.disk.write("journal", 0, b"")
            node.disk.sync("journal")
            node.disk.sync_folder()
        kept = self.recovered()
        node.disk.truncate("journal", len(kept) * 8)
        node.disk.sync("journal")
        node.simulation.check(kept[: len(promised)] == promised, f"promised {promised[-3:]}, kept {kept[-3:]}")
        self.promised[:] = kept
        node.after(0.01, self.write)

    def recovered(self) -> list[int]:
        data, numbers = self.node.disk.read("journal"), []
        for at in range(0, len(data) - 7, 8):
            number, check = data[at : at + 4], data[at + 4 : at + 8]
            if crc32(number) != int.from_bytes(check):
                break
            numbers.append(int.from_bytes(number))
        return numbers

    def write(self) -> None:
        number = self.node.simulation.random.getrandbits(32).to_bytes(4)
        self.node.disk.append("journal", number + crc32(number).to_bytes(4))
        if self.synced:
            self.node.disk.sync("journal")
        self.promised.append(int.from_bytes(number))
        self.node.after(0.01, self.write)


def journal(seed: int, synced: bool = True) -> Simulation:
    """A journal on a machine whose power fails now and then."""
    simulation = Simulation(seed)
    promised: list[int] = []
    node = simulation.node("writer", lambda node: Journal(node, promised, synced))

    def fail() -> None:
        node.crash()
        simulation.after(0.1, node.start)
        simulation.after(simulation.random.random() * 2, fail)

    simulation.after(1, fail)
    simulation.run(20)
    return simulation


def journal_without_sync(seed: int) -> None:
    journal(seed, synced=False)


def chatter(seed: int) -> int:
    """A world in which everything happens; gives its digest."""
    simulation = Simulation(seed)
    simulation.network.faults = Faults(drop=0.1, duplicate=0.1, late=0.2)
    names = [f"n{number}" for number in range(5)]

    class Talker(Quiet):
        def __init__(self, node: Node) -> None:
            super().__init__(node)
            self.talk()

        def talk(self) -> None:
            random = self.node.simulation.random
            for name in random.sample(names, 2):
                self.node.send(name, random.random())
            self.node.after(random.random(), self.talk)

        def receive(self, sender: str, message: Any) -> None:
            self.node.disk.append("heard", str(message).encode())

    for name in names:
        simulation.node(name, Talker, offset_s=simulation.random.random(), rate=1 + simulation.random.random() / 10)
    for number in range(20):
        node = simulation.nodes[names[number % 5]]
        simulation.after(number, node.crash)
        simulation.after(number + 0.5, node.start)
        simulation.after(number + 0.7, node.pause, 0.2)
    simulation.run(30)
    heard = b"".join(simulation.nodes[name].disk.read("heard") for name in names)
    return simulation.digest() << 32 | crc32(heard)


def fails_at_seven(seed: int) -> None:
    assert seed != 7, "seven is out of luck"


def raises_at_three(seed: int) -> None:
    if seed == 3:
        raise RuntimeError("three raises")


def dies_at_five(seed: int) -> None:
    if seed == 5:
        os.kill(os.getpid(), signal.SIGKILL)


def succeeds(seed: int) -> None:
    pass
