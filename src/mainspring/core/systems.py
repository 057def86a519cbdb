"""Lazy systems: each built by its first request, connection, event or due job, once, and again if that failed.

To build one, its libraries are looked for, what it uses is built first, its tables are brought to this version, and its
services are offered to the wiring and started. A system that nobody touches has cost the reading of its manifest.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from .config import Config
from .lazy import Lazy
from .listeners import Listeners
from .manifest import Manifest, resolve
from .problems import Unavailable
from .wiring import Wiring

log = logging.getLogger(__name__)


class NotInstalled(Unavailable):
    """A system's libraries are missing; the detail says what to install."""

    status, type, title = 503, "core/not-installed", "This system is not installed"


class Systems(Lazy[Manifest]):
    """The systems of one application by name. `prepare` makes a system's tables ready."""

    def __init__(
        self,
        manifests: list[Manifest],
        config: Config,
        wiring: Wiring,
        prepare: Callable[[Manifest], Awaitable[None]],
    ) -> None:
        super().__init__(self._start)
        self.manifests = {one.name: one for one in manifests}
        self.failures: dict[str, str] = {}
        self.after: dict[str, Callable[[], Awaitable[object]]] = {}
        """What else to start when a system has been built, before anybody gets it."""
        self._config = config
        self._wiring = wiring
        self._prepare = prepare

    def state(self, name: str) -> tuple[str, str]:
        """(state, reason): `running`, `building`, `failed`, `missing` (not installed) or `idle`."""
        if name in self.built:
            return "running", ""
        if name in self._tasks:
            return "building", ""
        if reason := self.manifests[name].missing_extra():
            return "missing", reason
        return ("failed", self.failures[name]) if name in self.failures else ("idle", "")

    async def unready(self, name: str) -> str | None:
        """Why a running system cannot do its work now, as its services say by `unready()`; None where it can."""
        for reference in self.manifests[name].services:
            service = await self._wiring.get(resolve(reference))
            if hasattr(service, "unready") and (reason := service.unready()):
                return str(reason)
        return None

    async def services(self, needs: set[Any]) -> Mapping[Any, Any]:
        """These types' services, as far as the wiring provides them."""
        return {kind: await self._wiring.get(kind) for kind in needs if self._wiring.provides(kind)}

    async def _start(self, name: str) -> Manifest:
        manifest = self.manifests[name]
        try:
            if reason := manifest.missing_extra():
                raise NotInstalled(reason, retry_after_s=3600)
            for used in manifest.uses:
                await self.get(used)
            # Imports can take a while and must not hold the loop that serves everybody else.
            await asyncio.to_thread(_import, manifest)
            if manifest.settings:
                self._wiring.give(resolve(manifest.settings), await self._settings(manifest))
            if manifest.tables:
                await self._prepare(manifest)
            for kind in [self._wiring.offer(resolve(reference)) for reference in manifest.services]:
                await self._wiring.get(kind)
            if name in self.after:
                await self.after[name]()
        except Exception as error:
            self.failures[name] = str(error) or type(error).__name__
            raise
        self.failures.pop(name, None)
        log.info("%s runs", name)
        return manifest

    async def _settings(self, manifest: Manifest) -> Any:
        """The system's settings; a `public_url` that nobody has set is where its first listener really answers."""
        settings = self._config.settings(manifest)
        if (
            manifest.listeners
            and "public_url" in settings.__struct_fields__
            and "public_url" not in self._config.sections.get(manifest.name, {})
            and self._wiring.provides(Listeners)
        ):
            spec = manifest.listeners[0]
            table: Listeners = await self._wiring.get(Listeners)
            if table[spec.name].address:
                return msgspec.structs.replace(settings, public_url=spec.url(table[spec.name].address))
        return settings


def _import(manifest: Manifest) -> None:
    listeners = [one.application for one in manifest.listeners]
    for reference in filter(
        None, (manifest.settings, manifest.tables, *manifest.services, manifest.routes, *listeners)
    ):
        resolve(reference)
