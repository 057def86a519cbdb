"""Waiting for what has no event of its own: by looking, with a bound that only a broken program reaches."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0


async def until(happened: Callable[[], bool | Awaitable[bool]], every_s: float = 0.005) -> None:
    """Returns once `happened()` is true; raises `TimeoutError` where it never is."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = happened()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(every_s)
