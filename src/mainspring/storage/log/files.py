"""The file system as the log uses it: few verbs, each with a plain promise, so that a test can put a bad disk in its place.

A write either happened whole or raised; nothing is durable before `sync`, no name before `sync_folder`.
"""

import ctypes
import errno
import fcntl
import os
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

LOOK_EVERY_BYTES = 64 << 10
"""Half of what Linux reads ahead: what was read in order is in memory, or is not, in pieces that are no smaller."""
_BUFFERS_MAX = 1_024
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


class Files(Protocol):
    """Paths are whole; a handle is what `open` gave. Every method may raise `OSError`."""

    def open(self, path: str, *, create: bool = False) -> int: ...

    def close(self, handle: int) -> None: ...

    def write(self, handle: int, buffers: Sequence[bytes], at: int) -> None:
        """Writes all buffers, one after the other. A part may have been written where this raises."""

    def read(self, handle: int, at: int, size: int) -> bytes: ...

    def is_in_memory(self, handle: int, at: int, size: int) -> bool:
        """Whether a read would not wait for the disk, as far as can be told from a look here and there."""

    def truncate(self, handle: int, size: int) -> None: ...

    def sync(self, handle: int) -> None: ...

    def sync_all(self, path: str) -> None:
        """Makes everything durable in the file system that `path` is in: bytes and names, of all its files."""

    def lock(self, path: str) -> int:
        """A handle that holds the file against other processes until it is closed. Raises `BlockingIOError`."""

    def size(self, path: str) -> int: ...

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted."""

    def make_folder(self, path: str) -> None:
        """Makes a folder, and those above it; no error where it is there."""

    def rename(self, old: str, new: str) -> None: ...

    def delete(self, path: str) -> None:
        """Deletes a file; no error where there is none."""

    def delete_folder(self, path: str) -> None:
        """Deletes a folder and all in it; no error where there is none."""

    def sync_folder(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int: ...


class RealFiles:
    """The machine's own."""

    def open(self, path: str, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def close(self, handle: int) -> None:
        os.close(handle)

    def write(self, handle: int, buffers: Sequence[bytes], at: int) -> None:
        for first in range(0, len(buffers), _BUFFERS_MAX):
            part = buffers[first : first + _BUFFERS_MAX]
            size = sum(map(len, part))
            written = os.pwritev(handle, part, at)
            if written != size:
                _write_rest(handle, part, at, written)
            at += size

    def read(self, handle: int, at: int, size: int) -> bytes:
        return os.pread(handle, size, at)

    def is_in_memory(self, handle: int, at: int, size: int) -> bool:
        byte = bytearray(1)
        try:
            for place in (*range(at, at + size, LOOK_EVERY_BYTES), at + size - 1):
                os.preadv(handle, (byte,), place, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            # A file system that cannot say has its files in memory, as tmpfs, or elsewhere than on a disk of ours.
        return True

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def sync_all(self, path: str) -> None:
        if _syncfs is None:
            raise OSError(errno.ENOSYS, "this system syncs file by file")
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _syncfs(handle):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(handle)

    def lock(self, path: str) -> int:
        handle = self.open(path, create=True)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close(handle)
            raise
        return handle

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(folder))

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def delete(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def delete_folder(self, path: str) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path)

    def sync_folder(self, path: str) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def free_bytes(self, path: str) -> int:
        room = os.statvfs(path)
        return room.f_bavail * room.f_frsize


def _write_rest(handle: int, buffers: Sequence[bytes], at: int, written: int) -> None:
    rest = memoryview(b"".join(buffers))
    while written < len(rest):
        # A write that the disk cut short says why when it is asked to go on.
        written += os.pwrite(handle, rest[written:], at + written)


def read_all(files: Files, path: str) -> bytes:
    """Raises `FileNotFoundError`."""
    size = files.size(path)
    handle = files.open(path)
    try:
        return files.read(handle, 0, size)
    finally:
        files.close(handle)


def write_all(files: Files, path: str, data: bytes, *, sync: bool = True) -> None:
    """Makes or replaces the file in place: for what can be made again, and for new names."""
    handle = files.open(path, create=True)
    try:
        files.truncate(handle, 0)
        files.write(handle, [data], 0)
        if sync:
            files.sync(handle)
    finally:
        files.close(handle)


def replace(files: Files, path: str, data: bytes) -> None:
    """Puts `data` at `path`, durably and whole: after a crash there is the old content or the new."""
    write_all(files, path + ".tmp", data)
    files.rename(path + ".tmp", path)
    files.sync_folder(path.rpartition("/")[0])


class OpenFiles:
    """Handles by path, the least recently used closed above `files_max`. Belongs to one thread."""

    def __init__(self, files: Files, files_max: int) -> None:
        self.files = files
        self._files_max = files_max
        self._handles: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._handles)

    def __contains__(self, path: str) -> bool:
        return path in self._handles

    def handle(self, path: str, *, create: bool = False) -> int:
        handle = self._handles.get(path)
        if handle is not None:
            self._handles.move_to_end(path)
            return handle
        while len(self._handles) >= self._files_max:
            self.files.close(self._handles.popitem(last=False)[1])
        handle = self._handles[path] = self.files.open(path, create=create)
        return handle

    def close(self, path: str) -> None:
        handle = self._handles.pop(path, None)
        if handle is not None:
            self.files.close(handle)

    def close_all(self) -> None:
        while self._handles:
            self.files.close(self._handles.popitem()[1])
