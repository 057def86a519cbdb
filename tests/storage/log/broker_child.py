"""A broker in a process of its own, on a socket from its parent: `python -m tests.storage.log.broker_child FOLDER FD [PORT]`.

Clients are told to come to PORT, where something stands between them and the broker.

The socket outlives the process, so a broker that was killed is followed by one at the same address, with no port to lose. On
SIGTERM it ends as a server does: connections are asked to go away, then everything is written down.
"""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import uvloop

from mainspring.core.clock import SystemClock
from mainspring.core.connections import Connections, ProtocolFactory
from mainspring.core.lazy import Lazy
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.listener import Listener
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.transactions import Transactions

SESSION_MS_MIN = 500
"""A test does not wait for sessions as long as people let them last."""


async def serve(folder: Path, handle: int, port: int) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    clock = SystemClock()
    engine = Engine([folder / "log"], clock)
    await engine.start()
    groups = Groups(engine, clock, GroupSettings(session_timeout_ms_min=SESSION_MS_MIN))
    transactions = Transactions(engine, groups, clock)
    await groups.start()
    await transactions.start()
    settings = KafkaSettings(advertised_port=port)
    broker = Broker(engine, clock, folder / "door.json", settings=settings, groups=groups, transactions=transactions)
    listener = Listener(broker)

    async def build(_: str) -> ProtocolFactory:
        return listener

    connections = Connections("kafka", Lazy(build), broker.connections_max)
    await connections.listen(socket.socket(fileno=handle), None)
    await ending.wait()
    await connections.close()
    await transactions.stop()
    await groups.stop()
    await engine.stop()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
