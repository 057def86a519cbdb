"""The commit journal of a directory: one file whose sync acknowledges appends to any number of partitions.

A commit that touches more files than are worth syncing one by one goes to this file too, in one write and one sync. The
segments are synced later; the journal is then started anew under the next generation number, in the file of the older one.
An entry names its generation, so that what an older one left in the file is never read as this one's.

    entry: crc u32 (of all that follows) | length u32 (of the batches) | generation u64 | topic id 16 | partition i32 | batches
"""

import re
from collections.abc import Iterator, Sequence
from struct import Struct
from uuid import UUID

from .files import Files
from .records import crc32c

_ENTRY = Struct(">IIQ16si")
_NAME = re.compile(r"commit-journal-(\d{20})")
_GROWTH_BYTES = 1 << 20


def name(generation: int) -> str:
    return f"commit-journal-{generation:020}"


def generations(names: Sequence[str]) -> list[int]:
    """Those of the journals among these files, rising."""
    return sorted(int(match[1]) for entry in names if (match := _NAME.fullmatch(entry)))


class Journal:
    """The journal that is being written. Belongs to the writer thread."""

    def __init__(self, files: Files, folder: str, generation: int, reused: str | None = None) -> None:
        """`reused` is the path of an older journal that nothing needs any more. Raises `OSError`."""
        self.generation = generation
        self.path = f"{folder}/{name(generation)}"
        self.size = 0
        self.intact = True
        """False once a write or sync of it failed."""
        self._files = files
        self._room = 0
        if reused is not None:
            files.rename(reused, self.path)
            self._room = files.size(self.path)
        self._handle = files.open(self.path, create=True)
        files.sync_folder(folder)

    def write(self, entries: Sequence[tuple[UUID, int, list[bytes]]]) -> None:
        """Writes (topic, partition, batches) of one commit; the caller syncs. Raises `OSError`."""
        buffers: list[bytes] = []
        for topic, partition, batches in entries:
            head = _ENTRY.pack(0, sum(map(len, batches)), self.generation, topic.bytes, partition)
            crc = crc32c(head[4:])
            for batch in batches:
                crc = crc32c(batch, crc)
            buffers.append(crc.to_bytes(4, "big") + head[4:])
            buffers += batches
        size = sum(map(len, buffers))
        if self.size + size > self._room:
            # Zeros ahead of the writing end, so that most syncs need not record a new size of the file.
            self._room = self.size + size + _GROWTH_BYTES
            buffers.append(bytes(_GROWTH_BYTES))
        self._files.write(self._handle, buffers, self.size)
        self.size += size

    def sync(self) -> None:
        self._files.sync(self._handle)

    def close(self) -> None:
        self._files.close(self._handle)


def entries_in(data: bytes, generation: int) -> Iterator[tuple[UUID, int, memoryview]]:
    """(topic, partition, batches) of each whole entry of a generation, up to the first that is none."""
    at, view = 0, memoryview(data)
    while at + _ENTRY.size <= len(data):
        crc, length, written, topic, partition = _ENTRY.unpack_from(data, at)
        end = at + _ENTRY.size + length
        if written != generation or end > len(data) or crc32c(view[at + 4 : end]) != crc:
            return
        yield UUID(bytes=topic), partition, view[at + _ENTRY.size : end]
        at = end
