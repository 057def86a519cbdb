"""Limits and ids in your own program: who may do how much, and a number for what was done.

python examples/limits.py [FOLDER]
"""

import asyncio
import sys
from tempfile import mkdtemp

from mainspring.core.application import Mainspring
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.primitives.ids import Ids
from mainspring.primitives.limiter import MemoryLimiter, TokenBucket


async def main(folder: str) -> None:
    limiter = MemoryLimiter(SystemClock(), api="100/minute; 1000/hour", login=TokenBucket(5, per=60))
    async with Mainspring(["ids"], Config(data=folder)) as mainspring:
        ids = await mainspring.service(Ids)
        for attempt in range(7):
            decision = limiter.hit("login", "user-1")
            if decision:
                print(f"attempt {attempt} is number {ids.next()}; {decision.remaining} are left")
            else:
                print(f"attempt {attempt} is too much: again in {decision.retry_after:.0f} s")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))
