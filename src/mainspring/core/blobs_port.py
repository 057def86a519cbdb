"""Which object store stands behind the port `Blobs`.

With an address in the configuration, the service whose manifest names its scheme; without one, the service that a running
system offers. Nothing is opened before somebody asks.
"""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .config import Config, ConfigError
from .manifest import Manifest, PortSpec, manifests, resolve
from .ports import Blobs
from .systems import Systems
from .wiring import Wiring

if TYPE_CHECKING:
    from .backup import Kept


class BlobsPort:
    """Offers blobs to the wiring. Raises `ConfigError` for an address whose scheme nobody knows."""

    def __init__(self, config: Config, systems: Systems, wiring: Wiring) -> None:
        self._config, self._systems, self._wiring = config, systems, wiring
        self._own = next(((one, spec) for one, spec in _specs(systems.manifests.values()) if not spec.scheme), None)
        if not wiring.provides(Blobs) and (config.blobs or self._own):
            self._provider = self._chosen()
            wiring.find(Blobs, self._open)

    async def kept(self) -> "Kept | None":
        """The store's files as a backup needs them; None where it keeps none here."""
        if self._own is None or self._own[0].missing_extra():
            return None
        manifest = self._own[0]
        home = Path(self._config.data) / manifest.name
        if not home.exists():
            return None
        await self._systems.get(manifest.name)
        store = await self._wiring.get(resolve(manifest.services[0]))
        kept: Kept = store.kept(home)
        return kept

    def _chosen(self) -> tuple[Manifest, PortSpec]:
        if not self._config.blobs:
            assert self._own is not None
            return self._own
        known = {spec.scheme: (one, spec) for one, spec in _specs(manifests().values()) if spec.scheme}
        scheme = urlsplit(self._config.blobs).scheme
        if scheme not in known:
            raise ConfigError(f"blobs: an address begins with {' or '.join(f'{one}://' for one in known)}")
        return known[scheme]

    async def _open(self) -> Any:
        manifest, spec = self._provider
        if spec.scheme:
            await asyncio.to_thread(resolve, spec.service)
        else:
            await self._systems.get(manifest.name)
        return await self._wiring.get(self._wiring.offer(resolve(spec.service)))


def _specs(found: Iterable[Manifest]) -> Iterator[tuple[Manifest, PortSpec]]:
    return ((manifest, spec) for manifest in found for spec in manifest.ports if spec.port == "Blobs")
