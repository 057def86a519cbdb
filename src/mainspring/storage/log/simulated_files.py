"""The simulator's torn disk under the log's engine: the file system's verbs over `core.simulator.Disk`.

A folder is a file named `.` in it. After a crash make another one over the same disk: what the old engine still does is
refused, as the machine it ran on is gone.
"""

import errno
from collections.abc import Sequence

from mainspring.core.simulator.disk import Disk

FREE_BYTES = 1 << 40


class SimulatedFiles:
    """Stands for one life of the machine, which `end` ends."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._handles: dict[int, str] = {}
        self._next = 1
        self._ended = False

    def end(self) -> None:
        """The power is gone: every call from now on raises."""
        self._ended = True

    def _alive(self) -> Disk:
        if self._ended:
            raise OSError(errno.EIO, "the machine is gone")
        return self._disk

    def open(self, path: str, *, create: bool = False) -> int:
        disk = self._alive()
        if path not in disk.names():
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file on the simulated disk", path)
            disk.write(path, 0, b"")
        self._handles[self._next] = path
        self._next += 1
        return self._next - 1

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def write(self, handle: int, buffers: Sequence[bytes], at: int) -> None:
        self._alive().write(self._handles[handle], at, b"".join(buffers))

    def read(self, handle: int, at: int, size: int) -> bytes:
        return self._alive().read(self._handles[handle], at, size)

    def is_in_memory(self, handle: int, at: int, size: int) -> bool:
        return True

    def truncate(self, handle: int, size: int) -> None:
        disk, path = self._alive(), self._handles[handle]
        if size < disk.size(path):
            disk.truncate(path, size)
        elif size > disk.size(path):
            disk.write(path, disk.size(path), bytes(size - disk.size(path)))

    def sync(self, handle: int) -> None:
        self._alive().sync(self._handles[handle])

    def lock(self, path: str) -> int:
        return self.open(path, create=True)

    def sync_all(self, path: str) -> None:
        disk = self._alive()
        for name in disk.names():
            disk.sync(name)
        disk.sync_folder()

    def size(self, path: str) -> int:
        return self._alive().size(path)

    def names(self, folder: str) -> list[str]:
        prefix = f"{folder}/"
        found = {name[len(prefix) :].partition("/")[0] for name in self._alive().names() if name.startswith(prefix)}
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such folder on the simulated disk", folder)
        return sorted(found - {"."})

    def make_folder(self, path: str) -> None:
        disk = self._alive()
        names = set(disk.names())
        at = ""
        for part in path.strip("/").split("/"):
            at += f"/{part}"
            if f"{at}/." not in names:
                disk.write(f"{at}/.", 0, b"")

    def rename(self, old: str, new: str) -> None:
        disk = self._alive()
        if old in disk.names():
            disk.rename(old, new)
            return
        for name in [one for one in disk.names() if one.startswith(f"{old}/")]:
            disk.rename(name, new + name[len(old) :])

    def delete(self, path: str) -> None:
        disk = self._alive()
        if path in disk.names():
            disk.delete(path)

    def delete_folder(self, path: str) -> None:
        disk = self._alive()
        for name in [one for one in disk.names() if one.startswith(f"{path}/")]:
            disk.delete(name)

    def sync_folder(self, path: str) -> None:
        self._alive().sync_folder()

    def free_bytes(self, path: str) -> int:
        return FREE_BYTES
