"""A broker in a process of its own, on a socket from its parent: `python -m tests.storage.log.broker_child FOLDER FD`.

The socket outlives the process, so a broker that was killed is followed by one at the same address, with no port to lose.
"""

import asyncio
import socket
import sys
from pathlib import Path

from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.listener import Listener
from mainspring.storage.log.transactions import Transactions


async def serve(folder: Path, handle: int) -> None:
    clock = SystemClock()
    engine = Engine([folder / "log"], clock)
    await engine.start()
    groups = Groups(engine, clock)
    transactions = Transactions(engine, groups, clock)
    await groups.start()
    await transactions.start()
    broker = Broker(engine, clock, folder / "door.json", groups=groups, transactions=transactions)
    server = await asyncio.get_running_loop().create_server(Listener(broker), sock=socket.socket(fileno=handle))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
