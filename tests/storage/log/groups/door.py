"""A whole broker in this process, on a free port of loopback, for real clients in threads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.listener import Listener
from mainspring.storage.log.transactions import Transactions

WAIT_S = 30.0


@asynccontextmanager
async def open_door(folder: Path, settings: GroupSettings | None = None) -> AsyncIterator[SimpleNamespace]:
    """Gives `address`, `engine`, `groups` and `transactions`."""
    clock = SystemClock()
    engine = Engine([folder / "log"], clock)
    await engine.start()
    groups = Groups(engine, clock, settings)
    await groups.start()
    transactions = Transactions(engine, groups, clock)
    await transactions.start()
    broker = Broker(engine, clock, folder / "door.json", groups=groups, transactions=transactions)
    server = await asyncio.get_running_loop().create_server(Listener(broker), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield SimpleNamespace(
            address=f"127.0.0.1:{port}", port=port, engine=engine, groups=groups, transactions=transactions
        )
    finally:
        server.close()
        await transactions.stop()
        await groups.stop()
        await engine.stop()
