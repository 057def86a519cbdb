"""Waiting for something that no event tells of."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0
"""A bound for a slow machine, never a measure."""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once `condition` holds; fails where it does not in a minute."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.005)
