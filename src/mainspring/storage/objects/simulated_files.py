"""Disks of the simulator under the object store: a folder is a `core.simulator.Disk`, which tears what was not synced.

`Shelf` is what outlives a power failure. `SimulatedFiles` is one life of the machine, which `end` ends: what the old engine
still asks for is refused.
"""

import errno
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from mainspring.core.simulator import Disk
from mainspring.storage.objects.files import Files, Space

ROOMY_BYTES = 1 << 41


class Shelf:
    """The folders by their path. `sick` ones answer every write and sync with EIO; `bytes_max` is the room of a new one."""

    def __init__(self, random: Random) -> None:
        self.folders: dict[Path, Disk] = {}
        self.sick: set[Path] = set()
        self.bytes_max: int | None = None
        self._random = random

    def make(self, path: Path) -> None:
        if path not in self.folders:
            self.folders[path] = Disk(self._random, self.bytes_max)

    def remove(self, path: Path) -> None:
        """The folder is gone with all that was in it."""
        self.folders.pop(path, None)

    def crash(self) -> None:
        """The power fails, of all folders at once."""
        for disk in self.folders.values():
            disk.crash()


class Handle(msgspec.Struct):
    """An open file; `left` is what was in it when it lost its name."""

    disk: Disk
    folder: Path
    name: str
    left: bytes | None = None


class SimulatedFiles(Files):
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._handles: dict[int, Handle] = {}
        self._next = 0
        self._ended = False

    def end(self) -> None:
        """The power is gone: every call from now on raises."""
        self._ended = True

    def names(self, directory: Path) -> list[str]:
        return self._folder(directory).names()

    def size(self, path: Path) -> int:
        return self._folder(path.parent).size(path.name)

    def make_folder(self, path: Path) -> None:
        self._ensure_alive()
        self._shelf.make(path)

    def create(self, path: Path) -> int:
        disk = self._changing(path.parent)
        if path.name in disk.names():
            raise FileExistsError(errno.EEXIST, "there is such a file on the simulated disk", str(path))
        disk.write(path.name, 0, b"")
        disk.sync_folder()
        return self._handle(disk, path)

    def open(self, path: Path) -> int:
        disk = self._folder(path.parent)
        disk.size(path.name)
        return self._handle(disk, path)

    def open_to_change(self, path: Path) -> int:
        return self.open(path)

    def close(self, fd: int) -> None:
        self._handles.pop(fd, None)

    def delete(self, path: Path) -> None:
        disk = self._changing(path.parent)
        if path.name not in disk.names():
            return
        for handle in self._handles.values():
            if handle.disk is disk and handle.name == path.name and handle.left is None:
                handle.left = disk.read(path.name)
        disk.delete(path.name)

    def is_linked(self, fd: int) -> bool:
        handle = self._handles[fd]
        return handle.left is None and self._shelf.folders.get(handle.folder) is handle.disk

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        handle = self._to_change(fd)
        handle.disk.write(handle.name, offset, b"".join(buffers))

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self._ensure_alive()
        handle = self._handles[fd]
        if handle.left is not None:
            return handle.left[offset : offset + length]
        return handle.disk.read(handle.name, offset, length)

    def read_cached(self, fd: int, length: int, offset: int) -> bytes | None:
        data = self.read(fd, length, offset)
        return data if len(data) == length else None

    def punch(self, fd: int, offset: int, length: int) -> None:
        self.write(fd, [bytes(length)], offset)

    def truncate(self, fd: int, size: int) -> None:
        handle = self._to_change(fd)
        if size < handle.disk.size(handle.name):
            handle.disk.truncate(handle.name, size)

    def sync(self, fd: int) -> None:
        handle = self._to_change(fd)
        handle.disk.sync(handle.name)

    def load(self, path: Path) -> bytes:
        return self._folder(path.parent).read(path.name)

    def store(self, path: Path, data: bytes) -> None:
        disk, fresh = self._changing(path.parent), f"{path.name}.new"
        disk.write(fresh, 0, data)
        disk.truncate(fresh, len(data))
        disk.sync(fresh)
        disk.rename(fresh, path.name)
        disk.sync_folder()

    def space(self, directory: Path) -> Space:
        disk = self._folder(directory)
        if disk.bytes_max is None:
            return Space(ROOMY_BYTES, ROOMY_BYTES)
        return Space(disk.bytes_max - sum(map(disk.size, disk.names())), disk.bytes_max)

    def _ensure_alive(self) -> None:
        if self._ended:
            raise OSError(errno.EIO, "the machine is gone")

    def _folder(self, path: Path) -> Disk:
        self._ensure_alive()
        found = self._shelf.folders.get(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such folder on the simulated machine", str(path))
        return found

    def _changing(self, path: Path) -> Disk:
        if path in self._shelf.sick:
            raise OSError(errno.EIO, "the simulated disk is sick", str(path))
        return self._folder(path)

    def _handle(self, disk: Disk, path: Path) -> int:
        self._next += 1
        self._handles[self._next] = Handle(disk, path.parent, path.name)
        return self._next

    def _to_change(self, fd: int) -> Handle:
        self._ensure_alive()
        handle = self._handles[fd]
        if handle.folder in self._shelf.sick:
            raise OSError(errno.EIO, "the simulated disk is sick", str(handle.folder))
        if handle.left is not None:
            raise OSError(errno.EIO, "nothing is written to a simulated file without a name", handle.name)
        return handle
