"""A listener of links in a process that kills itself where a test says: `python -m tests.social.links.paste_server`.

Arguments: the database's file, and the point: `before` (a read that burns has run, and is not committed), `after` (it is
committed, and not a byte has been answered) or `never`. Prints its port, and serves until it is killed.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.database import SqliteDatabase
from mainspring.core.ports import Connection
from mainspring.social.links import paste_store
from tests.social.links.conftest import GENEROUS, listening, prepare, started


class Deadly(SqliteDatabase):
    """A database that is the end of its process at one point of a burning read."""

    point = "never"

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if function is not paste_store.take or self.point == "never":
            return await super().write(function, *args, **kwargs)
        if self.point == "before":
            return await super().write(_take_and_die, *args, **kwargs)
        await super().write(function, *args, **kwargs)
        return _die()


def _take_and_die(connection: Connection, *args: Any) -> Any:
    paste_store.take(connection, *args)
    return _die()


def _die() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(path: Path, point: str) -> None:
    database = Deadly(path, floor_bytes=0, ballast_bytes=0)
    database.point = point
    await database.start()
    await prepare(database)
    settings = msgspec.structs.replace(GENEROUS, anonymous_per_minute=1_000_000)
    async with started(database, settings) as links, listening(database, links) as listener:
        server = await asyncio.get_running_loop().create_server(listener.server, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
