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

WAIT_S = 30.0


@asynccontextmanager
async def open_door(folder: Path, settings: GroupSettings | None = None) -> AsyncIterator[SimpleNamespace]:
    """Gives `address`, `engine`, `groups` and `transactions`."""
    clock = SystemClock()
    engine = Engine([folder / "log"], clock)
    await engine.start()
    groups = Groups(engine, clock, settings)
    await groups.start()
    broker = Broker(engine, clock, folder / "door.json", groups=groups)
    server = await asyncio.get_running_loop().create_server(Listener(broker), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield SimpleNamespace(address=f"127.0.0.1:{port}", port=port, engine=engine, groups=groups)
    finally:
        server.close()
        await groups.stop()
        await engine.stop()


async def until(condition, what: str = "it to become true") -> None:
    """Lets the loop turn until `condition` holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)
