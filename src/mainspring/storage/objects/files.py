"""What a disk of the store is asked: the verbs of a file system, and the file that says which disk a folder is.

All of them are here, so that a test can stand a failing disk in their stead, and the simulator one that tears.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

IDENTITY = "disk.json"
ZEROS_AT_ONCE = 1 << 20
_PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class Damaged(Exception):
    """The file that should say which disk this is says nothing that can be understood."""


class Space(NamedTuple):
    free_bytes: int
    total_bytes: int


class Files:
    """The machine's file system. Every call raises `OSError`."""

    def names(self, directory: Path) -> list[str]:
        return os.listdir(directory)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def make_folder(self, path: Path) -> None:
        """Makes a folder and those above it, durably."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)

    def create(self, path: Path) -> int:
        """Opens a file that is not there yet for reading and writing; its name is durable."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _sync_folder(path.parent)
        return fd

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY)

    def open_to_change(self, path: Path) -> int:
        return os.open(path, os.O_RDWR)

    def close(self, fd: int) -> None:
        os.close(fd)

    def delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def is_linked(self, fd: int) -> bool:
        """Whether the file still has a name."""
        return os.fstat(fd).st_nlink > 0

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        """Writes all of `buffers` at `offset`."""
        written = os.pwritev(fd, buffers, offset)
        total = sum(map(len, buffers))
        if written < total:
            rest = memoryview(b"".join(buffers))
            while written < total:
                written += os.pwrite(fd, rest[written:], offset + written)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def read_cached(self, fd: int, length: int, offset: int) -> bytes | None:
        """All of it at once where it is in memory; None where the disk would have to be asked, or would have less."""
        buffer = bytearray(length)
        try:
            got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # not in the cache, or a file system that cannot tell
            return None
        return bytes(buffer) if got == length else None

    def punch(self, fd: int, offset: int, length: int) -> None:
        """Gives the blocks of a range back; a file system that cannot gets zeros."""
        if _libc.fallocate(fd, _PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(length)):
            for at in range(0, length, ZEROS_AT_ONCE):
                os.pwrite(fd, bytes(min(ZEROS_AT_ONCE, length - at)), offset + at)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def load(self, path: Path) -> bytes:
        """A small file, whole."""
        return path.read_bytes()

    def store(self, path: Path, data: bytes) -> None:
        """Writes a small file: after a crash it is there whole, or as it was."""
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        _sync_folder(path.parent)

    def space(self, directory: Path) -> Space:
        stat = os.statvfs(directory)
        return Space(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)


class Identity(msgspec.Struct):
    """What `disk.json` says: the store this directory belongs to, and which of its disks it is."""

    store: str
    disk: int


def read_identity(files: Files, directory: Path) -> Identity:
    """Raises `OSError` (`FileNotFoundError` where there is none), or `Damaged`."""
    try:
        return msgspec.json.decode(files.load(directory / IDENTITY), type=Identity)
    except msgspec.MsgspecError as error:
        raise Damaged(str(error)) from None


def write_identity(files: Files, directory: Path, identity: Identity) -> None:
    """Makes `directory` a disk, durably."""
    files.make_folder(directory)
    files.store(directory / IDENTITY, msgspec.json.encode(identity))


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_libc = ctypes.CDLL(None, use_errno=True)
