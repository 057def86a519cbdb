"""An engine, and batches as producers make them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from mainspring.core.clock import Clock, VirtualClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.model import Fetched
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.records import Read, batches_in, build, records_in
from mainspring.storage.log.settings import LogSettings

NOW_MS = 1_767_225_600_000
"""What a new `VirtualClock` says."""


def batch(*values: bytes, at_ms: int = NOW_MS, **more: Any) -> bytes:
    """One batch with these values, each also its own key."""
    return build([(at_ms, value, value, ()) for value in values], **more)


@asynccontextmanager
async def running(
    folder: Path | Sequence[Path], clock: Clock | None = None, *, files: Any = None, **settings: Any
) -> AsyncIterator[Engine]:
    """An engine over these directories, stopped cleanly at the end."""
    folders = [folder] if isinstance(folder, Path) else folder
    engine = Engine(folders, clock or VirtualClock(), LogSettings(**settings), random=Random(1), files=files)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def append(partition: Partition, *values: bytes, **more: Any) -> int:
    """Appends a batch of these values and gives its offset once it is durable."""
    appending = partition.append(batch(*values, **more))
    await appending.durable()
    return appending.base_offset


def records_of(fetched: Fetched) -> list[Read]:
    return [
        record
        for buffer in fetched.buffers
        for at, header in batches_in(buffer)
        for record in records_in(memoryview(buffer)[at : at + header.size_bytes])
    ]


def all_of(partition: Partition, *, committed: bool = False) -> list[Read]:
    """Every data record that a reader from the log start on sees, aborted ones included."""
    found: list[Read] = []
    offset = partition.log_start
    while True:
        fetched = partition.read(offset, 1 << 20, committed=committed)
        if not fetched.buffers:
            return found
        for buffer in fetched.buffers:
            for at, header in batches_in(buffer):
                if not header.control:
                    found += records_in(memoryview(buffer)[at : at + header.size_bytes])
                offset = header.next_offset


def values_of(partition: Partition, *, committed: bool = False) -> list[bytes | None]:
    return [record.value for record in all_of(partition, committed=committed) if record.offset >= partition.log_start]
