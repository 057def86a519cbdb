"""A simulated disk: what was not synced may be lost, kept or torn by a crash, sector by sector.

The model is the weakest that POSIX and real drives allow: after a crash each 512-byte sector holds what it held at the last
`sync` or anything written to it since, independently of its neighbours; a file's length may be the old or the new one;
of the changes of names since `sync_folder` a random number survives, in their order. A single sector is never torn.
"""

import errno
from collections.abc import Callable
from random import Random

SECTOR_BYTES = 512


class _File:
    """`now` is what programs see, `kept` what a crash leaves at least; `dirty` holds each sector's contents since the sync."""

    __slots__ = ("dirty", "kept", "now")

    def __init__(self) -> None:
        self.now = bytearray()
        self.kept = b""
        self.dirty: dict[int, list[bytes]] = {}

    def sector(self, number: int) -> bytes:
        return bytes(self.now[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES])

    def touched(self, begin: int, end: int) -> None:
        for number in range(begin // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            self.dirty.setdefault(number, []).append(self.sector(number))

    def sync(self) -> None:
        self.kept = bytes(self.now)
        self.dirty.clear()

    def crash(self, random: Random) -> None:
        size = random.choice((len(self.kept), len(self.now)))
        after = bytearray(self.kept[:size].ljust(size, b"\0"))
        for number, versions in self.dirty.items():
            begin = number * SECTOR_BYTES
            choice = random.randrange(len(versions) + 1)
            if choice and begin < size:
                data = versions[choice - 1][: size - begin]
                after[begin : begin + len(data)] = data
        self.now = after
        self.sync()


class Disk:
    """Files of one folder. `bytes_max` is the room for all of them; a write beyond it raises `OSError(ENOSPC)`."""

    def __init__(self, random: Random, bytes_max: int | None = None) -> None:
        self.bytes_max = bytes_max
        self.syncs = 0
        self._random = random
        self._names: dict[str, _File] = {}
        self._kept_names: dict[str, _File] = {}
        self._changes: list[Callable[[dict[str, _File]], object]] = []

    def names(self) -> list[str]:
        return list(self._names)

    def size(self, name: str) -> int:
        return len(self._file(name).now)

    def read(self, name: str, at: int = 0, size: int | None = None) -> bytes:
        """Raises `FileNotFoundError`."""
        now = self._file(name).now
        return bytes(now[at : len(now) if size is None else at + size])

    def write(self, name: str, at: int, data: bytes) -> None:
        """Writes at a position, making the file and filling a gap with zeros. On a full disk a part may have been written."""
        file = self._names.get(name)
        if file is None:
            file = _File()
            self._change(lambda names: names.__setitem__(name, file))
        room = self._room()
        grows = max(0, at + len(data) - len(file.now))
        full = room is not None and grows > room
        if full:
            data = data[: self._random.randint(0, max(0, len(data) - grows + (room or 0)))]
        if data:
            begin = min(at, len(file.now))
            file.now.extend(bytes(at - begin))
            file.now[at : at + len(data)] = data
            file.touched(begin, at + len(data))
        if full:
            raise OSError(errno.ENOSPC, "the simulated disk is full", name)

    def append(self, name: str, data: bytes) -> None:
        self.write(name, len(self._names[name].now) if name in self._names else 0, data)

    def truncate(self, name: str, size: int) -> None:
        """Cuts a file off at `size`."""
        file = self._file(name)
        begin = min(size, len(file.now))
        del file.now[begin:]
        file.touched(begin, begin + 1)

    def rename(self, old: str, new: str) -> None:
        """Atomic, as `rename` is; durable after `sync_folder`."""
        self._file(old)
        self._change(lambda names: names.__setitem__(new, names.pop(old)) if old in names else None)

    def delete(self, name: str) -> None:
        self._file(name)
        self._change(lambda names: names.pop(name, None))

    def sync(self, name: str) -> None:
        """Makes a file's bytes durable; its name may still be lost until `sync_folder`."""
        self._file(name).sync()
        self.syncs += 1

    def sync_folder(self) -> None:
        """Makes creations, renames and deletions durable."""
        self._kept_names = dict(self._names)
        self._changes.clear()
        self.syncs += 1

    def crash(self) -> None:
        """Leaves what the power failure left. Called by `Node.crash`."""
        names = self._kept_names
        for change in self._changes[: self._random.randint(0, len(self._changes))]:
            change(names)
        self._names = dict(names)
        self._changes.clear()
        for file in self._names.values():
            file.crash(self._random)

    def _file(self, name: str) -> _File:
        try:
            return self._names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file on the simulated disk", name) from None

    def _change(self, change: Callable[[dict[str, _File]], object]) -> None:
        change(self._names)
        self._changes.append(change)

    def _room(self) -> int | None:
        if self.bytes_max is None:
            return None
        return max(0, self.bytes_max - sum(len(file.now) for file in self._names.values()))
