"""A deterministic world for protocols written sans I/O: time, network and disks that misbehave by a seed.

    simulation = Simulation(seed)
    simulation.network.faults = Faults(drop=0.02, duplicate=0.02, late=0.05)
    for name in ("a", "b", "c"):
        simulation.node(name, boot=Program)     # Program(node) has receive(sender, message)
    simulation.run(60)                          # a minute of its time, milliseconds of ours

Programs send, set timers and read clocks through their node and through nothing else, so a seed decides everything: a
`Violation` names it, and running it again shows the same events. `campaign` runs thousands of seeds on every core.

Code that awaits runs as it is on a `loop.SimulatedLoop`, whose time is virtual and whose threads are chance, over a
`database.SimulatedDatabase`; `storage.objects` is played like that.
"""

from .campaign import Failure, Outcome, campaign
from .disk import SECTOR_BYTES, Disk
from .network import Faults, Network
from .node import Node, NodeClock, Program
from .simulation import START_NS, Simulation, Timer, Violation

__all__ = [
    "SECTOR_BYTES",
    "START_NS",
    "Disk",
    "Failure",
    "Faults",
    "Network",
    "Node",
    "NodeClock",
    "Outcome",
    "Program",
    "Simulation",
    "Timer",
    "Violation",
    "campaign",
]
