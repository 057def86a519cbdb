"""Lazy systems: each built by its first request, connection, event or due job, once, and again if that failed.

Building is one shared task that no impatient caller can cancel: libraries are looked for, what the system uses is built
first, its tables are brought to this version, its services are offered to the wiring. A system that nobody touches has
cost the reading of its manifest.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .config import Config
from .http.request import Application
from .manifest import Manifest, resolve
from .problems import Unavailable
from .wiring import Wiring

log = logging.getLogger(__name__)


class NotInstalled(Unavailable):
    """A system's libraries are missing; the detail says what to install."""

    status, type, title = 503, "core/not-installed", "This system is not installed"


class Systems:
    """The systems of one application by name; `prepare` makes a system's tables ready and `authenticate` names callers."""

    def __init__(
        self,
        manifests: list[Manifest],
        config: Config,
        wiring: Wiring,
        prepare: Callable[[Manifest], Awaitable[None]],
        finish: Callable[[Manifest], Awaitable[None]],
    ) -> None:
        self.manifests = {one.name: one for one in manifests}
        self.failures: dict[str, str] = {}
        self._config = config
        self._wiring = wiring
        self._prepare = prepare
        self._finish = finish
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._built: set[str] = set()

    def state(self, name: str) -> tuple[str, str]:
        """(state, reason): `running`, `building`, `failed`, `missing` (not installed) or `idle`."""
        if name in self._built:
            return "running", ""
        if name in self._tasks:
            return "building", ""
        if reason := self.manifests[name].missing_extra():
            return "missing", reason
        return ("failed", self.failures[name]) if name in self.failures else ("idle", "")

    def built(self, name: str) -> bool:
        return name in self._built

    async def build(self, name: str) -> None:
        """Waits until the system runs. Raises what its build raised; the next call tries again."""
        if name in self._built:
            return
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._build(self.manifests[name]), name=f"build {name}")
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
        await asyncio.shield(task)

    async def _build(self, manifest: Manifest) -> None:
        try:
            if reason := manifest.missing_extra():
                raise NotInstalled(reason, retry_after_s=3600)
            for used in manifest.uses:
                await self.build(used)
            # Imports can take a while and must not hold the loop that serves everybody else.
            await asyncio.to_thread(_import, manifest)
            if manifest.settings:
                self._wiring.give(resolve(manifest.settings), self._config.settings(manifest))
            if manifest.tables:
                await self._prepare(manifest)
            for kind in [self._wiring.offer(resolve(reference)) for reference in manifest.services]:
                await self._wiring.get(kind)
            await self._finish(manifest)
        except Exception as error:
            self.failures[manifest.name] = str(error) or type(error).__name__
            raise
        self.failures.pop(manifest.name, None)
        self._built.add(manifest.name)
        log.info("built %s", manifest.name)

    async def services(self, needs: set[Any]) -> Mapping[Any, Any]:
        """These types' services, as far as the wiring provides them."""
        return {kind: await self._wiring.get(kind) for kind in needs if self._wiring.provides(kind)}

    async def application(self, manifest: Manifest, authenticate: Any, metrics: Any, clock: Any) -> Application:
        """The system's JSON API."""
        routes = resolve(manifest.routes)
        application: Application = routes.application(
            await self.services(routes.needs()), authenticate, metrics=metrics, clock=clock
        )
        return application

    async def stop(self) -> None:
        """No build outlives this."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _import(manifest: Manifest) -> None:
    for reference in filter(None, (*manifest.services, manifest.routes, manifest.settings, manifest.tables)):
        resolve(reference)
    for listener in manifest.listeners:
        resolve(listener.application)
