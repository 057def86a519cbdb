"""Things built by name at their first use: once however many ask, and again if that failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from mainspring.core.problems import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")


class Lazy(Generic[T]):
    """`build(name)` runs as one task that all who ask meanwhile share; one that goes away does not cancel it for the
    others. What was built stays; a failure is raised to those who waited for it, and the next to ask starts anew.
    """

    def __init__(self, build: Callable[[str], Awaitable[T]]) -> None:
        self.built: dict[str, T] = {}
        self._build = build
        self._tasks: dict[str, asyncio.Task[T]] = {}

    async def get(self, name: str) -> T:
        """What is built for `name`. Raises what its build raised."""
        try:
            return self.built[name]
        except KeyError:
            pass
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._run(name), name=f"build {name}")
            task.add_done_callback(lambda done: self._finished(name, done))
        return await asyncio.shield(task)

    async def _run(self, name: str) -> T:
        built = self.built[name] = await self._build(name)
        return built

    def _finished(self, name: str, task: asyncio.Task[T]) -> None:
        del self._tasks[name]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Problem):
            log.error("%s could not be built", name, exc_info=error)

    async def stop(self) -> None:
        """Cancels what is being built and waits for it to give way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
