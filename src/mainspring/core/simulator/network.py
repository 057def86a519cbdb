"""The simulated network: every message is delayed on its own, so order is never promised; some are lost or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from .simulation import Simulation


class Faults(msgspec.Struct, frozen=True):
    """Shares are 0 to 1. `late` of the messages take up to `late_s` more, past many that were sent after them."""

    delay_s_min: float = 0.0002
    delay_s_max: float = 0.005
    drop: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.delay_s_min <= self.delay_s_max or self.late_s < 0:
            raise ValueError("delays are not negative and the least is not above the most")
        if not all(0 <= share <= 1 for share in (self.drop, self.duplicate, self.late)):
            raise ValueError("a share is between 0 and 1")


class Network:
    """Joins all nodes of a simulation; `faults` may be changed at any time, for messages sent from then on."""

    def __init__(self, simulation: Simulation) -> None:
        self.faults = Faults()
        self.sent = self.delivered = self.lost = 0
        self._simulation = simulation
        # A dictionary, not a set: the order of a set differs from process to process.
        self._cuts: dict[tuple[str, str], None] = {}

    def send(self, source: str, target: str, message: object) -> None:
        """Carries `message` to `target`, perhaps: once, twice or never. Raises `TypeError` for one that could be changed."""
        hash(message)
        random, faults = self._simulation.random, self.faults
        self.sent += 1
        if (source, target) in self._cuts or (faults.drop and random.random() < faults.drop):
            self.lost += 1
            return
        copies = 2 if faults.duplicate and random.random() < faults.duplicate else 1
        for _ in range(copies):
            delay_s = faults.delay_s_min + (faults.delay_s_max - faults.delay_s_min) * random.random()
            if faults.late and random.random() < faults.late:
                delay_s += faults.late_s * random.random()
            self._simulation.at(self._simulation.now_ns + int(delay_s * 1e9), self._arrive, source, target, message)

    def cut(self, source: str, target: str) -> None:
        """Loses what `source` sends to `target`, messages on their way included; the other direction goes on."""
        self._cuts[source, target] = None
        self._simulation.note(f"cut {source} to {target}")

    def heal(self, source: str, target: str) -> None:
        self._cuts.pop((source, target), None)
        self._simulation.note(f"healed {source} to {target}")

    def isolate(self, name: str) -> None:
        """Cuts a node off in both directions."""
        for other in self._simulation.nodes:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def heal_all(self) -> None:
        self._cuts.clear()
        self._simulation.note("healed every cut")

    def _arrive(self, source: str, target: str, message: object) -> None:
        node = self._simulation.nodes.get(target)
        if node is None or not node.up or (source, target) in self._cuts:
            self.lost += 1
            return
        self.delivered += 1
        node.deliver(source, message)
