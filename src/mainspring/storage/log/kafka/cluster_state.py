"""What the door keeps beside the log's records: credentials, ACLs, quotas, brokers' settings and feature levels.

One small file, replaced as a whole: a change is written beside it, synced, and renamed over it, so that a crash leaves the
state before or after. Readers use the state in memory, which moves only once the file has.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from mainspring.core.crash import crash_point
from mainspring.storage.log.kafka.acls import Acl
from mainspring.storage.log.kafka.scram import Credential

T = TypeVar("T")


class Quota(msgspec.Struct, frozen=True):
    """Limits of one entity: `user`, `client_id` and `ip` are a name, None for the default, or absent as the empty tuple."""

    entity: tuple[tuple[str, str | None], ...]
    values: dict[str, float]


class ClusterState(msgspec.Struct):
    users: dict[str, dict[str, Credential]] = {}
    acls: list[Acl] = []
    quotas: list[Quota] = []
    broker_configs: dict[str, dict[str, str]] = {}
    client_metrics: dict[str, dict[str, str]] = {}
    group_configs: dict[str, dict[str, str]] = {}
    features: dict[str, int] = {}


class ClusterFile:
    """`path` is read once, when it is there; `current` is never changed in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = asyncio.Lock()
        self._watchers: list[Callable[[ClusterState], None]] = []
        self.current = stored(path) if path.exists() else ClusterState()

    def watch(self, watcher: Callable[[ClusterState], None]) -> None:
        """Calls `watcher` with the state now and after each change."""
        self._watchers.append(watcher)
        watcher(self.current)

    async def change(self, function: Callable[[ClusterState], T]) -> T:
        """Runs `function` on a copy; what it made of it is durable when this returns. Raises what `function` raised, having
        changed nothing."""
        async with self._changing:
            copy = msgspec.json.decode(msgspec.json.encode(self.current), type=ClusterState)
            result = function(copy)
            encoded = msgspec.json.format(msgspec.json.encode(copy))
            await asyncio.to_thread(_replace, self._path, encoded)
            self.current = copy
            for watcher in self._watchers:
                watcher(copy)
            return result


def stored(path: Path) -> ClusterState:
    """Raises `msgspec.DecodeError` for a file that is none of ours."""
    return msgspec.json.decode(path.read_bytes(), type=ClusterState)


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    with beside.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    crash_point("log.cluster.written")
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
