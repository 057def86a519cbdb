"""Which log stands behind the port `Log`, and when it is opened.

With an address in the configuration, the service whose manifest names its scheme. Without one, beside an embedded database,
the service that a running system offers; its folder belongs to this process as the database does. Else the outbox itself:
nodes that share a PostgreSQL share its tables, and a subset of systems without a log needs none.

A log outside of the database gets its relay as soon as it is opened. One's own is opened when there is a reason: somebody
asks for it, an event waits in the outbox, or its folder shows that it has been used before, so that records may wait.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .clock import Clock
from .config import Config, ConfigError
from .job_leases import leases_of
from .manifest import Manifest, PortSpec, manifests, resolve
from .outbox import OutboxLog
from .outbox.relay import Relay
from .ports import Database, Log
from .systems import Systems
from .telemetry import Metrics
from .wiring import Wiring

if TYPE_CHECKING:
    from .backup import Kept


class LogPort:
    """Offers the log to the wiring. Raises `ConfigError` for an address whose scheme nobody knows."""

    def __init__(self, config: Config, systems: Systems, wiring: Wiring) -> None:
        self._config, self._systems, self._wiring = config, systems, wiring
        self._asked = asyncio.Event()
        self._provider = None if wiring.provides(Log) else self._chosen()
        if self._provider is None:
            wiring.find(Log, self._outbox)
            return
        manifest, spec = self._provider
        wiring.find(Log, self._open)
        wiring.offer(Relay, self._relay)
        if not spec.scheme:
            systems.after[manifest.name] = self._start_relay

    async def opened(self, outbox: OutboxLog) -> Log:
        """The log, once there is a reason to open it."""
        if self._provider is not None and not self._provider[1].scheme and not self._is_used:
            reasons = [asyncio.ensure_future(self._asked.wait()), asyncio.ensure_future(outbox.wait_unrelayed())]
            try:
                for reason in (await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED))[0]:
                    reason.result()
            finally:
                for reason in reasons:
                    reason.cancel()
        log: Log = await self._wiring.get(Log)
        return log

    async def kept(self) -> "Kept | None":
        """The log's files as a backup needs them; None where it keeps none here."""
        if self._provider is None or self._provider[1].scheme or not self._is_used:
            return None
        if self._provider[0].missing_extra():
            return None  # so nobody writes there
        log = await self._wiring.get(Log)
        return _KeptLog(self._provider[0].name, log, await self._wiring.get(Relay))

    @property
    def _is_used(self) -> bool:
        """Whether the system that offers the log has files already."""
        assert self._provider is not None
        return any(folder.exists() for folder in self._config.folders(self._provider[0]))

    def _chosen(self) -> tuple[Manifest, PortSpec] | None:
        scheme = urlsplit(self._config.log).scheme
        if self._config.log:
            known = {spec.scheme: (one, spec) for one, spec in _log_specs(manifests().values()) if spec.scheme}
            if scheme not in known:
                raise ConfigError(f"log: an address begins with {' or '.join(f'{one}://' for one in known)}")
            return known[scheme]
        if self._config.database:
            return None
        return next(
            ((one, spec) for one, spec in _log_specs(self._systems.manifests.values()) if not spec.scheme), None
        )

    async def _open(self) -> Any:
        assert self._provider is not None
        manifest, spec = self._provider
        self._asked.set()
        if not spec.scheme:
            await self._systems.get(manifest.name)
            return await self._service(spec)
        await asyncio.to_thread(resolve, spec.service)
        log = await self._service(spec)
        await self._start_relay()
        return log

    async def _service(self, spec: PortSpec) -> Any:
        return await self._wiring.get(self._wiring.offer(resolve(spec.service)))

    async def _start_relay(self) -> None:
        self._asked.set()
        await self._wiring.get(Relay)

    async def _relay(self, database: Database, outbox: OutboxLog, clock: Clock, metrics: Metrics) -> Relay:
        assert self._provider is not None
        log = await self._service(self._provider[1])
        node = f"{os.uname().nodename}/{os.getpid()}"
        return Relay(database, outbox, log, clock, leases=leases_of(database, clock, node), metrics=metrics)

    async def _outbox(self, outbox: OutboxLog) -> Log:
        return outbox


class _KeptLog:
    """The log and its relay, for a backup."""

    def __init__(self, folder: str, log: Any, relay: Relay) -> None:
        self.folder = folder
        self.image = log.image
        self._log, self._relay = log, relay

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """No event is relayed, nothing is appended in this process, and no position moves but in the database."""
        async with self._relay.at_rest(), self._log.at_rest():
            yield


def _log_specs(found: Iterable[Manifest]) -> Iterator[tuple[Manifest, PortSpec]]:
    return ((manifest, spec) for manifest in found for spec in manifest.ports if spec.port == "Log")
