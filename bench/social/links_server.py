"""Links in a process of their own for the benchmark: `python -m bench.social.links_server FOLDER LINKS`.

Makes the links, writes `codes` (code, space, target on each line), prints the address of its listener, and serves until its
stdin is closed. Clicks are counted as in production: into the log, the sums and the lists.
"""

import asyncio
import os
import sys
from pathlib import Path

import uvloop

from bench.load import SERVER_CPU
from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.social.links import Link, Links, NewLink


async def serve(folder: Path, count: int) -> None:
    config = Config(data=str(folder / "data"), port=0, ports={"links": 0}, free_bytes_min=0)
    async with Mainspring(["links"], config) as mainspring:
        await mainspring.listen()
        links = await mainspring.service(Links)
        with (folder / "codes").open("w") as codes:
            for first in range(0, count, 1000):
                numbers = range(first, min(count, first + 1000))
                for made in await links.add_many([NewLink(url=target_of(number)) for number in numbers]):
                    assert isinstance(made, Link)
                    codes.write(f"{made.code} {made.target}\n")
        doors = {door["name"]: door for system in mainspring.systems() for door in system["listeners"]}
        print(doors["links"]["address"], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def target_of(number: int) -> str:
    return f"https://www.example.com/articles/{number}/some-longer-title-here"


if __name__ == "__main__":
    if SERVER_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {SERVER_CPU})
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
