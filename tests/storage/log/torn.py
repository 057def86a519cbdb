"""The log's files on simulated disks: a crash may come at any operation, and leaves what un-synced disks leave.

Each folder is a `core.simulator.Disk` of its own, so that a name is durable only once its own folder was synced. A folder
stands in the one above it as a file that holds its number.
"""

import errno
from collections.abc import Sequence
from random import Random

from mainspring.core.simulator import Disk


class PowerFailure(BaseException):
    """What an operation raises from the moment of the crash on."""


class TornFiles:
    """`mainspring.storage.log.files.Files` over simulated disks."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._disks = [Disk(random)]
        self._handles: dict[int, str] = {}
        self._next_handle = 3
        self.operations_left: int | None = None
        self.is_crashed = False
        self.full = ""
        """A part of the paths for which there is no room."""

    def crash(self) -> None:
        """Leaves of all disks what a power failure leaves."""
        for disk in self._disks:
            disk.crash()
        self._handles.clear()
        self.is_crashed, self.operations_left, self.full = False, None, ""

    def _step(self) -> None:
        if self.is_crashed:
            raise PowerFailure
        if self.operations_left is not None:
            self.operations_left -= 1
            if self.operations_left <= 0:
                self.is_crashed = True
                raise PowerFailure

    def _disk(self, folder: str) -> Disk:
        disk = self._disks[0]
        for part in filter(None, folder.split("/")):
            disk = self._disks[int.from_bytes(disk.read(f"{part}/"), "big")]
        return disk

    def _place(self, path: str) -> tuple[Disk, str]:
        folder, _, name = path.rpartition("/")
        return self._disk(folder), name

    def open(self, path: str, *, create: bool = False) -> int:
        self._step()
        disk, name = self._place(path)
        if create and name not in disk.names():
            disk.write(name, 0, b"")
        disk.size(name)
        self._next_handle += 1
        self._handles[self._next_handle] = path
        return self._next_handle

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def write(self, handle: int, buffers: Sequence[bytes], at: int) -> None:
        path = self._handles[handle]
        disk, name = self._place(path)
        data = b"".join(buffers)
        if self.full and self.full in path:
            disk.write(name, at, data[: self._random.randint(0, len(data))])
            raise OSError(errno.ENOSPC, "the simulated disk is full", path)
        if self.operations_left == 1:
            data = data[: self._random.randint(0, len(data))]
        disk.write(name, at, data)
        self._step()

    def read(self, handle: int, at: int, size: int) -> bytes:
        disk, name = self._place(self._handles[handle])
        return disk.read(name, at, size)

    def truncate(self, handle: int, size: int) -> None:
        self._step()
        disk, name = self._place(self._handles[handle])
        disk.truncate(name, size)

    def sync(self, handle: int) -> None:
        self._step()
        path = self._handles[handle]
        disk, name = self._place(path)
        disk.sync(name)

    def sync_all(self, path: str) -> None:
        self._step()
        for disk in self._disks:
            for name in disk.names():
                disk.sync(name)
            disk.sync_folder()

    def lock(self, path: str) -> int:
        return self.open(path, create=True)

    def size(self, path: str) -> int:
        disk, name = self._place(path)
        return disk.size(name)

    def names(self, folder: str) -> list[str]:
        return sorted(name.rstrip("/") for name in self._disk(folder).names())

    def make_folder(self, path: str) -> None:
        self._step()
        disk = self._disks[0]
        for part in filter(None, path.split("/")):
            if f"{part}/" not in disk.names():
                self._disks.append(Disk(self._random))
                disk.write(f"{part}/", 0, (len(self._disks) - 1).to_bytes(4, "big"))
                disk.sync(f"{part}/")
            disk = self._disks[int.from_bytes(disk.read(f"{part}/"), "big")]

    def rename(self, old: str, new: str) -> None:
        self._step()
        (disk, name), (target, new_name) = self._place(old), self._place(new)
        assert disk is target
        suffix = "/" if f"{name}/" in disk.names() else ""
        disk.rename(name + suffix, new_name + suffix)

    def delete(self, path: str) -> None:
        self._step()
        disk, name = self._place(path)
        if name in disk.names():
            disk.delete(name)

    def delete_folder(self, path: str) -> None:
        self._step()
        disk, name = self._place(path)
        if f"{name}/" in disk.names():
            disk.delete(f"{name}/")

    def sync_folder(self, path: str) -> None:
        self._step()
        self._disk(path).sync_folder()

    def free_bytes(self, path: str) -> int:
        return 1 << 40
